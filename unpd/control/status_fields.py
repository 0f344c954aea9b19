"""The fields of the answer to ``unpd status``: a row each
(:mod:`unpd.control.answer_fields`). Calls unpd.names for the words that a field may
have.
"""

from unpd.control.answer_fields import SCHEMA, AnswerField
from unpd.control.history_fields import ACTIVE_MAX, EVENTS, HISTORY, TOTALS
from unpd.names import (
    MAX_SEARCHED,
    ChildKind,
    ChildPhase,
    Fault,
    Halt,
    ListenerState,
    LiveChange,
    MasterPhase,
    ReloadResult,
)

_DEGRADED = (
    AnswerField("reason", "text", f"{', '.join(Fault)}; as the metric `unpd_degraded` has it."),
    AnswerField("text", "text", "A sentence that names the part with the fault."),
)
_LAST_RELOAD = (
    AnswerField("result", "text", f"{' or '.join(ReloadResult)}."),
    AnswerField("reason", "text", "Why the reload was refused; empty after a success."),
    AnswerField("ended_at", "text", "When it ended, in UTC, such as 2026-11-22T21:23:10Z."),
    AnswerField("generation", "integer", "The generation that served afterwards."),
)
_LIVE_CHANGES = (
    AnswerField("change", "text", f"{', '.join(LiveChange)}."),
    AnswerField(
        "subject", "text", "The service, or the pool.", "it is about the log of all processes"
    ),
    AnswerField(
        "value",
        "text",
        f"Of a halt {', '.join(Halt)}; else the level of the log, or the number of workers.",
    ),
    AnswerField("configured", "text", "The same as the configuration wants it.", "it is a halt"),
    AnswerField(
        "until",
        "text",
        "When it ends, in UTC, such as 2026-11-22T21:23:10Z.",
        "it lasts until it is taken back",
    ),
)
_RETIRED = (
    AnswerField("generation", "integer", "The number of the generation."),
    AnswerField("children", "integer", "How many of its retired children have not ended."),
    AnswerField(
        "connections",
        "integer",
        "How many connections they still serve, and sessions that dispatchers of it have left.",
    ),
    AnswerField(
        "drain_ends_at",
        "text",
        "When the last of these have to end, in UTC, such as 2026-11-22T21:23:10Z.",
        "they may last",
    ),
)
_QUEUE = (
    AnswerField("length", "integer", "How many connections wait to be accepted."),
    AnswerField(
        "max", "integer", "The greatest length since the start; it is looked at once a second."
    ),
    AnswerField(
        "limit", "integer", "How many may wait: the backlog, as far as net.core.somaxconn lets it."
    ),
)
LISTENERS = (
    AnswerField("address", "text", "The address, with the port that the kernel chose for 0."),
    AnswerField("kind", "text", "tcp, udp, unix or unixgram."),
    AnswerField("state", "text", f"{' or '.join(ListenerState)}: whether clients reach it."),
    AnswerField(
        "drops",
        "integer",
        "How many connections or datagrams the kernel has dropped since the socket was opened,"
        " mostly because its queue was full.",
        "a UNIX socket, which makes its senders wait instead",
    ),
    AnswerField(
        "queue",
        "object",
        "The accept queue.",
        "a UNIX listener, whose queue is not known, or a datagram socket",
        _QUEUE,
    ),
)
_SERVICES = (
    AnswerField("name", "text", "The name of the service."),
    AnswerField("halted", "text", f"How it is halted: {', '.join(Halt)}.", "it takes new clients"),
    AnswerField("accepted", "integer", "How many connections it has accepted."),
    AnswerField("active", "integer", "How many connections are open."),
    AnswerField(
        "peak",
        "integer",
        "How many were open at most in the last minute; they are counted once a second.",
    ),
    ACTIVE_MAX,
    AnswerField("limit", "integer", "How many may be open: max_connections.", "there is no limit"),
    AnswerField(
        "accepted_per_s",
        "number",
        "How many connections it has accepted in a second, over the last five seconds.",
        "the daemon is too young, or has just slept",
    ),
    AnswerField(
        "received_bytes", "integer", "How many bytes came, on connections and in datagrams."
    ),
    AnswerField("received_bytes_per_s", "number", "The same in a second.", "as for accepted_per_s"),
    AnswerField(
        "sent_bytes", "integer", "How many bytes it has sent, on connections and in datagrams."
    ),
    AnswerField("sent_bytes_per_s", "number", "The same in a second.", "as for accepted_per_s"),
    AnswerField("refused", "integer", "How many connections and datagrams it has refused."),
    AnswerField(
        "refused_by_reason",
        "object",
        "How many of them by reason, as in unpd_refused_total; one that is 0 is left out.",
    ),
    AnswerField(
        "would_refuse",
        "integer",
        "How many it has let in, because the reason to refuse them is only observed.",
    ),
    AnswerField("datagrams_received", "integer", "How many datagrams have come."),
    AnswerField(
        "datagrams_per_s", "number", "How many of them in a second.", "as for accepted_per_s"
    ),
    AnswerField("datagrams_sent", "integer", "How many of them were answered."),
    AnswerField("listeners", "list", "Its listeners.", fields=LISTENERS),
)
_LAST_END = (
    AnswerField("ended", "text", "How it ended."),
    AnswerField("pid", "integer", "Its process."),
    AnswerField("at", "text", "When it was reaped, in UTC, such as 2026-11-22T21:23:10Z."),
)
CHILDREN = (
    AnswerField("kind", "text", f"{' or '.join(ChildKind)}."),
    AnswerField("pool", "text", "The name of its pool."),
    AnswerField("index", "integer", "Its place in the pool, from 0."),
    AnswerField(
        "service",
        "text",
        "The service that it alone serves.",
        "every child of this kind in the pool serves the same",
    ),
    AnswerField("phase", "text", f"{', '.join(ChildPhase)}; one that is reaped is not listed."),
    AnswerField("generation", "integer", "The generation to which it belongs."),
    AnswerField("birth", "integer", "The serial number of its start."),
    AnswerField("pid", "integer", "The process.", "it has just been reaped"),
    AnswerField("age_s", "number", "How long it has lived, in seconds."),
    AnswerField(
        "connections",
        "integer",
        "How many connections it serves now.",
        "it is the exporter",
    ),
    AnswerField(
        "accepted",
        "integer",
        "How many connections it has accepted.",
        "it is the exporter",
    ),
    AnswerField(
        "cpu_percent",
        "number",
        "How much of one processor it has used in the last seconds.",
        "it is too young",
    ),
    AnswerField(
        "cpu_s",
        "number",
        "The processor time that it has used, in seconds, without that of its own children.",
        "it is too young, or /proc hides it",
    ),
    AnswerField(
        "memory_bytes",
        "integer",
        "Its memory in RAM, pages that it shares with the main process included.",
        "as for cpu_s",
    ),
    AnswerField(
        "heartbeat_age_s",
        "number",
        "How long ago its last sign of life was, in seconds.",
        "it has given none yet",
    ),
    AnswerField(
        "last_end", "object", "How the last child of this slot ended.", "none has", _LAST_END
    ),
)
_SLOT = ("kind", "pool", "index", "service", "last_end")
_NOT_ASKED = "the history was not asked for"
STATUS = (
    AnswerField("schema", "integer", f"The number of this list of fields: {SCHEMA}."),
    AnswerField("version", "text", "The version of unpd."),
    AnswerField("pid", "integer", "The main process."),
    AnswerField(
        "config",
        "text",
        "The path of the configuration file.",
        "the built-in default configuration",
    ),
    AnswerField(
        "metrics", "text", "The address at which the exporter listens.", "the exporter is off"
    ),
    AnswerField(
        "phase",
        "text",
        f"What the main process does: {', '.join(MasterPhase)}; {MasterPhase.RUNNING} means none"
        " of the others.",
    ),
    AnswerField(
        "ready",
        "boolean",
        "Whether every service has a ready worker and a listener that clients reach, and the"
        " daemon was not asked to stop.",
    ),
    AnswerField(
        "heartbeat_age_s",
        "number",
        "How long ago the last sign of life of the main process was, in seconds.",
        "none came yet",
    ),
    AnswerField("degraded", "list", "The faults that stand now.", fields=_DEGRADED),
    AnswerField("generation", "integer", "The generation that serves; it goes up at each reload."),
    AnswerField("uptime_s", "number", "The time since the start, in seconds."),
    AnswerField(
        "last_reload",
        "object",
        "The last reload that has ended.",
        "there was none since the start",
        _LAST_RELOAD,
    ),
    AnswerField(
        "stop_ends_at",
        "text",
        "When a stop under way has no more time for connections, in UTC, such as"
        " 2026-11-22T21:23:10Z; of a daemon that is lame, when the stop after that has none.",
        "the daemon does not stop",
    ),
    AnswerField(
        "retired",
        "list",
        "The generations of which retired children, or their sessions, have not ended. After"
        " SIGTTOU, or where a pool shrank, one of them may be a generation that serves.",
        fields=_RETIRED,
    ),
    AnswerField(
        "live_changes",
        "list",
        "The changes of the running daemon that are not saved: a restart ends them.",
        fields=_LIVE_CHANGES,
    ),
    AnswerField(
        "zombies",
        "integer",
        "Children that are dead and not reaped.",
        f"/proc hides them, or more than {MAX_SEARCHED:,} processes would have to be looked at",
    ),
    AnswerField("denials", "integer", "Networks and addresses that are denied now."),
    AnswerField("log_lines_dropped", "integer", "Log lines that were lost."),
    AnswerField("services", "list", "The services.", fields=_SERVICES),
    AnswerField(
        "children", "list", "The processes that the main process started.", fields=CHILDREN
    ),
    AnswerField(
        "missing",
        "list",
        "The slots that want a child and have none; empty while the daemon stops.",
        fields=tuple(field for field in CHILDREN if field.name in _SLOT),
    ),
    AnswerField("totals", "object", "The figures of all services together.", _NOT_ASKED, TOTALS),
    AnswerField("history", "object", "The last ten minutes.", _NOT_ASKED, HISTORY),
    AnswerField(
        "events",
        "list",
        "The last events that are warnings or errors, or change what the daemon does: at most 20,"
        " the newest first.",
        _NOT_ASKED,
        EVENTS,
    ),
)
