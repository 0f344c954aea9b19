"""The times at which a service is open, against the same decided minute by minute, over
the changes of the clock in a year.
"""

import functools
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpd.access.times import AccessTimes

ZONES: dict[str, tzinfo] = {
    "UTC": UTC,
    "Europe/Berlin": ZoneInfo("Europe/Berlin"),
    "America/New_York": ZoneInfo("America/New_York"),
    "Australia/Lord_Howe": ZoneInfo("Australia/Lord_Howe"),
}
NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY = 1440
BEGIN = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
YEAR = 365 * DAY
BEYOND = 21 * DAY
"""How long after the year the service opens again, at the latest."""
CHANGES = {
    "UTC": ("2026-01-05T00:00",),
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),
}
"""When the clocks change, in UTC."""


@dataclass(frozen=True, slots=True)
class Range:
    """A range of times, with its days from 0 for Monday on."""

    text: str
    days: frozenset[int]
    begin: int
    end: int

    def has(self, day: int, minute: int) -> bool:
        """Whether it has the minute of the day, by its definition."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        yesterday = (day - 1) % 7
        return (day in self.days and minute >= self.begin) or (
            yesterday in self.days and minute < self.end
        )


def clock(minute: int) -> str:
    """A minute of the day as text."""
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def parts(draw: st.DrawFn) -> tuple[str, frozenset[int]]:
    """A day, or a range of days, which may go over the week's end."""
    first = draw(st.integers(0, 6))
    if draw(st.booleans()):
        return NAMES[first], frozenset([first])
    count = draw(st.integers(1, 7))
    days = [(first + day) % 7 for day in range(count)]
    return f"{NAMES[first]}-{NAMES[days[-1]]}", frozenset(days)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    """A range, mostly near the hours in which clocks change."""
    minutes = st.one_of(st.integers(0, 300), st.integers(0, DAY - 1))
    begin = draw(minutes)
    end = draw(st.one_of(minutes, st.just(DAY)).filter(lambda end: end != begin))
    times = f"{clock(begin)}-{clock(end)}"
    listed = draw(st.lists(parts(), max_size=3))
    if not listed:
        return Range(times, frozenset(range(7)), begin, end)
    text = ",".join(part for part, _ in listed)
    return Range(f"{text} {times}", frozenset().union(*(days for _, days in listed)), begin, end)


@functools.cache
def shown(name: str) -> "array[int]":
    """The minute of the week that the clock of the zone shows, for each minute of the
    year and some more.
    """
    zone = ZONES[name]
    moments = (datetime.fromtimestamp(BEGIN + 60 * i, zone) for i in range(YEAR + BEYOND))
    return array("H", (m.weekday() * DAY + m.hour * 60 + m.minute for m in moments))


def verdicts(name: str, wanted: list[Range], minutes: range) -> bytes:
    """1 for each of ``minutes``, and some more, in which the service is open."""
    week = bytes(
        any(one.has(day, minute) for one in wanted) for day in range(7) for minute in range(DAY)
    )
    return bytes(map(week.__getitem__, shown(name)[minutes.start : minutes.stop + BEYOND]))


def check(times: AccessTimes, expected: bytes, begin: int, minutes: range) -> None:
    """Compare each of ``minutes``, in this order. ``expected`` starts at ``begin``."""
    for minute in minutes:
        opening = begin + expected.find(1, minute - begin)
        until = times.closed_until(BEGIN + 60 * minute + 59.5)
        if opening == minute:
            assert until is None, (times.texts, minute)
        else:
            assert until == BEGIN + 60 * opening, (times.texts, minute)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(tuple(ZONES)),
    wanted=st.lists(ranges(), min_size=1, max_size=4),
    which=st.integers(0, 1),
    step=st.sampled_from([1, 13, 1009]),
)
def test_every_minute_around_a_change_of_the_clock(
    name: str, wanted: list[Range], which: int, step: int
) -> None:
    """For any ranges, in any order of asking: the service is open when the clock on the
    wall says so, and opens in the first minute in which it does.
    """
    change = datetime.fromisoformat(CHANGES[name][which % len(CHANGES[name])])
    middle = (int(change.replace(tzinfo=UTC).timestamp()) - BEGIN) // 60
    texts = [one.text for one in wanted]
    minutes = range(middle - 4 * DAY, middle + 4 * DAY)
    expected = verdicts(name, wanted, minutes)
    check(AccessTimes.parse(texts, ZONES[name]), expected, minutes.start, minutes[::step])
    check(AccessTimes.parse(texts, ZONES[name]), expected, minutes.start, minutes[::-101])


@pytest.mark.parametrize("name", ZONES)
def test_every_minute_of_a_year(name: str) -> None:
    """The same over a whole year, with three ranges."""
    wanted = [
        Range("Mon-Fri 08:00-18:00", frozenset(range(5)), 480, 1080),
        Range("Sat,Sun 01:45-02:15", frozenset((5, 6)), 105, 135),
        Range("Fri-Mon 23:30-01:15", frozenset((4, 5, 6, 0)), 1410, 75),
    ]
    times = AccessTimes.parse([one.text for one in wanted], ZONES[name])
    check(times, verdicts(name, wanted, range(YEAR)), 0, range(YEAR))
