"""The tables that ``unpd workers`` and ``unpd listeners`` print for people, and the
words for numbers that the status has too.

Called by the commands, and by unpd.cli.status_text, with answers that have every
field of their tables in :mod:`unpd.control.view_fields`. Pure. Raises nothing.
"""

from collections.abc import Sequence
from types import MappingProxyType

from unpd.cli.tables import Columns, Values, needed, table
from unpd.control.status_fields import CHILDREN
from unpd.names import MISSING
from unpd.wording import end_text, size_text, span_text

_WORKERS: Columns = MappingProxyType(
    {
        "KIND": lambda one: one["kind"],
        "SLOT": lambda one: slot(one) or "-",
        "PID": lambda one: str(one["pid"] or "-"),
        "STATE": lambda one: one["phase"],
        "GENERATION": lambda one: number(one["generation"]),
        "AGE": lambda one: "-" if one["age_s"] is None else span_text(one["age_s"]),
        "CONNECTIONS": lambda one: number(one["connections"]),
        "ACCEPTED": lambda one: number(one["accepted"]),
        "CPU": lambda one: percent(one["cpu_percent"]),
        "CPU TIME": lambda one: "-" if one["cpu_s"] is None else f"{one['cpu_s']:.1f} s",
        "MEMORY": lambda one: size_text(one["memory_bytes"]),
        "HEARTBEAT": lambda one: (
            "-" if one["heartbeat_age_s"] is None else f"{span_text(one['heartbeat_age_s'])} ago"
        ),
        "LAST END IN THIS SLOT": lambda one: (
            end_text(one["last_end"], one["last_end"]["at"]) if one["last_end"] else "-"
        ),
    }
)
_IF_ANY = MappingProxyType({"LAST END IN THIS SLOT": "last_end"})
_LISTENERS: Columns = MappingProxyType(
    {
        "SERVICE": lambda one: one["service"],
        "ADDRESS": lambda one: one["address"],
        "STATE": lambda one: one["state"],
        "QUEUE": lambda one: _of_queue(one, "length"),
        "MAX SINCE START": lambda one: _of_queue(one, "max"),
        "LIMIT": lambda one: _of_queue(one, "limit"),
        "DROPS": lambda one: number(one["drops"]),
    }
)


_UNKNOWN = MappingProxyType(dict.fromkeys(field.name for field in CHILDREN))


def workers(children: Sequence[Values], missing: Sequence[Values] = ()) -> str:
    """A line for each process, and for each slot that lacks one."""
    rows = [*children, *({**_UNKNOWN, **slot, "phase": MISSING} for slot in missing)]
    return table(needed(_WORKERS, _IF_ANY, rows), rows)


def listeners(found: Sequence[Values]) -> str:
    """A line for each listener. A daemon that stops has none."""
    return table(_LISTENERS, found) if found else "no listener is open"


def slot(child: Values) -> str:
    """Where a child belongs: its pool and index, or the service that it alone serves;
    "" for the exporter.
    """
    if child["service"] is not None:
        return str(child["service"])
    return "" if child["kind"] == "exporter" else f"{child['pool']}/{child['index']}"


def number(value: int | None) -> str:
    """A number, or a dash."""
    return "-" if value is None else str(value)


def percent(value: float | None) -> str:
    """A percentage, or a dash."""
    return "-" if value is None else f"{value:.1f} %"


def _of_queue(listener: Values, field: str) -> str:
    return "-" if listener["queue"] is None else str(listener["queue"][field])
