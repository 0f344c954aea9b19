"""The texts that ``unpd connections`` and ``unpd kick`` print for people.

Called by the commands with answers that have every field of their tables in
:mod:`unpd.control.client_fields`. Raises nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from unpd.cli.tables import Columns, Values
from unpd.cli.tables import table as as_table
from unpd.wording import counted, span_text

_KEYS: Mapping[str, Callable[[Values], Any]] = MappingProxyType(
    {
        "service": lambda one: (one["service"], -one["age_s"]),
        "peer": lambda one: one["peer"],
        "age": lambda one: -one["age_s"],
        "received": lambda one: -one["received"],
        "sent": lambda one: -one["sent"],
        "rtt": lambda one: -(one["rtt_s"] or 0.0),
        "retransmits": lambda one: -(one["retransmits"] or 0),
        "state": lambda one: one["state"],
        "child": lambda one: (one["kind"], one["pool"], one["index"]),
    }
)
"""By what the connections are sorted, by the key of the command line: the greatest
number first. A test compares the names with
:data:`unpd.control.client_verbs.SORT_KEYS`.
"""
_COLUMNS: Columns = MappingProxyType(
    {
        "SERVICE": lambda one: one["service"],
        "PEER": lambda one: one["peer"],
        "LOCAL": lambda one: one["local"],
        "AGE": lambda one: span_text(one["age_s"]),
        "RECEIVED": lambda one: str(one["received"]),
        "SENT": lambda one: str(one["sent"]),
        "RTT": lambda one: rtt_text(one["rtt_s"]),
        "RETRANSMITS": lambda one: "-" if one["retransmits"] is None else str(one["retransmits"]),
        "STATE": lambda one: one["state"],
        "CHILD": lambda one: f"{one['kind']} {one['pool']}/{one['index']}",
        "PID": lambda one: str(one["pid"] or "-"),
        "TARGET": lambda one: one["target"] or "-",
    }
)


def sorted_by(key: str | None, found: Sequence[Values]) -> list[Values]:
    """The connections by a key; None: as they are, by process."""
    return list(found) if key is None else sorted(found, key=_KEYS[key])


def table(found: Sequence[Values]) -> str:
    """A line for each connection. Only redirects have targets."""
    if not found:
        return "no connection is open"
    columns = {
        name: text
        for name, text in _COLUMNS.items()
        if name != "TARGET" or any(one["target"] is not None for one in found)
    }
    return as_table(columns, found)


def rtt_text(rtt_s: float | None) -> str:
    """A round-trip time in milliseconds; "-" if it is not known."""
    return "-" if rtt_s is None else f"{rtt_s * 1000:.3g} ms"


def kicked(answer: Values, *, dry_run: bool) -> str:
    """How many connections a kick has ended, or would end."""
    return f"{counted(answer['kicked'], 'connection')} {'would end' if dry_run else 'ended'}"


def silence(answer: Values) -> str:
    """A complaint about processes that have not ended their connections; "" if all
    have.
    """
    number = answer["silent"]
    if not number:
        return ""
    return (
        f"{counted(number, 'process')} did not answer: connections may be open there;"
        " unpd status shows the processes"
    )
