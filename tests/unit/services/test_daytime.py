"""The daytime service: formats, time zones, seconds, options."""

import calendar
import locale
import os
import sys
import time
import zoneinfo
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from unpd.services.daytime import Daytime, DaytimeOptions, zone

NOON_S = calendar.timegm((2026, 11, 22, 12, 24, 0))
FIRST_OF_MONTH_S = calendar.timegm((2026, 11, 1, 3, 4, 5))
RFC_EXAMPLE_S = calendar.timegm((1982, 2, 23, 1, 37, 43))


@pytest.fixture
def berlin() -> Iterator[None]:
    """Set the time zone of this process to Berlin's for one test."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def line(wall_s: float, form: str, timezone: str) -> bytes:
    """The line of a daytime service with these options at ``wall_s``."""
    return Daytime(DaytimeOptions.model_validate({"format": form, "timezone": timezone})).greet(
        wall_s
    )


@pytest.mark.parametrize(
    ("wall_s", "form", "timezone", "expected"),
    [
        (NOON_S, "ctime", "UTC", b"Sun Nov 22 12:24:00 2026\r\n"),
        (FIRST_OF_MONTH_S, "ctime", "UTC", b"Sun Nov  1 03:04:05 2026\r\n"),
        (0, "ctime", "UTC", b"Thu Jan  1 00:00:00 1970\r\n"),
        (NOON_S, "ctime", "Europe/Berlin", b"Sun Nov 22 13:24:00 2026\r\n"),
        (NOON_S, "rfc867", "UTC", b"Sunday, November 22, 2026 12:24:00-UTC\r\n"),
        (FIRST_OF_MONTH_S, "rfc867", "UTC", b"Sunday, November 1, 2026 03:04:05-UTC\r\n"),
        (
            RFC_EXAMPLE_S,
            "rfc867",
            "America/Los_Angeles",
            b"Monday, February 22, 1982 17:37:43-PST\r\n",
        ),
        (NOON_S, "rfc867", "America/Sao_Paulo", b"Sunday, November 22, 2026 09:24:00--03\r\n"),
        (NOON_S, "iso8601", "UTC", b"2026-11-22T12:24:00+00:00\r\n"),
        (NOON_S, "iso8601", "Asia/Kolkata", b"2026-11-22T17:54:00+05:30\r\n"),
    ],
)
def test_formats(wall_s: float, form: str, timezone: str, expected: bytes) -> None:
    """The line has the configured format and time zone. (The example in the RFC names
    the wrong day of the week.)
    """
    assert line(wall_s, form, timezone) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("ctime", b"Sun Nov 22 13:24:00 2026\r\n"),
        ("rfc867", b"Sunday, November 22, 2026 13:24:00-CET\r\n"),
        ("iso8601", b"2026-11-22T13:24:00+01:00\r\n"),
    ],
)
@pytest.mark.usefixtures("berlin")
def test_local(form: str, expected: bytes) -> None:
    """The zone "local" is that of the machine."""
    assert line(NOON_S, form, "local") == expected


@pytest.mark.usefixtures("berlin")
def test_local_clock_change() -> None:
    """In the hour that occurs twice, the offsets tell the two moments apart."""
    before = calendar.timegm((2026, 10, 25, 0, 30, 0))
    assert line(before, "iso8601", "local") == b"2026-10-25T02:30:00+02:00\r\n"
    assert line(before + 3600, "iso8601", "local") == b"2026-10-25T02:30:00+01:00\r\n"
    assert line(before + 3600, "iso8601", "Europe/Berlin") == b"2026-10-25T02:30:00+01:00\r\n"


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999])
def test_fraction_of_a_second(fraction: float) -> None:
    """A fraction of a second is rounded down, as with ctime(3)."""
    assert line(NOON_S + fraction, "ctime", "UTC") == b"Sun Nov 22 12:24:00 2026\r\n"


def test_each_second_has_its_line() -> None:
    """One service returns the line for the second of each call, also when the clock is
    set back.
    """
    service = Daytime(DaytimeOptions(timezone="UTC"))
    asked = (NOON_S, NOON_S + 0.9, NOON_S + 1, NOON_S, NOON_S + 61)
    assert [service.greet(wall_s)[14:19] for wall_s in asked] == [
        b"24:00",
        b"24:00",
        b"24:01",
        b"24:00",
        b"25:01",
    ]


def test_agrees_with_ctime() -> None:
    """In the C locale the format "ctime" is that of the C library, for all months and
    days of the week.
    """
    assert locale.setlocale(locale.LC_TIME) == "C"
    for day in range(366):
        moment_s = NOON_S + day * 86_400
        assert line(moment_s, "ctime", "UTC").decode() == time.strftime(
            "%a %b %e %H:%M:%S %Y\r\n", time.gmtime(moment_s)
        )


def test_same_moment_same_line() -> None:
    """One service answers any moments in any order: no call changes the result of
    another.
    """
    service = Daytime(DaytimeOptions(timezone="UTC"))
    first = service.greet(NOON_S)
    assert service.greet(0) != first
    assert service.greet(NOON_S) == first


def test_no_conversation() -> None:
    """The greeting is all: the server closes after it."""
    service = Daytime(DaytimeOptions())
    assert service.converse() is None  # type: ignore[func-returns-value]


def test_answers_a_datagram_with_the_line_of_its_time() -> None:
    """Whatever the datagram holds; RFC 867 has an empty one."""
    service = Daytime(DaytimeOptions(timezone="UTC"))
    assert service.answer(b"", ("127.0.0.1", 4711), NOON_S) == service.greet(NOON_S)
    assert service.answer(b"what time is it?", None, NOON_S) == service.greet(NOON_S)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "Europe/Berln",
            (
                'there is no time zone "Europe/Berln"; use "local", "UTC" or an IANA name such as'
                ' "Europe/Berlin"'
            ),
        ),
        (
            "",
            'there is no time zone ""; use "local", "UTC" or an IANA name such as "Europe/Berlin"',
        ),
        (
            "../../etc/passwd",
            (
                'there is no time zone "../../etc/passwd"; use "local", "UTC" or an IANA name such'
                ' as "Europe/Berlin"'
            ),
        ),
        (
            "/etc/passwd",
            (
                'there is no time zone "/etc/passwd"; use "local", "UTC" or an IANA name such as'
                ' "Europe/Berlin"'
            ),
        ),
        (
            "\x1b[2J\0",
            (
                'there is no time zone "?[2J?"; use "local", "UTC" or an IANA name such as'
                ' "Europe/Berlin"'
            ),
        ),
        (
            "zone.tab",
            (
                'there is no time zone "zone.tab"; use "local", "UTC" or an IANA name such as'
                ' "Europe/Berlin"'
            ),
        ),
        (
            "x" * 100_000,
            (
                f'there is no time zone "{"x" * 64}"; use "local", "UTC" or an IANA name such as'
                ' "Europe/Berlin"'
            ),
        ),
    ],
)
def test_unknown_zone(name: str, sentence: str) -> None:
    """An unknown zone is refused when the options are made, with what would be right.
    (unpd.config suggests the nearest name.)
    """
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is compared below, whole
        zone(name)
    assert str(caught.value) == sentence
    with pytest.raises(ValidationError, match="there is no time zone"):
        DaytimeOptions(timezone=name)


def test_unknown_options() -> None:
    """Unknown formats and keys are refused, and options cannot be changed."""
    with pytest.raises(ValidationError):
        DaytimeOptions.model_validate({"format": "unix"})
    with pytest.raises(ValidationError):
        DaytimeOptions.model_validate({"zone": "UTC"})
    with pytest.raises(ValidationError):
        DaytimeOptions().format = "iso8601"  # type: ignore[misc]


@pytest.fixture
def no_zones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take this system's time zones and those of the package tzdata away."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tzdata"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tzdata", None)
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(to=before)


@pytest.mark.usefixtures("no_zones")
def test_no_zones_at_all() -> None:
    """Without a database of time zones, the sentence says which package has one, and
    does not suggest a name that will not work either. "local" and "UTC" work.
    """
    with pytest.raises(ValueError, match="time zone") as caught:
        zone("Europe/Berlin")
    assert str(caught.value) == (
        'the time zone "Europe/Berlin" is not known, because this system has no time zone'
        ' database: install the package tzdata, or use "local" or "UTC"'
    )
    assert line(NOON_S, "ctime", "UTC") == b"Sun Nov 22 12:24:00 2026\r\n"
    assert zone("local") is None
