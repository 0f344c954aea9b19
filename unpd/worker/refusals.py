"""The log lines about refusals, and about clients that wait at a limit: few, whatever
floods, and true in their sums.

The first refusal of a source gives a line at once. Those that follow are summed up into
one line a second. A source is a host, or a /64 of IPv6, that a service refuses for one
reason; a load balancer without a proper header is refused for that. A line stands for
as many refusals as its field ``count`` says, so the sum of that field is the number
of refusals.

The memory is bounded, and so are the lines: the table holds MAX_SOURCES sources, and
the refusals of all others are summed up into one line for each service, kind and
second. A source that was not refused since the last sum is forgotten. So a process
writes at most MAX_SOURCES lines and four for each service within PERIOD_S: one for the
others of each kind, and one about clients that wait. No line is longer than PIPE_BUF
(:mod:`unpd.logs`), so that the bytes are bounded too.

Owns the table of one process. A worker and a dispatcher call it, with the time: at each
refusal, at ``next_at``, and before they exit. Nothing else wakes it, so a process whose
clients have all gone has to come back at ``next_at``. A refusal without a line costs
0.3 us: the text of an address, which costs up to 12 us, is made for lines alone. Writes
to the log, and raises nothing.
"""

import enum
import math
from dataclasses import dataclass

from unpd.access.decide import Verdict
from unpd.access.peer import Peer, prefix
from unpd.access.proxy_header import NoHeader
from unpd.log_events.row import Field
from unpd.logs import Log

MAX_SOURCES = 32
V4_BITS, V6_BITS = 32, 64
"""The peers that share so many bits are one source here: a client has a whole /64, and
could have a line for each of its addresses.
"""
PERIOD_S = 1.0
"""How often refusals are summed up."""
OTHERS = "others"
"""The peer of a line about sources for which the table has no room."""
SEVERAL = "several"
"""The reason of such a line where they were refused for more than one."""


class _Kind(enum.IntEnum):
    """What the line of a refusal says."""

    REFUSED = enum.auto()
    OBSERVED = enum.auto()
    NO_HEADER = enum.auto()


# To look up a member in its enum costs 0.1 us, because Python 3.11 does it through a
# property.
_REFUSED, _OBSERVED, _NO_HEADER = _Kind


@dataclass(slots=True)
class _Sum:
    """Refusals that one line will stand for. ``peer``: None for all those for which the
    table has no room. ``last``: on the last one; None for all those. ``count``: how
    many no line stands for yet.
    """

    kind: _Kind
    service: str
    peer: Peer | None
    reason: str
    last: Verdict | NoHeader | None
    count: int = 0


class RefusalLines:
    """The lines of one process. ``next_at``: when to call :meth:`flush` next; inf while
    the table is empty.
    """

    def __init__(self, log: Log) -> None:
        self.next_at = math.inf
        self._log = log
        self._sources: dict[tuple[object, ...], _Sum] = {}
        self._others: dict[tuple[str, _Kind], _Sum] = {}
        self._held_back_at: dict[str, float] = {}  # when a service may have its next line

    def refused(self, service: str, peer: Peer, verdict: Verdict, now: float) -> None:
        """Take a connection or a datagram that was refused at the time ``now``
        (monotonic seconds).
        """
        self._take(_REFUSED, service, peer, verdict)
        self._come_back(now)

    def would_refuse(self, service: str, peer: Peer, verdict: Verdict, now: float) -> None:
        """Take one that was let in, because the reason to refuse it is only
        observed.
        """
        self._take(_OBSERVED, service, peer, verdict)
        self._come_back(now)

    def no_header(self, service: str, peer: Peer, fault: NoHeader, now: float) -> None:
        """Take a connection of a load balancer that told no client."""
        self._take(_NO_HEADER, service, peer, fault)
        self._come_back(now)

    def held_back(self, service: str, waiting: int, limit: Verdict, now: float) -> None:
        """Take that ``waiting`` clients stay in an accept queue because of a limit. A
        service has one line in PERIOD_S.
        """
        if now >= self._held_back_at.get(service, -math.inf):
            self._held_back_at[service] = now + PERIOD_S
            self._log.event(
                "service.at_limit",
                service=service,
                reason=limit.reason,
                **_grounds(limit),
                waiting=waiting,
            )

    def _come_back(self, now: float) -> None:
        if self.next_at == math.inf:
            self.next_at = now + PERIOD_S

    def _take(self, kind: _Kind, service: str, peer: Peer, why: Verdict | NoHeader) -> None:
        reason = why.reason
        key = (kind, service, prefix(peer, V4_BITS, V6_BITS), reason)
        source = self._sources.get(key)
        if source is not None:
            source.last = why
            source.count += 1
        elif len(self._sources) < MAX_SOURCES:
            source = self._sources[key] = _Sum(kind, service, peer, reason, why)
            self._write(source, 1)
        else:
            others = self._others.get((service, kind))
            if others is None:
                others = self._others[service, kind] = _Sum(kind, service, None, reason, None)
            elif others.reason != reason:
                others.reason = SEVERAL
            others.count += 1

    def flush(self, now: float) -> None:
        """Write the sums, if it is time."""
        if now >= self.next_at:
            self.finish()
            self.next_at = now + PERIOD_S if self._sources else math.inf

    def finish(self) -> None:
        """Write the sums now, because the process is about to exit. Forget the sources
        that have none.
        """
        self._sources = {key: source for key, source in self._sources.items() if source.count}
        for summed in (*self._sources.values(), *self._others.values()):
            self._write(summed, summed.count)
            summed.count = 0
        self._others.clear()

    def _write(self, summed: _Sum, count: int) -> None:
        service, reason = summed.service, summed.reason
        peer = OTHERS if summed.peer is None else summed.peer.text
        grounds = _grounds(summed.last)
        match summed.kind:
            case _Kind.REFUSED:
                self._log.event(
                    "connection.refused",
                    service=service,
                    peer=peer,
                    reason=reason,
                    **grounds,
                    count=count,
                )
            case _Kind.OBSERVED:
                self._log.event(
                    "connection.would_be_refused",
                    service=service,
                    peer=peer,
                    reason=reason,
                    **grounds,
                    count=count,
                )
            case _Kind.NO_HEADER:
                self._log.event(
                    "connection.no_header",
                    service=service,
                    peer=peer,
                    reason=reason,
                    **grounds,
                    count=count,
                )


def _grounds(why: Verdict | NoHeader | None) -> dict[str, Field]:
    """The fields that say what decided, without those that are not known."""
    match why:
        case Verdict():
            return _grounds_of(why)
        case NoHeader(detail=detail) if detail:
            return {"detail": detail}
    return {}


def _grounds_of(verdict: Verdict) -> dict[str, Field]:
    grounds: dict[str, Field] = {}
    if verdict.value is not None:
        grounds |= {"value": _shown(verdict.value), "limit": _shown(verdict.limit)}
    if verdict.rule is not None:
        grounds["rule"] = verdict.rule.text
        if verdict.rule.origin.file:
            grounds |= {"file": verdict.rule.origin.file, "line": verdict.rule.origin.line}
    return grounds


def _shown(value: float | None) -> float | None:
    """A number for people: without ".0" if it is whole."""
    rounded = None if value is None else round(value, 3)
    return int(rounded) if rounded is not None and rounded == int(rounded) else rounded
