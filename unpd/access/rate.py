"""Rates: parses "100/s burst 200", and decides from counts whether one is too many.

The window of a rate has ``burst * period_s / count`` seconds, and in the long run at
most ``burst`` are taken in each. Windows stand side by side on the clock, the same for
all services and processes. The estimate at any moment is the count of this window, and
the count of the one before times its share: how much of that one the last ``window_s``
seconds still cover, as if its connections had come evenly. One more is refused if the
estimate is ``burst`` or more.

Here are the decision and its bounds. :mod:`unpd.board.sources` counts, and knows the
windows and the share. Two bounds hold for what is taken, whenever clients come:

- In a window of the clock: at most ``burst``.
- In any T seconds: at most ``burst * (1 + T / window_s)``, rounded up. A token bucket
  of ``burst`` tokens that gets ``count`` each period has the same bound, but for the
  rounding. So any ``window_s`` seconds take at most twice ``burst``.

No client is refused that comes steadily, and less often than ``burst`` times in a
window; nor any that makes at most half of ``burst`` in each. Nothing stays switched
off: the estimate sinks with time, and refused connections do not count.

Of processes that count at the same moment, each but one may take one too many.

Called by the configuration and by :mod:`unpd.access.decide`. Calls unpd.errors to
quote. Errors: ValueError with one sentence, for a bad text.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from unpd.errors import MAX_CHARACTERS, quoted

PERIODS_S: Mapping[str, int] = MappingProxyType({"s": 1, "min": 60, "h": 3600})
"""The units of a rate."""
_UNITS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
        **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "min"),
        **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    }
)
"""What other programs call the units, in lower case."""
_NEARLY = re.compile(
    r"\s*([0-9]+)\s*(?:r?/\s*|per\s+|(?=[a-z]))([a-z]+)"
    r"(?:[\s,;:+]*(?:burst)?[\s=:]*([0-9]+))?[\s,;]*",
    re.ASCII | re.IGNORECASE,
)
"""A rate as people and other programs write it, and perhaps its burst."""
DAY_S = 24 * 3600
MAX_COUNT = 10_000_000
FORMS = '"100/s", "600/min", "10/h" or "100/s burst 200"'


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` each ``period_s`` seconds, and at most ``burst`` in a window.

    All from 1 up; ``burst`` is at least ``count``, so a window is at least a period.
    """

    count: int
    period_s: int
    burst: int
    window_s: float = field(init=False, repr=False, compare=False)
    """The length of a window in seconds; rounded up to a millisecond, so that no more
    is taken.
    """

    def __post_init__(self) -> None:
        """Compute the window once, not at each accept."""
        window_s = -(-1000 * self.burst * self.period_s // self.count) / 1000
        object.__setattr__(self, "window_s", window_s)

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """The rate in ``text``. Without a burst it is the count. ValueError."""
        found = re.fullmatch(r"\s*(\S+?)/(\S+)(?:\s+burst\s+(\S+))?\s*", text, re.ASCII)
        if found is None or found[2] not in PERIODS_S:
            raise ValueError(f"{quoted(text)} {_advice(text, found[2] if found else None)}")
        number, unit, most = found.groups()
        count = _number(number, text)
        rate = cls(count, PERIODS_S[unit], count if most is None else _number(most, text))
        if rate.burst < rate.count:
            raise ValueError(
                f"{quoted(text)} has a burst below {rate.count}; it must be at least the count"
            )
        if rate.window_s > DAY_S:
            raise ValueError(
                f"{quoted(text)} would need a window of {rate.window_s / DAY_S:.1f} days for its"
                " burst; one of a day is the longest"
            )
        return rate

    def __str__(self) -> str:
        """The rate as the configuration writes it."""
        (unit,) = (unit for unit, period_s in PERIODS_S.items() if period_s == self.period_s)
        most = "" if self.burst == self.count else f" burst {self.burst}"
        return f"{self.count}/{unit}{most}"

    def estimate(self, now_count: int, before: int, share: float) -> float:
        """How many were taken in the last ``window_s`` seconds, about: ``now_count`` in
        this window and a ``share`` of ``before``.
        """
        return now_count + before * share

    def exceeded(self, now_count: int, before: int, share: float) -> bool:
        """Whether one more would be too many, by the :meth:`estimate`."""
        return now_count + before * share >= self.burst

    def room(self, now_count: int, before: int, share: float) -> int:
        """How many more are taken now, one after the other; 0 or less for none."""
        return math.ceil(self.burst - (now_count + before * share))

    def frees_in_s(self, now_count: int, before: int, share: float) -> float:
        """After how many seconds one more is taken, if none is taken meanwhile; 0 if it
        is taken now.
        """
        if not self.exceeded(now_count, before, share):
            return 0.0
        if now_count < self.burst:
            windows = share - (self.burst - now_count) / before
        else:
            windows = share + 1 - self.burst / now_count
        return windows * self.window_s + 0.001  # the estimate must be below the burst


def _advice(text: str, unit: str | None) -> str:
    """The end of a sentence about a text that is no rate. ``unit``: the one that it has
    instead of a unit; None if the text has another form.
    """
    if meant := _meant(text):
        return f"is not known here: write {quoted(meant)}"
    if unit is not None and unit.isalpha():
        return f'has the unit {quoted(unit)}; use "s", "min" or "h"'
    return f"must be a rate such as {FORMS}"


def _meant(text: str) -> str:
    """The rate that was meant by a text of nearly the right form; "" if there is none.
    Two numbers without a unit are none: the second one may be a time, as in xinetd.
    """
    found = _NEARLY.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    unit = _UNITS.get(found[2].lower()) if found else None
    if not found or unit is None:
        return ""
    meant = f"{found[1]}/{unit}" + (f" burst {found[3]}" if found[3] else "")
    try:
        Rate.parse(meant)
    except ValueError:
        return ""
    return meant


def _number(text: str, whole: str) -> int:
    if re.fullmatch("[0-9]+", text) is None:
        raise ValueError(f'{quoted(whole)} must have whole numbers, as in "30/min"')
    number = int(text) if len(text) <= len(str(MAX_COUNT)) else MAX_COUNT + 1
    if not 1 <= number <= MAX_COUNT:
        raise ValueError(f"{quoted(whole)} must have numbers from 1 to {MAX_COUNT}")
    return number
