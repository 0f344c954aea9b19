"""When a service is open: texts of ranges, zones, and changes of the clock."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest

from unpd.access.times import AccessTimes, system_time

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: tzinfo = UTC, *, second_time: bool = False) -> float:
    """The time at which the clock of ``zone`` shows ``text``."""
    shown = datetime.fromisoformat(text).replace(tzinfo=zone, fold=int(second_time))
    return shown.timestamp()


def opens(texts: Iterable[str], shown: str, zone: tzinfo = UTC) -> str | None:
    """When a service with these times opens, as the clock of ``zone`` shows it, if one
    asks at ``shown``; None if it is open.
    """
    until = AccessTimes.parse(texts, zone).closed_until(at(shown, zone))
    return None if until is None else datetime.fromtimestamp(until, zone).strftime("%a %d %H:%M")


@pytest.mark.parametrize(
    ("text", "shown", "expected"),
    [
        ("08:00-18:00", "2026-11-23T07:59:59", "Mon 23 08:00"),
        ("08:00-18:00", "2026-11-23T08:00:00", None),
        ("08:00-18:00", "2026-11-23T17:59:59", None),
        ("08:00-18:00", "2026-11-23T18:00:00", "Tue 24 08:00"),
        ("8:00-18:00", "2026-11-23T07:00:00", "Mon 23 08:00"),
        ("Mon-Fri 08:00-18:00", "2026-11-27T18:00:00", "Mon 30 08:00"),
        ("Mon-Fri 08:00-18:00", "2026-11-28T12:00:00", "Mon 30 08:00"),
        ("Sat,Sun 10:00-12:00", "2026-11-23T11:00:00", "Sat 28 10:00"),
        ("Sat, Sun 10:00-12:00", "2026-11-29T11:00:00", None),
        ("Fri-Mon 10:00-12:00", "2026-11-23T11:00:00", None),
        ("Fri-Mon 10:00-12:00", "2026-11-24T11:00:00", "Fri 27 10:00"),
        ("Wed,Fri-Mon 10:00-12:00", "2026-11-24T11:00:00", "Wed 25 10:00"),
        ("Tue-Tue 10:00-12:00", "2026-11-23T11:00:00", "Tue 24 10:00"),
        ("mon-FRI  08:00-18:00 ", "2026-11-23T09:00:00", None),
        ("22:00-06:00", "2026-11-23T05:59:59", None),
        ("22:00-06:00", "2026-11-23T06:00:00", "Mon 23 22:00"),
        ("Mon 22:00-06:00", "2026-11-23T05:00:00", "Mon 23 22:00"),
        ("Mon 22:00-06:00", "2026-11-24T05:00:00", None),
        ("Sun 22:00-06:00", "2026-11-23T05:00:00", None),
        ("Sun 22:00-06:00", "2026-11-23T06:00:00", "Sun 29 22:00"),
        ("Sun 22:00-24:00", "2026-11-29T23:59:59", None),
        ("Sun 22:00-24:00", "2026-11-30T00:00:00", "Sun 06 22:00"),
        ("Sun 22:00-00:00", "2026-11-30T00:00:00", "Sun 06 22:00"),
        ("Sat 00:00-24:00", "2026-11-28T23:59:59", None),
    ],
)
def test_a_range(text: str, shown: str, expected: str | None) -> None:
    """A service is open from the minute in which a range begins to the one in which it
    ends; a range over midnight belongs to the day on which it begins.
    """
    assert opens([text], shown) == expected


def test_ranges_that_overlap_or_meet_are_one() -> None:
    """A service is open while any range says so."""
    texts = ["08:00-12:00", "11:00-13:00", "13:00-14:00"]
    assert opens(texts, "2026-11-23T13:59:59") is None
    assert opens(texts, "2026-11-23T14:00:00") == "Tue 24 08:00"


@pytest.mark.parametrize("texts", [[], ["00:00-24:00"], ["06:00-22:00", "22:00-06:00"]])
def test_a_service_that_never_closes(texts: list[str]) -> None:
    """Without a range, or with ranges that fill the week, a service is always open."""
    times = AccessTimes.parse(texts, BERLIN)
    assert all(times.closed_until(day * 86_400 + 0.5) is None for day in range(1000))


@pytest.mark.parametrize(
    ("text", "shown", "expected"),
    [
        # 29 March: the clock of Berlin goes from 02:00 to 03:00.
        ("02:15-02:45", "2026-03-29T01:59:59", "Mon 30 02:15"),
        ("02:30-05:00", "2026-03-29T01:59:59", "Sun 29 03:00"),
        ("01:00-02:30", "2026-03-29T01:59:59", None),
        ("01:00-02:30", "2026-03-29T03:00:00", "Mon 30 01:00"),
        ("Sat 22:00-06:00", "2026-03-29T05:59:59", None),
        # 25 October: from 03:00 back to 02:00.
        ("Sun 08:00-09:00", "2026-10-25T01:00:00", "Sun 25 08:00"),
    ],
)
def test_the_clock_is_put_forward_or_back(text: str, shown: str, expected: str | None) -> None:
    """A range inside the missing hour is left out, and one that begins in it opens at
    its end.
    """
    assert opens([text], shown, BERLIN) == expected


def test_the_doubled_hour() -> None:
    """A range in the doubled hour opens twice, and one around it goes on."""
    inside = AccessTimes.parse(["02:15-02:45"], BERLIN)
    first = at("2026-10-25T02:15:00", BERLIN)
    second = at("2026-10-25T02:15:00", BERLIN, second_time=True)
    assert second - first == 3600
    assert inside.closed_until(first - 1) == first
    assert inside.closed_until(first) is None
    assert inside.closed_until(first + 30 * 60) == second
    assert inside.closed_until(second) is None
    around = AccessTimes.parse(["01:00-04:00"], BERLIN)
    assert around.closed_until(second - 1800) is None
    assert around.closed_until(at("2026-10-25T04:00:00", BERLIN)) is not None


def test_a_missing_day() -> None:
    """Samoa had no Friday, 30 December 2011: what is open on Fridays waits a week."""
    apia = ZoneInfo("Pacific/Apia")
    assert opens(["Fri 08:00-09:00"], "2011-12-29T12:00:00", apia) == "Fri 06 08:00"
    assert opens(["Sat 08:00-09:00"], "2011-12-29T12:00:00", apia) == "Sat 31 08:00"


def test_seconds_have_parts() -> None:
    """A service opens and closes at whole seconds."""
    times = AccessTimes.parse(["08:00-18:00"], UTC)
    opening = at("2026-11-23T08:00:00")
    assert times.closed_until(opening - 1e-6) == opening
    assert times.closed_until(opening) is None
    assert times.closed_until(opening + 10 * 3600 - 1e-6) is None
    assert times.closed_until(opening + 10 * 3600) == opening + 86_400


def test_a_clock_that_is_set_back() -> None:
    """The verdict that is kept holds from its own time on, not before."""
    times = AccessTimes.parse(["08:00-18:00"], UTC)
    noon = at("2026-11-23T12:00:00")
    assert times.closed_until(noon) is None
    assert times.closed_until(noon - 6 * 3600) == noon - 4 * 3600
    assert times.closed_until(noon) is None


def test_the_zone_of_the_daemon() -> None:
    """Without a zone, the function that the caller gives tells the time on the wall;
    the time may have no zone itself.
    """
    calls = []

    def local_time(wall_s: float) -> datetime:
        calls.append(wall_s)
        return datetime.fromtimestamp(wall_s, UTC).replace(tzinfo=None) + timedelta(hours=3)

    times = AccessTimes.parse(["08:00-18:00"], None, local_time)
    midnight = at("2026-11-23T00:00:00")
    assert times.closed_until(midnight) == midnight + 5 * 3600
    asked = len(calls)
    assert times.closed_until(midnight + 5 * 3600 - 1) == midnight + 5 * 3600
    assert len(calls) == asked, "a verdict that still holds is made again"


def test_the_zone_of_this_machine() -> None:
    """The default of that function has the zone of this process."""
    now = datetime.now(UTC)
    assert system_time(now.timestamp()) == now
    assert system_time(now.timestamp()).utcoffset() == now.astimezone().utcoffset()


def test_equality() -> None:
    """Times are equal if texts and zone are: a reload that changes neither changes
    nothing.
    """
    times = AccessTimes.parse(["08:00-18:00"], BERLIN)
    times.closed_until(0)
    assert times == AccessTimes.parse(["08:00-18:00"], ZoneInfo("Europe/Berlin"))
    assert times != AccessTimes.parse(["08:00-18:00"], UTC)
    assert times != AccessTimes.parse(["08:00-18:01"], BERLIN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", '"" must be a range of times such as'),
        ("8-18", '"8-18" must be a range'),
        ("08:00", '"08:00" must be a range'),
        ("08:00-18:0", "must be a range"),
        ("08:00 - 18:00", "must be a range"),
        ("Mon-Fri", "must be a range"),
        ("Mon08:00-18:00", "must be a range"),
        ("\u0668:00-18:00", "must be a range"),
        ("08:00-18:00 Mon", "must be a range"),
        ("08:00-18:60", "has the time 18:60; times are 00:00 to 23:59, and 24:00 as an end"),
        ("25:00-26:00", "has the time 25:00"),
        ("08:00-24:01", "has the time 24:01"),
        ("24:00-08:00", "begins at 24:00, which only an end may be"),
        ("08:00-08:00", "begins and ends at the same time; for whole days write 00:00-24:00"),
        ("00:00-00:00", "begins and ends at the same time"),
        ("Monday 08:00-18:00", "names a day that is none of Mon, Tue, Wed, Thu, Fri, Sat, Sun"),
        ("Mon- 08:00-18:00", "names a day that is none of"),
        ("Mon,,Tue 08:00-18:00", "names a day that is none of"),
        ("Mon-Wed-Fri 08:00-18:00", "names a day that is none of"),
        ("\x1b[31m", r'"\u001b[31m" must be a range'),
        ("x" * 1000, f'"{"x" * 120}..." must be a range'),
    ],
)
def test_a_bad_text(text: str, message: str) -> None:
    """A bad text is refused with one sentence that shows it."""
    with pytest.raises(ValueError, match=r".") as refusal:
        AccessTimes.parse(["08:00-18:00", text], UTC)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_range_that_the_clock_skips_each_week() -> None:
    """The search for the opening goes on past each change of the clock."""

    def local_time(wall_s: float) -> datetime:
        # Each Sunday at 02:00 an hour is skipped, and each Wednesday it comes back.
        monday = math.floor(wall_s) - 4 * 86_400
        in_week = monday % (7 * 86_400)
        ahead = not 2 * 86_400 <= in_week < 6 * 86_400 + 2 * 3600
        return datetime.fromtimestamp(wall_s, UTC) + timedelta(hours=int(ahead))

    times = AccessTimes.parse(["Sun 02:15-02:45", "Mon 08:00-09:00"], None, local_time)
    saturday = at("2026-11-28T12:00:00")
    until = times.closed_until(saturday)
    assert until is not None
    assert local_time(until).strftime("%a %H:%M") == "Mon 08:00"
