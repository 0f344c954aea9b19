"""The fields of /status.json, which the exporter serves beside the status page: one row
each, as in :mod:`unpd.control.answer_fields`, which says what may change.

Read by ``make manual``, and by a test that compares the exporter's answer with it.
"""

from unpd.control.answer_fields import AnswerField
from unpd.names import ChildKind, ChildPhase, Fault, MasterPhase, ReloadResult

_UNMEASURED = "the history has no two samples without a gap"
_RATES = (
    AnswerField("accepted_per_s", "number", "New connections a second.", _UNMEASURED),
    AnswerField("datagrams_per_s", "number", "Datagrams received a second.", _UNMEASURED),
    AnswerField(
        "received_per_s", "number", "Bytes received a second, in datagrams too.", _UNMEASURED
    ),
    AnswerField("sent_per_s", "number", "Bytes sent a second, in datagrams too.", _UNMEASURED),
    AnswerField("refused_per_s", "number", "Refusals a second.", _UNMEASURED),
)
_DEGRADED = (
    AnswerField("reason", "text", f"{', '.join(Fault)}."),
    AnswerField("text", "text", "A sentence that names the part with the fault."),
)
_LAST_RELOAD = (
    AnswerField("result", "text", f"{' or '.join(ReloadResult)}."),
    AnswerField("reason", "text", "Why the reload was refused; empty after a success."),
    AnswerField("ended_at", "text", "When it ended, in UTC."),
    AnswerField("generation", "integer", "The generation that served afterwards."),
)
_TOTALS = (
    AnswerField("open", "integer", "Connections open now."),
    AnswerField("open_highest", "integer", "The most open at a sample of the history."),
    AnswerField("queued", "integer", "Connections in accept queues at the last sample."),
    AnswerField("queued_highest", "integer", "The most there at a sample of the history."),
    AnswerField("accepted", "integer", "Connections accepted."),
    AnswerField("refused", "integer", "Connections and datagrams refused."),
    *_RATES,
    AnswerField("rtt_s", "number", "The mean round-trip time of late.", "none was measured"),
    AnswerField("lag_s", "number", "The mean lag of loops of late.", "none was measured"),
)
_QUEUE = (
    AnswerField("length", "integer", "How many connections wait to be accepted."),
    AnswerField("limit", "integer", "How many may wait."),
)
_LISTENERS = (
    AnswerField("address", "text", "The address."),
    AnswerField("queue", "object", "The accept queue.", "it has none that is known", _QUEUE),
)
_SERVICES = (
    AnswerField("name", "text", "The name of the service."),
    AnswerField("reachable", "boolean", "Whether clients reach a listener of it."),
    *_TOTALS[:2],
    AnswerField("open_limit", "integer", "Its max_connections.", "there is no limit"),
    *_TOTALS[2:4],
    AnswerField(
        "queued_limit",
        "integer",
        "The limits of its accept queues together.",
        "no queue of it is known",
    ),
    *_TOTALS[4:6],
    AnswerField("would_refuse", "integer", "How many were let in though a rule refuses them."),
    AnswerField("datagrams", "integer", "Datagrams received."),
    *_RATES,
    AnswerField("listeners", "list", "Its listeners.", fields=_LISTENERS),
)
_LAST_END = (
    AnswerField("ended", "text", "How it ended."),
    AnswerField("pid", "integer", "Its process."),
    AnswerField("at", "text", "When it was reaped, in UTC."),
)
_MISSING = "the slot has no child"
_CHILDREN = (
    AnswerField("kind", "text", f"{', '.join(ChildKind)}."),
    AnswerField("pool", "text", "The name of its pool."),
    AnswerField("index", "integer", "Its place in the pool, from 0."),
    AnswerField("service", "text", "The service that it alone serves.", "it serves all of them"),
    AnswerField(
        "phase", "text", f"{', '.join(ChildPhase)}; missing: a child is wanted and not there."
    ),
    AnswerField("generation", "integer", "The generation to which it belongs.", _MISSING),
    AnswerField("birth", "integer", "The serial number of its start.", _MISSING),
    AnswerField("pid", "integer", "The process.", "there is none, or only its sessions are left"),
    AnswerField("age_s", "number", "How long it has lived, in seconds.", _MISSING),
    AnswerField("heartbeat_age_s", "number", "The age of its last sign of life.", "none came yet"),
    AnswerField("open", "integer", "Its open connections."),
    AnswerField(
        "last_end",
        "object",
        "How the last child of this slot ended.",
        "none of the events has one",
        _LAST_END,
    ),
)
_EVENTS = (
    AnswerField("number", "integer", "Its number; goes up."),
    AnswerField("at", "text", "When it happened, in UTC."),
    AnswerField("event", "text", "Its name in the log."),
    AnswerField("text", "text", "A sentence."),
    AnswerField("fields", "object", "Its fields in the log."),
)
_HISTORY = (
    AnswerField("now_s", "number", "The time of the answer on the clock since boot, in seconds."),
    AnswerField("at_s", "list", "The times of the samples on that clock, the oldest first."),
    AnswerField("open", "list", "Open connections at each."),
    AnswerField("queued", "list", "Connections in accept queues at each."),
    *(
        AnswerField(field.name, "list", f"{field.meaning[:-1]}, before each; null behind a gap.")
        for field in _RATES
    ),
    AnswerField("rtt_s", "list", "The mean round-trip time before each; null: none came."),
    AnswerField("lag_s", "list", "The mean lag of loops before each; null: none came."),
)
PAGE = (
    AnswerField("schema", "integer", "The number of this list of fields: 1."),
    AnswerField("version", "text", "The version of unpd."),
    AnswerField("time", "text", "When the answer was made, in UTC."),
    AnswerField("pid", "integer", "The main process."),
    AnswerField("config", "text", "The path of the configuration file.", "the built-in one"),
    AnswerField("phase", "text", f"What the main process does: {', '.join(MasterPhase)}."),
    AnswerField(
        "answering", "boolean", "Whether the last sign of life of the main process is young."
    ),
    AnswerField("heartbeat_age_s", "number", "The age of that sign.", "none came yet"),
    AnswerField("not_ready", "text", "Why the daemon is not ready; empty if it is."),
    AnswerField("faults", "integer", "How many faults stand now."),
    AnswerField("degraded", "list", "The first of these faults.", fields=_DEGRADED),
    AnswerField("generation", "integer", "The generation that serves."),
    AnswerField("uptime_s", "number", "The time since the start, in seconds."),
    AnswerField("last_reload", "object", "The last reload.", "there was none", _LAST_RELOAD),
    AnswerField("zombies", "integer", "Children that are dead and not reaped.", "/proc hides them"),
    AnswerField("denials", "integer", "Networks and addresses that are denied now."),
    AnswerField("log_lines_dropped", "integer", "Log lines that were lost."),
    AnswerField("totals", "object", "The figures of all services together.", fields=_TOTALS),
    AnswerField("services", "list", "The services.", fields=_SERVICES),
    AnswerField(
        "children",
        "list",
        "The processes that the main process started, and the slots that lack one.",
        fields=_CHILDREN,
    ),
    AnswerField("children_left_out", "integer", "How many more there are."),
    AnswerField("events", "list", "The last events, the newest first.", fields=_EVENTS),
    AnswerField("history", "object", "The last ten minutes.", fields=_HISTORY),
)
"""All fields."""
