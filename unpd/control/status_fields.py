"""The fields of the answers to the verbs that have some, one row each: name, type,
meaning.

Read by the command line, which checks an answer against it before it reads one, by
``make manual``, and by a test that compares the master's answer with it. Calls
unpd.names for the words that a field may have.

Within one number of the schema, fields may be added, and none goes away or changes its
meaning.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unpd.names import (
    ChildKind,
    ChildPhase,
    EndCause,
    Fault,
    Halt,
    ListenerState,
    LiveChange,
    MasterPhase,
    PoolOutcome,
    ReloadResult,
)

SCHEMA = 1

TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "text": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "object": (dict,),
        "list": (list,),
    }
)
"""The types of fields, and those of Python that JSON gives for each."""

LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class StatusField:
    """One row. ``fields``: those of an object, or of each object in a list.
    ``absent``: what null means, "" if the field is never null.
    """

    name: str
    type: str
    meaning: str
    absent: str = ""
    fields: tuple["StatusField", ...] = ()


_DEGRADED = (
    StatusField("reason", "text", f"{', '.join(Fault)}; as the metric `unpd_degraded` has it."),
    StatusField("text", "text", "A sentence that names the part with the fault."),
)
_LAST_RELOAD = (
    StatusField("result", "text", f"{' or '.join(ReloadResult)}."),
    StatusField("reason", "text", "Why the reload was refused; empty after a success."),
    StatusField("ended_at", "text", "When it ended, in UTC, such as 2026-11-22T21:23:10Z."),
    StatusField("generation", "integer", "The generation that served afterwards."),
)
_LIVE_CHANGES = (
    StatusField("change", "text", f"{', '.join(LiveChange)}."),
    StatusField(
        "subject", "text", "The service, or the pool.", "it is about the log of all processes"
    ),
    StatusField(
        "value",
        "text",
        f"Of a halt {', '.join(Halt)}; else the level of the log, or the number of workers.",
    ),
    StatusField(
        "until",
        "text",
        "When it ends, in UTC, such as 2026-11-22T21:23:10Z.",
        "it lasts until it is taken back",
    ),
)
_RETIRED = (
    StatusField("generation", "integer", "The number of the generation."),
    StatusField("children", "integer", "How many of its retired children have not ended."),
    StatusField("connections", "integer", "How many connections they still serve."),
)
_QUEUE = (
    StatusField("length", "integer", "How many connections wait to be accepted."),
    StatusField(
        "max", "integer", "The greatest length since the start; it is looked at once a second."
    ),
    StatusField(
        "limit", "integer", "How many may wait: the backlog, as far as net.core.somaxconn lets it."
    ),
)
LISTENERS = (
    StatusField("address", "text", "The address, with the port that the kernel chose for 0."),
    StatusField("kind", "text", "tcp, udp, unix or unixgram."),
    StatusField("state", "text", f"{' or '.join(ListenerState)}: whether clients reach it."),
    StatusField(
        "drops",
        "integer",
        "How many connections or datagrams the kernel has dropped since the socket was opened,"
        " mostly because its queue was full.",
        "a UNIX socket, which makes its senders wait instead",
    ),
    StatusField(
        "queue",
        "object",
        "The accept queue.",
        "a UNIX listener, whose queue is not known, or a datagram socket",
        _QUEUE,
    ),
)
_SERVICES = (
    StatusField("name", "text", "The name of the service."),
    StatusField("halted", "text", f"How it is halted: {', '.join(Halt)}.", "it takes new clients"),
    StatusField("accepted", "integer", "How many connections it has accepted."),
    StatusField("active", "integer", "How many connections are open."),
    StatusField(
        "peak",
        "integer",
        "How many were open at most in the last minute; they are counted once a second.",
    ),
    StatusField("limit", "integer", "How many may be open: max_connections.", "there is no limit"),
    StatusField(
        "accepted_per_s",
        "number",
        "How many connections it has accepted in a second, over the last seconds.",
        "the daemon, or the service, is too young",
    ),
    StatusField("received_bytes", "integer", "How many bytes came on its connections."),
    StatusField("received_bytes_per_s", "number", "The same in a second.", "as for accepted_per_s"),
    StatusField("sent_bytes", "integer", "How many bytes it has sent on its connections."),
    StatusField("sent_bytes_per_s", "number", "The same in a second.", "as for accepted_per_s"),
    StatusField("refused", "integer", "How many connections and datagrams it has refused."),
    StatusField(
        "would_refuse",
        "integer",
        "How many it has let in, because the reason to refuse them is only observed.",
    ),
    StatusField("datagrams_received", "integer", "How many datagrams have come."),
    StatusField(
        "datagrams_per_s", "number", "How many of them in a second.", "as for accepted_per_s"
    ),
    StatusField("datagrams_sent", "integer", "How many of them were answered."),
    StatusField("listeners", "list", "Its listeners.", fields=LISTENERS),
)
CHILDREN = (
    StatusField("kind", "text", f"{' or '.join(ChildKind)}."),
    StatusField("pool", "text", "The name of its pool."),
    StatusField("index", "integer", "Its place in the pool, from 0."),
    StatusField(
        "service",
        "text",
        "The service that it alone serves.",
        "every child of this kind in the pool serves the same",
    ),
    StatusField("phase", "text", f"{', '.join(ChildPhase)}; one that is reaped is not listed."),
    StatusField("generation", "integer", "The generation to which it belongs."),
    StatusField("birth", "integer", "The serial number of its start."),
    StatusField("pid", "integer", "The process.", "it has just been reaped"),
    StatusField("age_s", "number", "How long it has lived, in seconds."),
    StatusField(
        "connections",
        "integer",
        "How many connections it serves now.",
        "it is the exporter",
    ),
    StatusField(
        "accepted",
        "integer",
        "How many connections it has accepted.",
        "it is the exporter",
    ),
    StatusField(
        "cpu_percent",
        "number",
        "How much of one processor it has used in the last seconds.",
        "it is too young",
    ),
    StatusField(
        "cpu_s",
        "number",
        "The processor time that it has used, in seconds, without that of its own children.",
        "it is too young, or /proc hides it",
    ),
    StatusField(
        "memory_bytes",
        "integer",
        "Its memory in RAM, pages that it shares with the main process included.",
        "as for cpu_s",
    ),
    StatusField(
        "heartbeat_age_s",
        "number",
        "How long ago its last sign of life was, in seconds.",
        "it has given none yet",
    ),
)
STATUS = (
    StatusField("schema", "integer", f"The number of this list of fields: {SCHEMA}."),
    StatusField("version", "text", "The version of unpd."),
    StatusField("pid", "integer", "The main process."),
    StatusField(
        "config",
        "text",
        "The path of the configuration file.",
        "the built-in default configuration",
    ),
    StatusField(
        "metrics", "text", "The address at which the exporter listens.", "the exporter is off"
    ),
    StatusField(
        "phase",
        "text",
        f"What the main process does: {', '.join(MasterPhase)}; {MasterPhase.RUNNING} means none"
        " of the others.",
    ),
    StatusField(
        "ready",
        "boolean",
        "Whether every service has a ready worker and a listener that clients reach.",
    ),
    StatusField("degraded", "list", "The faults that stand now.", fields=_DEGRADED),
    StatusField("generation", "integer", "The generation that serves; it goes up at each reload."),
    StatusField("uptime_s", "number", "The time since the start, in seconds."),
    StatusField(
        "last_reload",
        "object",
        "The last reload that has ended.",
        "there was none since the start",
        _LAST_RELOAD,
    ),
    StatusField(
        "retired",
        "list",
        "The generations of which retired children have not ended. After SIGTTOU, or where a pool"
        " shrank, one of them may be a generation that serves.",
        fields=_RETIRED,
    ),
    StatusField(
        "live_changes",
        "list",
        "The changes of the running daemon that are in no file: a restart ends them.",
        fields=_LIVE_CHANGES,
    ),
    StatusField("services", "list", "The services.", fields=_SERVICES),
    StatusField(
        "children", "list", "The processes that the main process started.", fields=CHILDREN
    ),
)


_POOLS = (
    StatusField("kind", "text", f"{' or '.join(ChildKind)}."),
    StatusField("pool", "text", "The name of the pool."),
    StatusField("outcome", "text", f"{', '.join(PoolOutcome)}."),
    StatusField("children", "integer", "How many processes of this kind it wants now."),
    StatusField("generation", "integer", "The generation of the pool."),
)
CHANGES = (
    StatusField("pools", "list", "The pools of the old and of the new file.", fields=_POOLS),
    StatusField("services_added", "list", "The names of the services that were added."),
    StatusField("services_removed", "list", "The names of those that were removed."),
    StatusField("listeners_opened", "list", "The addresses that were opened."),
    StatusField("listeners_closed", "list", "The addresses that were closed."),
)
"""The fields of ``changes`` in the answer to ``reload``."""

DENIAL = (
    StatusField("network", "text", "The network, or the address."),
    StatusField("since", "text", "When it was denied, in UTC, such as 2026-11-22T21:23:10Z."),
    StatusField("until", "text", "When the denial ends.", "when it is taken back"),
    StatusField("reason", "text", "The reason; may be empty."),
    StatusField("uid", "integer", "The number of the user that denied it.", "a sensor did"),
    StatusField("service", "text", "The sensor that denied it.", "a user did"),
)
"""The fields of one denial."""
DENY = (
    StatusField("denial", "object", "The denial.", fields=DENIAL),
    StatusField("replaced", "boolean", "Whether the network was denied before."),
    StatusField("kicked", "integer", "How many connections have ended.", "that was not asked for"),
    StatusField("silent", "integer", "How many processes have not answered."),
)
"""The fields of the answer to ``deny``."""
UNDENY = (StatusField("denial", "object", "The denial as it was.", fields=DENIAL),)
"""The fields of the answer to ``undeny``."""
DENIED = (
    StatusField("denials", "list", "The denials, by network.", fields=DENIAL),
    StatusField("next", "text", "After which network the next page begins.", "this is the last"),
)
"""The fields of the answer to ``denied``."""

_CHECK = (
    StatusField("reason", "text", "The rule or limit, as the metric `unpd_refused_total` has it."),
    StatusField(
        "known",
        "boolean",
        "Whether it can be known what it says; false for what only a daemon can tell.",
    ),
    StatusField("refuses", "boolean", "Whether it refuses the client."),
    StatusField("observed", "boolean", "Whether it is only observed."),
    StatusField("waits", "boolean", "Whether the client would wait in the accept queue."),
    StatusField(
        "value", "number", "What is compared with the limit.", "nothing is, or it is not known"
    ),
    StatusField("limit", "number", "The limit.", "nothing is compared"),
    StatusField("rule", "text", "The entry or the key that refuses.", "none does"),
    StatusField("file", "text", "The file in which it stands.", "that is not known"),
    StatusField("line", "integer", "Its line there.", "that is not known"),
    StatusField("frees_in_s", "number", "In how many seconds it frees.", "that is not known"),
)
EXPLAINED = (
    StatusField("service", "text", "The service."),
    StatusField("peer", "text", "The client."),
    StatusField("outcome", "text", "admitted, refused or waits."),
    StatusField(
        "about",
        "text",
        "connections, or datagrams where the service has no connections. With both, it is"
        " connections, not datagrams: these have rates of their own, and are never open.",
    ),
    StatusField(
        "rules_of",
        "text",
        "The configuration file by whose rules alone this holds.",
        "a daemon answered",
    ),
    StatusField(
        "waits_for",
        "text",
        "Why the client would wait though no limit keeps it waiting.",
        "nothing else keeps it waiting",
    ),
    StatusField(
        "proxy",
        "text",
        "The entry of proxy_protocol by which the client is a load balancer: the answer holds for"
        " connections of its own.",
        "it is none",
    ),
    StatusField(
        "denial", "object", "The live denial that holds for the client.", "none does", DENIAL
    ),
    StatusField("checks", "list", "What each rule and limit says, in their order.", fields=_CHECK),
)
"""The fields of the answer to ``explain``."""


CONNECTION = (
    StatusField("service", "text", "The service."),
    StatusField("peer", "text", "The client, or the load balancer of which a header is awaited."),
    StatusField("local", "text", "Our address, or unknown."),
    StatusField("age_s", "number", "How long it is open, in seconds."),
    StatusField("received", "integer", "Bytes received; 0 of a program."),
    StatusField("sent", "integer", "Bytes sent; 0 of a program."),
    StatusField(
        "state",
        "text",
        "serving; arriving: a header is awaited; connecting: a target is looked for; unforked: its"
        " process is not there yet; half_closed: one side has sent its FIN; parting: we end it;"
        " lingering: our FIN is sent; cut_off: one side of a redirect broke.",
    ),
    StatusField(
        "rtt_s",
        "number",
        "The smoothed round-trip time, in seconds (TCP_INFO).",
        "the client is not on TCP, or served by a process of its own",
    ),
    StatusField(
        "retransmits",
        "integer",
        "How many segments were sent to it again.",
        "the round-trip time is not known either",
    ),
    StatusField("target", "text", "The target; empty while there is none.", "it is no redirect"),
    StatusField("pid", "integer", "The process that serves it; 0 before that is forked."),
    StatusField("kind", "text", f"The kind of the child that has it: {', '.join(ChildKind)}."),
    StatusField("pool", "text", "The pool of that child."),
    StatusField("index", "integer", "Its place in the pool."),
    StatusField("birth", "integer", "The serial number of its start."),
)
"""The fields of one connection."""
CONNECTIONS = (
    StatusField("connections", "list", "The connections.", fields=CONNECTION),
    StatusField("next", "text", "The place where the next page begins.", "this is the last"),
    StatusField("silent", "text", "A child that has not answered.", "all of this page did"),
)
"""The fields of the answer to ``connections``."""


ENDED = (
    StatusField("service", "text", "The service."),
    StatusField("peer", "text", "The client."),
    StatusField("cause", "text", f"{', '.join(EndCause)}; the section METRICS explains each."),
    StatusField("ended_at", "text", "When it ended, in UTC, such as 2026-11-22T21:23:10.123Z."),
    StatusField("duration_s", "number", "How long it was open, in seconds."),
    StatusField("received", "integer", "Bytes received; 0 of a program."),
    StatusField("sent", "integer", "Bytes sent; 0 of a program."),
    StatusField(
        "rtt_s",
        "number",
        "The smoothed round-trip time at its end, in seconds (TCP_INFO).",
        "the client was not on TCP, or served by a program, or was not asked for because many"
        " short connections ended at that moment",
    ),
    StatusField(
        "retransmits",
        "integer",
        "How many segments were sent to it again.",
        "the round-trip time is not known either",
    ),
)
"""The fields of one connection that has ended."""
ENDED_PAGE = (
    StatusField("ended", "list", "The connections, the latest first.", fields=ENDED),
    StatusField("next", "text", "The place where the next page begins.", "this is the last"),
)
"""The fields of the answer to ``connections`` about those that have ended."""


KICK = (
    StatusField("kicked", "integer", "How many connections have ended, or would end."),
    StatusField("silent", "integer", "How many processes have not answered."),
)
"""The fields of the answer to ``kick``."""


def paths(
    fields: tuple[StatusField, ...] = STATUS, before: str = ""
) -> Iterator[tuple[str, StatusField]]:
    """Yield each field with its path, such as ``services[].name``."""
    for field in fields:
        path = f"{before}{field.name}"
        yield path, field
        yield from paths(field.fields, f"{path}[]." if field.type == "list" else f"{path}.")


def mismatch(answer: object, fields: tuple[StatusField, ...] = STATUS) -> str:
    """Return the path of the first field that is not as in the table, "" if every field
    is. The items of a list without fields are not looked at.
    """
    return _mismatch(answer, fields, "")


def _mismatch(values: object, fields: tuple[StatusField, ...], before: str) -> str:
    if not isinstance(values, dict):
        return before.rstrip(".") or "status"
    for field in fields:
        path, value = f"{before}{field.name}", values.get(field.name)
        if value is None and field.absent and field.name in values:
            continue
        if not _fits(value, field):
            return path
        parts = value if isinstance(value, list) else [value]
        parts = parts if field.fields else []
        below = f"{path}[]." if field.type == "list" else f"{path}."
        wrong = next(filter(None, (_mismatch(part, field.fields, below) for part in parts)), "")
        if wrong:
            return wrong
    return ""


def _fits(value: object, field: StatusField) -> bool:
    """Whether a value is of the field's type: a number is none that arithmetic or a
    format could refuse.
    """
    if type(value) not in TYPES[field.type] or (field.name == "schema" and value != SCHEMA):
        return False
    return not isinstance(value, int | float) or -LARGEST < value < LARGEST
