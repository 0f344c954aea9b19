"""The words that the texts of the command line, ``unpd top`` and the status page have
in common: sizes, rates, counts, spans, numbers of something, facts of the daemon,
reasons of refusals, ends of children, retired generations and live changes. Columns of
``unpd top`` are narrow, and have forms of their own for counts and spans
(unpd.cli.top.figures).

Called by these, and by the master for its sentences. Pure. Raises nothing.
"""

import itertools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from unpd.names import LiveChange

_PLURALS: Mapping[str, str] = MappingProxyType({"child": "children", "entry": "entries"})
_SHOWN = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
NOTHING = "-"
"""Stands for a figure that there is not."""


def size_text(size_bytes: float | None) -> str:
    """A number of bytes, in powers of 1,000 as disks and networks have them, such as
    1.5 GB: with one decimal below 100, but for bytes alone.
    """
    if size_bytes is None:
        return NOTHING
    power = 0
    while size_bytes >= 999.5 and power < len(_PREFIXES) - 1:
        size_bytes, power = size_bytes / 1000, power + 1
    digits = 1 if power and size_bytes < 99.95 else 0
    return f"{size_bytes:.{digits}f} {_PREFIXES[power]}B"


def rate_text(per_s: float | None) -> str:
    """How many there are in a second, with a comma before each group of three digits:
    with one decimal below 10, unless that is 0.
    """
    if per_s is None:
        return NOTHING
    return f"{per_s:.1f}".removesuffix(".0") if per_s < 9.95 else f"{per_s:,.0f}"


def span_text(seconds: float) -> str:
    """A span for people, in at most two units, such as 10 h 35 min; it is not shorter
    than the span. A negative one, of a clock that was set, counts as none.
    """
    seconds = max(0.0, seconds)
    for (unit, size_s), (smaller, part_s) in itertools.pairwise(_SHOWN):
        many, few = divmod(math.ceil(seconds / part_s), size_s // part_s)
        if many:
            return f"{many} {unit}" + (f" {few} {smaller}" if few else "")
    return f"{math.ceil(10 * seconds) / 10:g} s"


def count_text(number: int | None) -> str:
    """A whole number, with a comma before each group of three digits."""
    return NOTHING if number is None else f"{number:,}"


def ago_text(age_s: float | None) -> str:
    """How long ago something was."""
    return NOTHING if age_s is None else f"{span_text(age_s)} ago"


def facts(status: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The last heartbeat of the master, its zombies, the denied networks and the lost
    log lines, each with its name. ``status``: that of ``unpd status``, or the snapshot
    of the page.
    """
    return (
        ("heartbeat", ago_text(status["heartbeat_age_s"])),
        ("zombies", count_text(status["zombies"])),
        ("denied networks", count_text(status["denials"])),
        ("log lines lost", count_text(status["log_lines_dropped"])),
    )


def counted(number: int, noun: str) -> str:
    """A number of something, such as 1 connection or 2 connections."""
    if number == 1:
        return f"{number} {noun}"
    plural = _PLURALS.get(noun) or (f"{noun}es" if noun.endswith("s") else f"{noun}s")
    return f"{number} {plural}"


def reasons_text(reasons: Mapping[str, Any]) -> str:
    """Why a service has refused clients, of several reasons the most frequent; "" if it
    has refused none. ``reasons``: how many by reason. What is no number is left out.
    """
    counts = {name: count for name, count in reasons.items() if type(count) is int and count}
    most = max(counts, key=counts.__getitem__, default="")
    return f"mostly {most}" if len(counts) > 1 else most


def end_text(end: Mapping[str, Any], at: str) -> str:
    """How a child ended, and when. ``end``: as the status has it. ``at``: the moment as
    the caller shows it.
    """
    return f"{end['ended']}, pid {end['pid']}, {at}"


def retired_text(retired: Mapping[str, Any]) -> str:
    """What is left of a retired generation, and until when, as the end of a sentence
    without its full stop. ``retired``: as the status has it.
    """
    until = f", until {retired['drain_ends_at']}" if retired["drain_ends_at"] else ""
    return (
        f"generation {retired['generation']}: {counted(retired['children'], 'child')},"
        f" {counted(retired['connections'], 'connection')}{until}"
    )


def live_change_text(change: Mapping[str, Any]) -> str:
    """A live change as a sentence without its full stop. ``change``: as the status has
    it; a number of workers comes as a text.
    """
    value, subject, configured = change["value"], change["subject"], change["configured"]
    until = f" until {change['until']}" if change["until"] else ""
    wants = f"; the configuration wants {configured}" if configured not in (None, value) else ""
    match change["change"]:
        case LiveChange.HALT:
            return f"service {subject} is {value}{until}"
        case LiveChange.LOG_LEVEL:
            return f"the level of the log is {value}{until}{wants}"
        case LiveChange.SCALE if value.isdecimal():
            return f"pool {subject} has {counted(int(value), 'worker')}{wants}"
        case other:
            return f"{other} {subject} {value}{until}"
