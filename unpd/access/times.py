"""The times at which a service is open: parses them, and tells when it opens again.

A text is a range of times, with the days on which it begins or without them, for every
day: "Mon-Fri 08:00-18:00", "Sat,Sun 10:00-24:00", "Fri-Mon 22:00-06:00". A range that
ends before it begins goes over midnight and belongs to the day on which it begins: the
last one is open on Tuesday at 05:00, and closed on Friday at 05:00. A service is open
in the minute in which a range begins, and no more in the one in which it ends. Outside
of all ranges it is closed; without any range it is always open.

The clock on the wall decides, in the zone of the service, and nothing else. So where
the clock is put forward, a range inside the missing hour is left out on that day, and
one that begins in it opens at its end. Where the clock is put back, the doubled hour is
open twice or not at all.

xinetd's own form ("8:00-18:00") is valid. xinetd is still open in the minute that a
range names as its end, and knows neither days nor ranges over midnight.

Called by the configuration, and for each connection by :mod:`unpd.access.decide`. Calls
unpd.errors to quote. Errors: ValueError with one sentence, for a bad text.

Known gaps: two changes of the clock within an hour that take each other back are not
seen; no zone has had any. A change of /etc/localtime takes effect after a restart only,
because the C library reads it once.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from unpd.errors import quoted

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
FORMS = '"08:00-18:00", "Mon-Fri 08:00-18:00" or "Sat,Sun 22:00-06:00"'
_MONDAY = datetime(1969, 12, 29, tzinfo=UTC)
"""When the clock on the wall begins to count, in whichever zone: at a week's begin."""
_SECOND = timedelta(seconds=1)
_STEP_S = 3600
_OPEN, _CLOSED = b"\1", b"\0"

LocalTime = Callable[[float], datetime]
"""The date and time on the wall at a time in seconds since the epoch."""


def system_time(wall_s: float) -> datetime:
    """The date and time in the zone of this process (localtime(3))."""
    return datetime.fromtimestamp(wall_s, UTC).astimezone()


