"""A model of what xinetd does with the access attributes of one service.

Owns the order of its checks and its :class:`Quirk` s: where it differs from what its
manual promises. A model without quirks is what unpd does with the translated rules. It
is pure; the differential test compares both daemons with it.

The order is that of access.c. The parent process checks ``cps``, ``access_times``,
``instances`` and ``per_source``; then it forks, and the child checks the addresses. The
child exits at once if the address is refused, so that it holds a place only until it is
reaped.
"""

import enum
import ipaddress
import zoneinfo
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from tests.support.xinetd.rules import MAPPED, Rules, minutes, networks

Source = ipaddress.IPv4Address | ipaddress.IPv6Address


class Quirk(enum.Enum):
    """Where xinetd differs from its manual, and unpd from xinetd."""

    COUNTS_REFUSED = enum.auto()
    """``cps`` counts connections that another attribute refuses."""
    PAUSES = enum.auto()
    """Over ``cps``, the service is closed for its second number of seconds."""
    FORGETS = enum.auto()
    """After such a pause, ``instances`` counts from 0, whatever is still open."""
    AVERAGES = enum.auto()
    """``cps`` is an average over as many seconds as its first number has."""
    WHOLE_IPV6 = enum.auto()
    """An IPv6 address with the mask /128 matches nobody."""
    NO_MIDNIGHT = enum.auto()
    """A service is not started if a range of ``access_times`` goes over midnight."""


XINETD = frozenset(Quirk)
UNPD: frozenset[Quirk] = frozenset()


@dataclass(slots=True)
class Service:
    """One service of xinetd. ``zone``: whose time of day ``access_times`` means. The
    times are seconds since the epoch, as time(2) returns them.
    """

    rules: Rules
    zone: zoneinfo.ZoneInfo
    quirks: Collection[Quirk] = XINETD
    open: list[Source] = field(default_factory=list)
    running: int = 0
    """How many servers ``instances`` counts."""
    counted: int = 0
    counted_since: int = 0
    paused_until: int | None = None

    def arrive(self, source: Source, now: int) -> bool:
        """Whether a connection of ``source`` is served. If it is, it is open until
        :meth:`leave`.
        """
        if not self._started() or self._paused(now):
            return False
        others = (
            self._open_at(now)
            and self._places()
            and self._places_of(source)
            and address_passes(self.rules, source, self.quirks)
        )
        counts = others or Quirk.COUNTS_REFUSED in self.quirks
        if counts and self._too_many(now):
            return False
        if others:
            self.open.append(source)
            self.running += 1
        return others

    def leave(self, source: Source) -> None:
        """One of the open connections of ``source`` ends."""
        self.open.remove(source)
        self.running = max(0, self.running - 1)

    def _started(self) -> bool:
        if Quirk.NO_MIDNIGHT not in self.quirks:
            return True
        return all(start < end for start, end in map(minutes, self.rules.access_times))

    def _paused(self, now: int) -> bool:
        if self.paused_until is None:
            return False
        if now < self.paused_until:
            return True
        self.paused_until = None
        if Quirk.FORGETS in self.quirks:
            self.running = 0
        return False

    def _too_many(self, now: int) -> bool:
        """Count a connection for ``cps``. Whether it is one too many."""
        cps = self.rules.cps
        if cps is None or cps.count == 0:
            return False
        averages = Quirk.AVERAGES in self.quirks
        passed_s = now - self.counted_since
        if self.counted == 0 or passed_s >= (cps.count if averages else 1):
            self.counted, self.counted_since = 1, now
            return False
        self.counted += 1
        if self.counted // max(passed_s, 1) <= cps.count:
            return False
        if Quirk.PAUSES in self.quirks:
            self.paused_until = now + cps.pause_s
        return True

    def _open_at(self, now: int) -> bool:
        ranges = self.rules.access_times
        local = datetime.fromtimestamp(now, self.zone)
        return not ranges or any(
            _inside(local.hour * 60 + local.minute, *minutes(text)) for text in ranges
        )

    def _places(self) -> bool:
        return self.rules.instances is None or self.running < self.rules.instances

    def _places_of(self, source: Source) -> bool:
        limit = self.rules.per_source
        return limit is None or self.open.count(source) < limit


def _inside(minute: int, start: int, end: int) -> bool:
    if start <= end:
        return start <= minute <= end
    return minute >= start or minute <= end


def address_passes(rules: Rules, source: Source, quirks: Collection[Quirk] = XINETD) -> bool:
    """Whether the two lists let ``source`` in. An address in both is refused, whichever
    entry is the narrower one.
    """
    seen = _as_seen(source, rules)
    if rules.no_access is not None and _matches(rules.no_access, seen, quirks):
        return False
    return rules.only_from is None or _matches(rules.only_from, seen, quirks)


def _as_seen(source: Source, rules: Rules) -> Source:
    if rules.dual_stack and source.version == 4:
        return ipaddress.IPv6Address(int(MAPPED.network_address) | int(source))
    return source


def _matches(entries: Iterable[str], source: Source, quirks: Collection[Quirk]) -> bool:
    """An IPv4 entry matches an IPv4 client of an IPv6 socket too, and so does an IPv6
    network that contains the mapped addresses, such as ::/0.
    """
    mapped = source.ipv4_mapped if isinstance(source, ipaddress.IPv6Address) else None
    return any(
        source in network or (mapped is not None and mapped in network)
        for entry in entries
        if not (Quirk.WHOLE_IPV6 in quirks and ":" in entry and entry.endswith("/128"))
        for network in networks(entry)
    )
