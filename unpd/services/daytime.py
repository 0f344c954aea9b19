"""Daytime (RFC 867): the server says the date and the time, and closes.

Names of days and months are English whatever the locale. Known gap: with ``timezone =
"local"`` a change of /etc/localtime is seen after a restart, because the C library
reads it once.

The line is kept for the rest of its second: making it takes 2 of the 30 microseconds
that a connection costs.
"""

import difflib
import math
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from types import MappingProxyType
from typing import Annotated, Literal

from unpd.libraries import AfterValidator, Field
from unpd.services.base import Options

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
ABBREVIATION = 3

MAX_SHOWN_CHARACTERS = 64


def _zone_known(name: str) -> str:
    zone(name)
    return name


class DaytimeOptions(Options):
    """The keys of ``[services.daytime]`` that no other service has."""

    format: Literal["ctime", "rfc867", "iso8601"] = Field(
        "ctime", description='"ctime", "rfc867" or "iso8601"'
    )
    timezone: Annotated[str, AfterValidator(_zone_known)] = Field(
        "local", description='"local", "UTC" or an IANA name such as "Europe/Berlin"'
    )


def zone(name: str) -> tzinfo | None:
    """The time zone of ``name``; None stands for the machine's own. ValueError, one
    clear sentence, if there is none.
    """
    if name == "local":
        return None
    if name == "UTC":  # works without a zone database
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(_no_zone(name)) from None


def _no_zone(name: str) -> str:
    shown = "".join(
        character if character.isprintable() else "?" for character in name[:MAX_SHOWN_CHARACTERS]
    )
    known = {
        candidate.lower(): candidate
        for candidate in ("local", "UTC", *sorted(zoneinfo.available_timezones()))
    }
    close = difflib.get_close_matches(shown.lower(), known, n=1)
    advice = (
        f'did you mean "{known[close[0]]}"?'
        if close
        else 'use "local", "UTC" or an IANA name such as "Europe/Berlin"'
    )
    return f'there is no time zone "{shown}"; {advice}'


def ctime(moment: datetime) -> str:
    """As the C library has it, the day of the month padded with a space: ``Sun Nov  1
    12:24:00 2026``.
    """
    day, month = DAYS[moment.weekday()][:ABBREVIATION], MONTHS[moment.month - 1][:ABBREVIATION]
    return f"{day} {month} {moment.day:2} {_clock(moment)} {moment.year}"


def rfc867(moment: datetime) -> str:
    """The first example of RFC 867: ``Sunday, November 22, 2026 12:24:00-UTC``. A zone
    without an abbreviation shows its offset (``-+03``).
    """
    return (
        f"{DAYS[moment.weekday()]}, {MONTHS[moment.month - 1]} {moment.day}, {moment.year}"
        f" {_clock(moment)}-{moment.tzname()}"
    )


def iso8601(moment: datetime) -> str:
    """ISO 8601 with the offset from UTC, which is also RFC 3339:
    ``2026-11-22T12:24:00+00:00``.
    """
    return moment.isoformat(timespec="seconds")


def _clock(moment: datetime) -> str:
    return f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}"


FORMATS: Mapping[str, Callable[[datetime], str]] = MappingProxyType(
    {"ctime": ctime, "rfc867": rfc867, "iso8601": iso8601}
)


class Daytime:
    """The daytime service. A line ends with CR LF, as the protocols of its
    family do.
    """

    def __init__(self, options: DaytimeOptions) -> None:
        self._zone = zone(options.timezone)
        self._format = FORMATS[options.format]
        self._kept: tuple[int, bytes] = (-1, b"")

    def greet(self, wall_s: float) -> bytes:
        """The line for ``wall_s`` seconds since the epoch; a begun second counts as its
        start.
        """
        second = math.floor(wall_s)
        kept_second, line = self._kept
        if second != kept_second:
            line = self._line(second)
            self._kept = second, line
        return line

    def _line(self, second: int) -> bytes:
        moment = datetime.fromtimestamp(second, self._zone or UTC)
        if self._zone is None:
            moment = moment.astimezone()
        return f"{self._format(moment)}\r\n".encode("ascii", "replace")

    def converse(self) -> None:
        """The greeting was all; what the client sends is thrown away (RFC 867)."""
