"""Daytime (RFC 867): the server sends the date and the time, and closes; it answers
each datagram with the same line.

The names of days and months are English in every locale. The service keeps its line for
the rest of the second: making a line takes 2 of the 30 microseconds that a connection
costs.

Called by the table of services, the configuration and the engine. Raises ValueError
with one sentence for an unknown time zone, while the options are validated.

Known gap: with ``timezone = "local"``, a change of /etc/localtime takes effect only
after a restart, because the C library reads that file once.
"""

import math
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from types import MappingProxyType
from typing import Annotated, Literal

from unpd.libraries import AfterValidator, Field
from unpd.services.base import Options, Peer, Piece, UnknownNameError

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

_LONG_DAY = datetime(2026, 9, 30, 12, tzinfo=UTC)
"""A Wednesday in September."""


def _known_zone(name: str) -> str:
    zone(name)
    return name


class DaytimeOptions(Options):
    """The keys that only daytime services have."""

    format: Literal["ctime", "rfc867", "iso8601"] = Field(
        "ctime", description='"ctime", "rfc867" or "iso8601"'
    )
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field(
        "local", description='"local", "UTC" or an IANA name such as "Europe/Berlin"'
    )


def zone(name: str) -> tzinfo | None:
    """The time zone called ``name``; None for "local", the zone of this machine.

    UnknownNameError if no such zone exists, ValueError with one sentence if this system
    has no zones at all.
    """
    if name == "local":
        return None
    if name == "UTC":  # works without a zone database
        return UTC
    found = _load_zone(name)
    if found is None:
        shown = "".join(
            character if character.isprintable() else "?"
            for character in name[:MAX_SHOWN_CHARACTERS]
        )
        if _load_zone("Etc/UTC") is None:
            raise ValueError(
                f'the time zone "{shown}" is not known, because this system has no time zone'
                ' database: install the package tzdata, or use "local" or "UTC"'
            )
        raise UnknownNameError(
            f'there is no time zone "{shown}"',
            shown,
            _known_zones,
            'use "local", "UTC" or an IANA name such as "Europe/Berlin"',
        )
    return found


def _load_zone(name: str) -> tzinfo | None:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _known_zones() -> tuple[str, ...]:
    """The names of all zones. It takes up to 50 ms, because it opens each file of the
    database.
    """
    return ("local", "UTC", *sorted(zoneinfo.available_timezones()))


def ctime(moment: datetime) -> str:
    """The format of the C library, with the day of the month padded with a space:
    ``Sun Nov  1 12:24:00 2026``.
    """
    day, month = DAYS[moment.weekday()][:ABBREVIATION], MONTHS[moment.month - 1][:ABBREVIATION]
    return f"{day} {month} {moment.day:2} {_clock(moment)} {moment.year}"


def rfc867(moment: datetime) -> str:
    """The format of the first example in RFC 867: ``Sunday, November 22, 2026
    12:24:00-UTC``. A zone without an abbreviation shows its offset (``-+03``).
    """
    return (
        f"{DAYS[moment.weekday()]}, {MONTHS[moment.month - 1]} {moment.day}, {moment.year}"
        f" {_clock(moment)}-{moment.tzname()}"
    )


def iso8601(moment: datetime) -> str:
    """ISO 8601 with the offset from UTC, also valid in RFC 3339:
    ``2026-11-22T12:24:00+00:00``.
    """
    return moment.isoformat(timespec="seconds")


def _clock(moment: datetime) -> str:
    return f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}"


FORMATS: Mapping[str, Callable[[datetime], str]] = MappingProxyType(
    {"ctime": ctime, "rfc867": rfc867, "iso8601": iso8601}
)


def answer_sizes(options: DaytimeOptions) -> tuple[int, ...]:
    """How many bytes the answer to a datagram has on a day with a long name."""
    return (len(Daytime(options).greet(_LONG_DAY.timestamp())),)


class Daytime:
    """The daytime service. Its line ends with CR LF, as in similar protocols."""

    def __init__(self, options: DaytimeOptions) -> None:
        self._zone = zone(options.timezone)
        self._format = FORMATS[options.format]
        self._last: tuple[int, bytes] = (-1, b"")

    def greet(self, wall_s: float) -> bytes:
        """The line for ``wall_s`` seconds since the epoch, rounded down to a second."""
        second = math.floor(wall_s)
        last_second, line = self._last
        if second != last_second:
            line = self._line(second)
            self._last = second, line
        return line

    def _line(self, second: int) -> bytes:
        moment = datetime.fromtimestamp(second, self._zone or UTC)
        if self._zone is None:
            moment = moment.astimezone()
        return f"{self._format(moment)}\r\n".encode("ascii", "replace")

    def converse(self) -> None:
        """None: the server closes after the greeting and discards what the client sends
        (RFC 867).
        """

    def answer(self, piece: Piece, peer: Peer, now: float) -> bytes:
        """The line for ``now``, whatever the client sent."""
        return self.greet(now)
