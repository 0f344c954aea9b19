"""The fields of /status.json, which the exporter serves beside the status page: one row
each, as in :mod:`unpd.control.answer_fields`, which says what may change. A field that
the answer to ``status`` has too is the same row.

Read by ``make manual``, and by a test that compares the exporter's answer with it.
"""

from collections.abc import Iterator
from dataclasses import replace

from unpd.control.answer_fields import SCHEMA, AnswerField
from unpd.control.history_fields import (
    EVENTS,
    HISTORY,
    QUEUED,
    QUEUED_MAX,
    REFUSED_PER_S,
    TOTALS,
)
from unpd.control.status_fields import CHILDREN, LISTENERS, STATUS
from unpd.names import ChildPhase, MasterPhase


def _rows(fields: tuple[AnswerField, ...], *names: str) -> Iterator[AnswerField]:
    """The rows of these names, in their order here."""
    by_name = {field.name: field for field in fields}
    return (by_name[name] for name in names)


_SERVICES_OF_STATUS = next(_rows(STATUS, "services")).fields
_QUEUE_OF_STATUS = next(_rows(LISTENERS, "queue")).fields
_NO_QUEUE = "no queue of it is known"
_LISTENERS = (
    *_rows(LISTENERS, "address", "kind", "drops"),
    replace(
        next(_rows(LISTENERS, "queue")), fields=tuple(_rows(_QUEUE_OF_STATUS, "length", "limit"))
    ),
)
_SERVICES = (
    *_rows(_SERVICES_OF_STATUS, "name", "halted"),
    AnswerField("reachable", "boolean", "Whether clients reach a listener of it."),
    *_rows(_SERVICES_OF_STATUS, "active", "peak", "active_max_10min", "limit"),
    replace(QUEUED, absent=_NO_QUEUE),
    replace(QUEUED_MAX, absent=_NO_QUEUE),
    AnswerField("queued_limit", "integer", "The limits of its accept queues together.", _NO_QUEUE),
    *_rows(
        _SERVICES_OF_STATUS,
        "accepted",
        "accepted_per_s",
        "received_bytes",
        "received_bytes_per_s",
        "sent_bytes",
        "sent_bytes_per_s",
        "refused",
        "refused_by_reason",
    ),
    REFUSED_PER_S,
    *_rows(
        _SERVICES_OF_STATUS,
        "would_refuse",
        "datagrams_received",
        "datagrams_per_s",
        "datagrams_sent",
    ),
    AnswerField("listeners", "list", "Its listeners.", fields=_LISTENERS),
)
_MISSING = "the slot has no child"


def _children() -> Iterator[AnswerField]:
    """The rows of ``status``; nothing is known of a slot that has no child."""
    for field in CHILDREN:
        match field.name:
            case "phase":
                phases = ", ".join(ChildPhase)
                meaning = (
                    f"{phases}; missing: a child is wanted and not there; sessions_only: it was"
                    " reaped, and its sessions live on."
                )
                yield replace(field, meaning=meaning)
            case "kind" | "pool" | "index" | "service" | "last_end":
                yield field
            case _:
                yield replace(field, absent=f"{field.absent}; or {_MISSING}".removeprefix("; or "))


_SERVING = (
    *_rows(CHILDREN, "kind", "pool"),
    AnswerField("services", "list", "The services that these children serve."),
)
PAGE = (
    AnswerField("schema", "integer", f"The number of this list of fields: {SCHEMA}."),
    AnswerField("version", "text", "The version of unpd."),
    AnswerField("time", "text", "When the answer was made, in UTC."),
    *_rows(STATUS, "pid", "config"),
    AnswerField("phase", "text", f"What the main process does: {', '.join(MasterPhase)}."),
    AnswerField(
        "answering", "boolean", "Whether the last sign of life of the main process is young."
    ),
    *_rows(STATUS, "heartbeat_age_s"),
    AnswerField("not_ready", "text", "Why the daemon is not ready; empty if it is."),
    AnswerField("faults", "integer", "How many faults stand now."),
    replace(next(_rows(STATUS, "degraded")), meaning="The first of these faults."),
    *_rows(STATUS, "generation", "uptime_s", "last_reload", "retired"),
    replace(
        next(_rows(STATUS, "live_changes")),
        meaning="The first changes of the running daemon that are not saved: a restart ends them.",
    ),
    AnswerField("live_changes_left_out", "integer", "How many more there are."),
    replace(next(_rows(STATUS, "zombies")), absent="/proc hides them"),
    *_rows(STATUS, "denials", "log_lines_dropped"),
    AnswerField("totals", "object", "The figures of all services together.", fields=TOTALS),
    AnswerField("services", "list", "The services.", fields=_SERVICES),
    AnswerField(
        "children",
        "list",
        "The processes that the main process started, and the slots that lack one.",
        fields=tuple(_children()),
    ),
    AnswerField("serving", "list", "Which children serve which services.", fields=_SERVING),
    AnswerField(
        "events",
        "list",
        "The last events that are warnings or errors, or change what the daemon does; the newest"
        " first.",
        fields=EVENTS,
    ),
    AnswerField("history", "object", "The last ten minutes.", fields=HISTORY),
)
"""All fields."""