@dataclass(slots=True)
class AccessTimes:
    """When a service is open. ``texts``: as the configuration has them. ``week``: a
    byte for each minute of a week from Monday on, 1 where the service is open.
    ``zone``: None for that of ``local_time``.

    The last verdict is kept with the time for which it holds, so that the next one
    costs two comparisons. Two with the same texts and the same zone are equal.
    """

    texts: tuple[str, ...]
    week: bytes
    zone: tzinfo | None
    local_time: LocalTime
    _since: float = field(default=math.inf, init=False, repr=False, compare=False)
    _until: float = field(default=-math.inf, init=False, repr=False, compare=False)
    _is_open: bool = field(default=True, init=False, repr=False, compare=False)

    @classmethod
    def parse(
        cls, texts: Iterable[str], zone: tzinfo | None, local_time: LocalTime = system_time
    ) -> "AccessTimes":
        """Compile ``texts``. ``zone``: as :func:`unpd.services.daytime.zone` returns
        it; None for the one that ``local_time`` has, by default this machine's.

        ValueError with one sentence for the first text that is no range.
        """
        texts = tuple(texts)
        week = bytearray(_CLOSED * WEEK_MINUTES if texts else _OPEN * WEEK_MINUTES)
        for text in texts:
            for begin, minutes in _spans(text):
                end = begin + minutes
                week[begin:end] = _OPEN * (min(end, WEEK_MINUTES) - begin)
                week[: max(0, end - WEEK_MINUTES)] = _OPEN * max(0, end - WEEK_MINUTES)
        return cls(texts, bytes(week), zone, local_time)

    def closed_until(self, wall_s: float) -> float | None:
        """None if the service is open at ``wall_s``, in seconds since the epoch; else
        when it opens.
        """
        if not self._since <= wall_s < self._until:
            self._look(math.floor(wall_s))
        return None if self._is_open else self._until

    def _look(self, second: int) -> None:
        """Take the verdict for ``second``, and find out until when it holds."""
        self._is_open = self._opens_at(second)
        self._since, self._until = second, self._edge_after(second)

    def _edge_after(self, second: int) -> float:
        """The first second after ``second`` for which the verdict is the other one;
        infinite if there is none.
        """
        other = _CLOSED if self._is_open else _OPEN
        if other not in self.week:
            return math.inf
        while True:
            clock = self._clock(second)
            minute = clock // 60 % WEEK_MINUTES
            edge = self.week.find(other, minute)
            if edge < 0:
                edge = self.week.find(other) + WEEK_MINUTES
            until = second + (edge - minute) * 60 - clock % 60
            change = self._change_of_clock(second, until)
            if change is None:
                return until
            if self._opens_at(change) is not self._is_open:
                return change
            second = change

    def _change_of_clock(self, second: int, until: int) -> int | None:
        """The first second after ``second`` at which the clock on the wall was put
        forward or back; None if that is after ``until``.
        """
        offset = self._offset(second)
        for before in range(second, until, _STEP_S):
            after = min(before + _STEP_S, until)
            if self._offset(after) != offset:
                candidates = range(before + 1, after + 1)
                found = bisect_left(candidates, True, key=lambda at: self._offset(at) != offset)
                return candidates[found]
        return None

    def _opens_at(self, second: int) -> bool:
        return self.week[self._clock(second) // 60 % WEEK_MINUTES] == _OPEN[0]

    def _offset(self, second: int) -> int:
        """How far the clock on the wall is ahead, up to a constant."""
        return self._clock(second) - second

    def _clock(self, second: int) -> int:
        """What the clock on the wall shows, in seconds since the Monday on which it
        began.
        """
        if self.zone is None:
            shown = self.local_time(second)
        else:
            shown = datetime.fromtimestamp(second, self.zone)
        return (shown.replace(tzinfo=UTC) - _MONDAY) // _SECOND


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """For each day of the range in ``text``: when it begins, in minutes from Monday on,
    and how many minutes it has.
    """
    days, _, times = text.strip().rpartition(" ")
    found = re.fullmatch(r"([0-9]{1,2}:[0-9]{2})-([0-9]{1,2}:[0-9]{2})", times)
    if found is None:
        raise ValueError(f"{quoted(text)} must be a range of times such as {FORMS}")
    begin, end = (_minute(time, text) for time in found.groups())
    if begin == DAY_MINUTES:
        raise ValueError(
            f"{quoted(text)} begins at 24:00, which only an end may be; write 00:00 of the next day"
        )
    if begin == end:
        raise ValueError(
            f"{quoted(text)} begins and ends at the same time; for whole days write 00:00-24:00"
        )
    minutes = end - begin if begin < end else end - begin + DAY_MINUTES
    for day in _days(days, text):
        yield day * DAY_MINUTES + begin, minutes


def _minute(time: str, text: str) -> int:
    """A time of day in minutes; 24:00 is the last."""
    hour, _, minute = time.partition(":")
    total = int(hour) * 60 + int(minute)
    if int(minute) > 59 or total > DAY_MINUTES:
        raise ValueError(
            f"{quoted(text)} has the time {time}; times are 00:00 to 23:59, and 24:00 as an end"
        )
    return total


def _days(days: str, text: str) -> list[int]:
    """The days that ``days`` names, from 0 for Monday on; all if it names none."""
    if not days:
        return list(range(len(DAYS)))
    found = []
    for part in days.split(","):
        first, _, last = part.strip().partition("-")
        begin = _day(first, text)
        end = _day(last, text) if "-" in part else begin
        found += [(begin + day) % len(DAYS) for day in range((end - begin) % len(DAYS) + 1)]
    return found


def _day(name: str, text: str) -> int:
    if name.lower() not in DAYS:
        raise ValueError(
            f"{quoted(text)} names a day that is none of Mon, Tue, Wed, Thu, Fri, Sat, Sun"
        )
    return DAYS.index(name.lower())
