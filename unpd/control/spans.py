"""Spans of time as people write them: 90s, 10m, 2h, 1d. :mod:`unpd.wording` has them as
people read them.

Used by the verbs. Pure. ValueError with one sentence for a text that is no span.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from unpd.errors import quoted

UNITS: Mapping[str, int] = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86400})
LONGEST_S = 3650 * 86400
_SPAN = re.compile("([0-9]{1,9})([smhd]?)")


def span_s(text: str) -> int:
    """The seconds of a span. ValueError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{quoted(text)} is no time: write a whole number and a unit, such as 90s, 10m, 2h or"
            " 1d"
        )
    number, unit = found.groups()
    if not unit:
        forms = ", ".join(f"{number}{unit}" for unit in UNITS)
        raise ValueError(f"{quoted(text)} has no unit: write one of {forms}")
    seconds = int(number) * UNITS[unit]
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"the time {text} must be from 1s to {LONGEST_S // UNITS['d']}d")
    return seconds


def timeout_s(text: str) -> int:
    """The seconds of a timeout: a span, or seconds alone, as the timeouts of other
    commands have them; 0 is no time at all. ValueError.
    """
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else span_s(text)
