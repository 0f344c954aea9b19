"""The text that ``unpd status`` prints for people, of which ``unpd top`` shows some
lines too.

Called by the commands, and by unpd.cli.top.header, with a status that has every field
of :data:`unpd.control.status_fields.STATUS`. Calls unpd.cli.workers_text for the tables
of listeners and processes, and unpd.cli.history_text for the last ten minutes. Pure.
Raises nothing.
"""

from collections.abc import Iterator, Sequence
from types import MappingProxyType

from unpd.cli import history_text
from unpd.cli.tables import Columns, Values, needed, table
from unpd.cli.workers_text import listeners, number, workers
from unpd.names import UNREADY_PHASES, MasterPhase
from unpd.wording import (
    facts,
    live_change_text,
    rate_text,
    reasons_text,
    retired_text,
    size_text,
    span_text,
)

_SERVICES: Columns = MappingProxyType(
    {
        "SERVICE": lambda one: one["name"],
        "ACTIVE": lambda one: str(one["active"]),
        "PEAK 1 MIN": lambda one: str(one["peak"]),
        "MAX 10 MIN": lambda one: str(one["active_max_10min"]),
        "LIMIT": lambda one: number(one["limit"]),
        "ACCEPTED": lambda one: str(one["accepted"]),
        "ACCEPTED/S": lambda one: rate_text(one["accepted_per_s"]),
        "RECEIVED/S": lambda one: size_text(one["received_bytes_per_s"]),
        "SENT/S": lambda one: size_text(one["sent_bytes_per_s"]),
        "REFUSED": lambda one: str(one["refused"]),
        "REASON": lambda one: reasons_text(one["refused_by_reason"]) or "-",
        "WOULD REFUSE": lambda one: str(one["would_refuse"]),
        "HALTED": lambda one: one["halted"] or "-",
        "DATAGRAMS": lambda one: str(one["datagrams_received"]),
        "ANSWERED": lambda one: str(one["datagrams_sent"]),
        "DATAGRAMS/S": lambda one: rate_text(one["datagrams_per_s"]),
    }
)
_IF_ANY = MappingProxyType(
    {
        "REASON": "refused_by_reason",
        "WOULD REFUSE": "would_refuse",
        "HALTED": "halted",
        "DATAGRAMS": "datagrams_received",
        "ANSWERED": "datagrams_received",
        "DATAGRAMS/S": "datagrams_received",
    }
)
"""The columns that are left out where this field is 0, null or empty for every
service.
"""


def as_text(status: Values) -> str:
    """Return the status: the daemon first, then tables of its services, listeners and
    processes, and the last ten minutes if they were asked for.
    """
    services = status["services"]
    open_now = [
        {"service": service["name"], **listener}
        for service in services
        for listener in service["listeners"]
    ]
    parts = ["\n".join(_daemon(status))]
    parts += [_services(services)] if services else []
    parts += [listeners(open_now)] if open_now else []
    processes = status["children"], status["missing"]
    parts += [workers(*processes)] if any(processes) else []
    parts += filter(None, [history_text.as_text(status)])
    return "\n\n".join(parts)


def _daemon(status: Values) -> Iterator[str]:
    yield (
        f"unpd {status['version']}: {_state(status)}, pid {status['pid']},"
        f" generation {status['generation']}, up {span_text(round(status['uptime_s']))}"
    )
    yield f"configuration: {status['config'] or 'the built-in default'}"
    yield f"metrics: {status['metrics'] or 'off'}"
    yield facts_line(status)
    if status["last_reload"]:
        yield _reload(status["last_reload"])
    for fault in status["degraded"]:
        yield f"degraded: {fault['text']}"
    yield from map(live_change_line, status["live_changes"])
    if status["stop_ends_at"]:
        yield f"the stop ends every connection at {status['stop_ends_at']}"
    yield from map(retired_line, status["retired"])


def _state(status: Values) -> str:
    """Return what the daemon does for clients, then what it is doing itself."""
    phase = status["phase"]
    if phase in UNREADY_PHASES:
        return str(phase)
    serves = "ready" if status["ready"] else "not ready"
    return serves if phase == MasterPhase.RUNNING else f"{serves}, reloading ({phase})"


def _reload(reload: Values) -> str:
    at = f"at {reload['ended_at']}"
    if not reload["reason"]:
        return f"last reload: succeeded {at}"
    first, *more = reload["reason"].splitlines()
    rest = f" (and {len(more)} more)" if more else ""
    return f"last reload: refused {at}: {first}{rest}"


def facts_line(status: Values) -> str:
    """What the status page says of the main process and its children: its last sign of
    life, zombies, denied networks and lost log lines.
    """
    return ", ".join(f"{name} {text}" for name, text in facts(status))


def live_change_line(change: Values) -> str:
    """A change that a restart would end: what it does, and until when."""
    return f"live change, not saved: {live_change_text(change)}"


def retired_line(retired: Values) -> str:
    """A generation that drains: what is left of it, and until when."""
    return f"retired from {retired_text(retired)}"


def _services(services: Sequence[Values]) -> str:
    return table(needed(_SERVICES, _IF_ANY, services), services)
