"""The fields of /status.json, which the exporter serves beside the status page: one row
each, as in :mod:`unpd.control.status_fields`, which says what may change.

Read by ``make manual``, and by a test that compares the exporter's answer with it.
"""

from unpd.control.status_fields import StatusField
from unpd.names import ChildKind, ChildPhase, Fault, MasterPhase, ReloadResult

_UNMEASURED = "the history has no two samples without a gap"
_RATES = (
    StatusField("accepted_per_s", "number", "New connections a second.", _UNMEASURED),
    StatusField("datagrams_per_s", "number", "Datagrams received a second.", _UNMEASURED),
    StatusField("received_per_s", "number", "Bytes received a second.", _UNMEASURED),
    StatusField("sent_per_s", "number", "Bytes sent a second.", _UNMEASURED),
    StatusField("refused_per_s", "number", "Refusals a second.", _UNMEASURED),
)
_DEGRADED = (
    StatusField("reason", "text", f"{', '.join(Fault)}."),
    StatusField("text", "text", "A sentence that names the part with the fault."),
)
_LAST_RELOAD = (
    StatusField("result", "text", f"{' or '.join(ReloadResult)}."),
    StatusField("reason", "text", "Why the reload was refused; empty after a success."),
    StatusField("ended_at", "text", "When it ended, in UTC."),
    StatusField("generation", "integer", "The generation that served afterwards."),
)
_TOTALS = (
    StatusField("open", "integer", "Connections open now."),
    StatusField("open_highest", "integer", "The most open at a sample of the history."),
    StatusField("queued", "integer", "Connections in accept queues at the last sample."),
    StatusField("queued_highest", "integer", "The most there at a sample of the history."),
    StatusField("accepted", "integer", "Connections accepted."),
    StatusField("refused", "integer", "Connections and datagrams refused."),
    *_RATES,
    StatusField("rtt_s", "number", "The mean round-trip time of late.", "none was measured"),
    StatusField("lag_s", "number", "The mean lag of loops of late.", "none was measured"),
)
_QUEUE = (
    StatusField("length", "integer", "How many connections wait to be accepted."),
    StatusField("limit", "integer", "How many may wait."),
)
_LISTENERS = (
    StatusField("address", "text", "The address."),
    StatusField("queue", "object", "The accept queue.", "it has none that is known", _QUEUE),
)
_SERVICES = (
    StatusField("name", "text", "The name of the service."),
    StatusField("reachable", "boolean", "Whether clients reach a listener of it."),
    *_TOTALS[:2],
    StatusField("open_limit", "integer", "Its max_connections.", "there is no limit"),
    *_TOTALS[2:4],
    StatusField(
        "queued_limit",
        "integer",
        "The limits of its accept queues together.",
        "no queue of it is known",
    ),
    *_TOTALS[4:6],
    StatusField("would_refuse", "integer", "How many were let in though a rule refuses them."),
    StatusField("datagrams", "integer", "Datagrams received."),
    *_RATES,
    StatusField("listeners", "list", "Its listeners.", fields=_LISTENERS),
)
_LAST_END = (
    StatusField("ended", "text", "How it ended."),
    StatusField("pid", "integer", "Its process."),
    StatusField("at", "text", "When it was reaped, in UTC."),
)
_MISSING = "the slot has no child"
_CHILDREN = (
    StatusField("kind", "text", f"{', '.join(ChildKind)}."),
    StatusField("pool", "text", "The name of its pool."),
    StatusField("index", "integer", "Its place in the pool, from 0."),
    StatusField("service", "text", "The service that it alone serves.", "it serves all of them"),
    StatusField(
        "phase", "text", f"{', '.join(ChildPhase)}; missing: a child is wanted and not there."
    ),
    StatusField("generation", "integer", "The generation to which it belongs.", _MISSING),
    StatusField("birth", "integer", "The serial number of its start.", _MISSING),
    StatusField("pid", "integer", "The process.", "there is none, or only its sessions are left"),
    StatusField("age_s", "number", "How long it has lived, in seconds.", _MISSING),
    StatusField("heartbeat_age_s", "number", "The age of its last sign of life.", "none came yet"),
    StatusField("open", "integer", "Its open connections."),
    StatusField(
        "last_end",
        "object",
        "How the last child of this slot ended.",
        "none of the events has one",
        _LAST_END,
    ),
)
_EVENTS = (
    StatusField("number", "integer", "Its number; goes up."),
    StatusField("at", "text", "When it happened, in UTC."),
    StatusField("event", "text", "Its name in the log."),
    StatusField("text", "text", "A sentence."),
    StatusField("fields", "object", "Its fields in the log."),
)
_HISTORY = (
    StatusField("now_s", "number", "The time of the answer on the clock since boot, in seconds."),
    StatusField("at_s", "list", "The times of the samples on that clock, the oldest first."),
    StatusField("open", "list", "Open connections at each."),
    StatusField("queued", "list", "Connections in accept queues at each."),
    *(
        StatusField(field.name, "list", f"{field.meaning[:-1]}, before each; null behind a gap.")
        for field in _RATES
    ),
    StatusField("rtt_s", "list", "The mean round-trip time before each; null: none came."),
    StatusField("lag_s", "list", "The mean lag of loops before each; null: none came."),
)
PAGE = (
    StatusField("schema", "integer", "The number of this list of fields: 1."),
    StatusField("version", "text", "The version of unpd."),
    StatusField("time", "text", "When the answer was made, in UTC."),
    StatusField("pid", "integer", "The main process."),
    StatusField("config", "text", "The path of the configuration file.", "the built-in one"),
    StatusField("phase", "text", f"What the main process does: {', '.join(MasterPhase)}."),
    StatusField(
        "answering", "boolean", "Whether the last sign of life of the main process is young."
    ),
    StatusField("heartbeat_age_s", "number", "The age of that sign.", "none came yet"),
    StatusField("not_ready", "text", "Why the daemon is not ready; empty if it is."),
    StatusField("faults", "integer", "How many faults stand now."),
    StatusField("degraded", "list", "The first of these faults.", fields=_DEGRADED),
    StatusField("generation", "integer", "The generation that serves."),
    StatusField("uptime_s", "number", "The time since the start, in seconds."),
    StatusField("last_reload", "object", "The last reload.", "there was none", _LAST_RELOAD),
    StatusField("zombies", "integer", "Children that are dead and not reaped.", "/proc hides them"),
    StatusField("denials", "integer", "Networks and addresses that are denied now."),
    StatusField("log_lines_dropped", "integer", "Log lines that were lost."),
    StatusField("totals", "object", "The figures of all services together.", fields=_TOTALS),
    StatusField("services", "list", "The services.", fields=_SERVICES),
    StatusField(
        "children",
        "list",
        "The processes that the main process started, and the slots that lack one.",
        fields=_CHILDREN,
    ),
    StatusField("children_left_out", "integer", "How many more there are."),
    StatusField("events", "list", "The last events, the newest first.", fields=_EVENTS),
    StatusField("history", "object", "The last ten minutes.", fields=_HISTORY),
)
"""All fields."""
