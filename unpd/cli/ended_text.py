"""The text that ``unpd connections --ended`` prints for people.

Called by the commands with answers that have every field of their table in
:mod:`unpd.control.client_fields`. Raises nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from unpd.cli.connections_text import rtt_text
from unpd.cli.tables import Columns, Values
from unpd.cli.tables import table as as_table
from unpd.wording import span_text

_KEYS: Mapping[str, Callable[[Values], Any]] = MappingProxyType(
    {
        "service": lambda one: one["service"],
        "peer": lambda one: one["peer"],
        "age": lambda one: -(one["duration_s"] or 0.0),
        "received": lambda one: -one["received"],
        "sent": lambda one: -one["sent"],
        "rtt": lambda one: -(one["rtt_s"] or 0.0),
        "retransmits": lambda one: -(one["retransmits"] or 0),
        "state": lambda one: one["cause"],
        "child": lambda _one: 0,
    }
)
"""By what the ends are sorted, by the key of the command line: the greatest number
first, and of equal ones the latest.
"""
_COLUMNS: Columns = MappingProxyType(
    {
        "ENDED": lambda one: one["ended_at"],
        "SERVICE": lambda one: one["service"],
        "PEER": lambda one: one["peer"],
        "CAUSE": lambda one: _cause(one["cause"], one["connections"]),
        "LASTED": lambda one: _lasted(one["duration_s"]),
        "RECEIVED": lambda one: str(one["received"]),
        "SENT": lambda one: str(one["sent"]),
        "RTT": lambda one: rtt_text(one["rtt_s"]),
        "RETRANSMITS": lambda one: "-" if one["retransmits"] is None else str(one["retransmits"]),
    }
)


def _cause(cause: str, connections: int) -> str:
    return cause if connections == 1 else f"{cause} ({connections})"


def _lasted(duration_s: float | None) -> str:
    if duration_s is None:
        return "-"
    return span_text(duration_s) if duration_s >= 1 else f"{duration_s * 1000:.3g} ms"


def sorted_by(key: str | None, found: Sequence[Values]) -> list[Values]:
    """The ends by a key; None: as they are, the latest first."""
    return list(found) if key is None else sorted(found, key=_KEYS[key])


def table(found: Sequence[Values]) -> str:
    """A line for each connection that has ended."""
    return as_table(_COLUMNS, found) if found else "no connection has ended lately"
