"""The fields of the answers about clients: denials, explanations and connections; a row
each (:mod:`unpd.control.answer_fields`). Calls unpd.names for the words that a field
may have.
"""

from unpd.control.answer_fields import AnswerField
from unpd.names import (
    ChildKind,
    EndCause,
)

DENIAL = (
    AnswerField("network", "text", "The network, or the address."),
    AnswerField("since", "text", "When it was denied, in UTC, such as 2026-11-22T21:23:10Z."),
    AnswerField("until", "text", "When the denial ends.", "when it is taken back"),
    AnswerField("reason", "text", "The reason; may be empty."),
    AnswerField("uid", "integer", "The number of the user that denied it.", "a sensor did"),
    AnswerField("service", "text", "The sensor that denied it.", "a user did"),
)
"""The fields of one denial."""
DENY = (
    AnswerField("denial", "object", "The denial.", fields=DENIAL),
    AnswerField("replaced", "boolean", "Whether the network was denied before."),
    AnswerField("kicked", "integer", "How many connections have ended.", "that was not asked for"),
    AnswerField("silent", "integer", "How many processes have not answered."),
)
"""The fields of the answer to ``deny``."""
UNDENY = (AnswerField("denial", "object", "The denial as it was.", fields=DENIAL),)
"""The fields of the answer to ``undeny``."""
DENIED = (
    AnswerField("denials", "list", "The denials, by network.", fields=DENIAL),
    AnswerField("next", "text", "After which network the next page begins.", "this is the last"),
)
"""The fields of the answer to ``denied``."""

_CHECK = (
    AnswerField("reason", "text", "The rule or limit, as the metric `unpd_refused_total` has it."),
    AnswerField(
        "resource",
        "text",
        "Whose limit in max_pressure it is: each resource has a check of its own.",
        "it is not max_pressure",
    ),
    AnswerField(
        "known",
        "boolean",
        "Whether it can be known what it says; false for what only a daemon can tell.",
    ),
    AnswerField("refuses", "boolean", "Whether it refuses the client."),
    AnswerField("observed", "boolean", "Whether it is only observed."),
    AnswerField("waits", "boolean", "Whether the client would wait in the accept queue."),
    AnswerField(
        "value", "number", "What is compared with the limit.", "nothing is, or it is not known"
    ),
    AnswerField("limit", "number", "The limit.", "nothing is compared"),
    AnswerField("rule", "text", "The entry or the key that refuses.", "none does"),
    AnswerField("file", "text", "The file in which it stands.", "that is not known"),
    AnswerField("line", "integer", "Its line there.", "that is not known"),
    AnswerField("frees_in_s", "number", "In how many seconds it frees.", "that is not known"),
)
EXPLAINED = (
    AnswerField("service", "text", "The service."),
    AnswerField("peer", "text", "The client."),
    AnswerField("outcome", "text", "admitted, refused or waits."),
    AnswerField(
        "about",
        "text",
        "connections, or datagrams where the service has no connections. With both, it is"
        " connections, not datagrams: these have rates of their own, and are never open.",
    ),
    AnswerField(
        "rules_of",
        "text",
        "The configuration file by whose rules alone this holds.",
        "a daemon answered",
    ),
    AnswerField(
        "waits_for",
        "text",
        "Why the client would wait though no limit keeps it waiting.",
        "nothing else keeps it waiting",
    ),
    AnswerField(
        "proxy",
        "text",
        "The entry of proxy_protocol by which the client is a load balancer: the answer holds for"
        " connections of its own.",
        "it is none",
    ),
    AnswerField(
        "denial", "object", "The live denial that holds for the client.", "none does", DENIAL
    ),
    AnswerField("checks", "list", "What each rule and limit says, in their order.", fields=_CHECK),
)
"""The fields of the answer to ``explain``."""


CONNECTION = (
    AnswerField("service", "text", "The service."),
    AnswerField(
        "peer",
        "text",
        "The client, or the load balancer of which a header is awaited; none where a program has a"
        " whole socket.",
    ),
    AnswerField("local", "text", "Our address, or unknown."),
    AnswerField("age_s", "number", "How long it is open, in seconds."),
    AnswerField("received", "integer", "Bytes received; 0 of a program."),
    AnswerField("sent", "integer", "Bytes sent; 0 of a program."),
    AnswerField(
        "state",
        "text",
        "serving; arriving: a header is awaited; connecting: a target is looked for; unforked: its"
        " process is not there yet; half_closed: one side has sent its FIN; parting: we end it;"
        " lingering: our FIN is sent; cut_off: one side of a redirect broke.",
    ),
    AnswerField(
        "rtt_s",
        "number",
        "The smoothed round-trip time, in seconds (TCP_INFO).",
        "the client is not on TCP, or served by a process of its own",
    ),
    AnswerField(
        "retransmits",
        "integer",
        "How many segments were sent to it again.",
        "the round-trip time is not known either",
    ),
    AnswerField("target", "text", "The target; empty while there is none.", "it is no redirect"),
    AnswerField("pid", "integer", "The process that serves it; 0 before that is forked."),
    AnswerField("kind", "text", f"The kind of the child that has it: {', '.join(ChildKind)}."),
    AnswerField("pool", "text", "The pool of that child."),
    AnswerField("index", "integer", "Its place in the pool."),
    AnswerField("birth", "integer", "The serial number of its start."),
)
"""The fields of one connection."""
CONNECTIONS = (
    AnswerField("connections", "list", "The connections.", fields=CONNECTION),
    AnswerField("next", "text", "The place where the next page begins.", "this is the last"),
    AnswerField("silent", "text", "A child that has not answered.", "all of this page did"),
)
"""The fields of the answer to ``connections``."""


ENDED = (
    AnswerField("service", "text", "The service."),
    AnswerField(
        "peer",
        "text",
        "The client; unknown where a worker died with it, and none where a program had a whole"
        " socket.",
    ),
    AnswerField(
        "connections",
        "integer",
        "How many connections ended: 1, or all those of a service that a worker died with.",
    ),
    AnswerField("cause", "text", f"{', '.join(EndCause)}; the section METRICS explains each."),
    AnswerField("ended_at", "text", "When it ended, in UTC, such as 2026-11-22T21:23:10.123Z."),
    AnswerField(
        "duration_s", "number", "How long it was open, in seconds.", "a worker died with it"
    ),
    AnswerField("received", "integer", "Bytes received; 0 of a program or a dead worker."),
    AnswerField("sent", "integer", "Bytes sent; 0 of a program or a dead worker."),
    AnswerField(
        "rtt_s",
        "number",
        "The smoothed round-trip time at its end, in seconds (TCP_INFO).",
        "the client was not on TCP, or served by a program, or was not asked for because many"
        " short connections ended at that moment",
    ),
    AnswerField(
        "retransmits",
        "integer",
        "How many segments were sent to it again.",
        "the round-trip time is not known either",
    ),
)
"""The fields of one connection that has ended."""
ENDED_PAGE = (
    AnswerField("ended", "list", "The connections, the latest first.", fields=ENDED),
    AnswerField("next", "text", "The place where the next page begins.", "this is the last"),
)
"""The fields of the answer to ``connections`` about those that have ended."""


KICK = (
    AnswerField("kicked", "integer", "How many connections have ended, or would end."),
    AnswerField("silent", "integer", "How many processes have not answered."),
)
"""The fields of the answer to ``kick``."""
