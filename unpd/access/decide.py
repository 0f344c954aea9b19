"""The decision about one peer: may it use a service now, and if not, why not.

The order is fixed: a live denial, ``deny``, ``allow``, ``access_times``,
``max_pressure``, ``max_load``, ``max_connections``, ``max_per_source``,
``accept_rate``, ``accept_rate_per_source``. So an address in ``deny`` is refused
whatever ``allow`` says, as in xinetd, and a peer that no rule lets in costs no count.
The first reason refuses. A reason that is only observed does not, so the decision goes
on to the next. A service that an operator has halted refuses before all that, without
a decision (:mod:`unpd.worker.admission`).

A limit of the service keeps clients in the accept queue where the terms say so
(``queued``). :meth:`Decider.room` and :meth:`Decider.holds_back` decide about such
limits before the accept, and :meth:`Decider.decide` not again after it: if another
process has let in a client meanwhile, that is the one too many that the counts allow.

Each reason has a function here that makes its check: a closure over the limit of the
terms and the count that it compares. So a decision costs one call for each reason that
the terms have, and reads no terms.

Workers and dispatchers call it at each accept and for each datagram, ``unpd explain``
for a peer that a person names. Calls the modules of unpd.access. Raises nothing of its
own; the counts may raise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

from unpd.access.peer import UNIX, Peer
from unpd.access.rate import Rate
from unpd.access.rules import NOWHERE, Entry
from unpd.access.terms import AccessTerms
from unpd.names import RefusalReason, Resource

Admitted = tuple[int, int, float]
"""How many were admitted in this window of a rate and in the one before, and which part
of the one before still counts (:mod:`unpd.access.rate`).
"""


class Clocks(Protocol):
    """The time of a decision on both clocks. Only ``access_times`` read the one on the
    wall, and a verdict the monotonic one.
    """

    @property
    def now(self) -> float:
        """Monotonic seconds."""

    @property
    def wall_s(self) -> float:
        """Seconds since the epoch."""


class Moment(NamedTuple):
    """One time on both clocks, as in :class:`Clocks`."""

    now: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class LiveDenial:
    """What is known about a live denial. ``rule``: the network that is denied.
    ``until``: when it ends, in monotonic seconds; a worker does not know that.
    """

    rule: Entry | None = None
    until: float | None = None


class Counts(Protocol):
    """The counts of one service, and of the source of the peer in question. A method is
    called only if the terms have a limit that needs it and no earlier reason has
    refused, so it may do some work.
    """

    def denial(self, peer: Peer) -> LiveDenial | None:
        """The live denial of this peer."""

    def pressure(self, resource: Resource) -> float | None:
        """How long processes wait for a resource, in per cent; None if unknown."""

    def load(self) -> float | None:
        """The load average of the last minute; None if unknown."""

    def service_open(self) -> int:
        """How many connections the service has open."""

    def source_open(self) -> int:
        """How many of them its source has open."""

    def service_rate(self) -> Admitted:
        """How many were admitted within the windows of ``accept_rate``."""

    def source_rate(self) -> Admitted:
        """How many of its source were, within those of ``accept_rate_per_source``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reason to refuse a peer.

    ``rule``: the entry of a list that holds for the peer; for another reason, the key
    that refuses. None if it is unknown. ``value`` and ``limit``: what was compared, as
    open connections before this one, estimated connections within a window, per cent;
    None where nothing was. ``frees_at``: when the reason will have passed, in monotonic
    seconds, if nothing else changes; None if that is never, or cannot be known.
    """

    reason: RefusalReason
    rule: Entry | None = None
    value: float | None = None
    limit: float | None = None
    frees_at: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """``refusal``: the reason that refuses the peer, None if it is let in.
    ``observed``: the reasons that would have refused it before, in order, but are only
    observed. If all were enforced, the first of them alone would refuse.
    """

    refusal: Verdict | None = None
    observed: tuple[Verdict, ...] = ()


ADMITTED = Decision()


Check = Callable[[Peer, Clocks], Verdict | None]
"""Tells whether one reason refuses a peer."""
_OF_PEERS = frozenset((RefusalReason.DENIED, RefusalReason.DENY, RefusalReason.ALLOW))
"""The reasons that depend on who the peer is, whatever the time and the counts."""
_OF_SOURCES = frozenset((RefusalReason.MAX_PER_SOURCE, RefusalReason.ACCEPT_RATE_PER_SOURCE))
"""The reasons that depend on the counts of its source alone."""


class Decider:
    """Decides about the peers of a service with these ``terms`` and ``counts``.
    ``room`` tells how many clients may be taken out of the accept queue now, one of the
    reasons of which must be queued: 0 or less exactly when :meth:`holds_back` has a
    verdict. ``limits_sources_alone``: beyond lists, there are limits of its source, and
    no others.
    """

    def __init__(self, terms: AccessTerms, counts: Counts) -> None:
        self._observe = terms.observe
        self._checks = tuple(_CHECKS[reason](terms, counts) for reason in terms.decided)
        beyond = [reason for reason in terms.decided if reason not in _OF_PEERS]
        self._beyond_peers = tuple(_CHECKS[reason](terms, counts) for reason in beyond)
        self.limits_sources_alone = bool(beyond) and _OF_SOURCES.issuperset(beyond)
        self._lists = terms.deny, terms.allow
        self._queued = tuple(_CHECKS[reason](terms, counts) for reason in terms.queued)
        self.room = _least([_ROOMS[reason](terms, counts) for reason in terms.queued])

    def lists_pass(self, peer: Peer) -> bool:
        """Whether ``deny`` and ``allow`` let a peer in, now and later."""
        deny, allow = self._lists
        return not deny.find(peer) and (not allow or allow.find(peer) is not None)

    def decide(self, peer: Peer, at: Clocks, *, passes: bool = False) -> Decision:
        """Decide about a peer that was accepted, or about a datagram of it.
        ``passes``: the caller knows that no live denial and no list refuses it; they
        are not asked.
        """
        observed: tuple[Verdict, ...] = ()
        for check in self._beyond_peers if passes else self._checks:
            verdict = check(peer, at)
            if verdict is None:
                continue
            if verdict.reason not in self._observe:
                return Decision(verdict, observed)
            observed = (*observed, verdict)
        return Decision(None, observed) if observed else ADMITTED

    def holds_back(self, at: Clocks) -> Verdict | None:
        """The limit because of which no client is taken out of the accept queue now."""
        for check in self._queued:
            verdict = check(_NOBODY, at)
            if verdict is not None:
                return verdict
        return None


def look_at(
    reason: RefusalReason, terms: AccessTerms, counts: Counts, peer: Peer, at: Clocks
) -> Verdict | None:
    """What one reason alone says, whose term must be set: for an explanation."""
    return _CHECKS[reason](terms, counts)(peer, at)


_NOBODY = Peer(UNIX)
"""Stands for the peer where none is known: no limit of the accept queue looks at it."""


# --- one check for each reason, whose term is set -------------------------------------


def _denied(_terms: AccessTerms, counts: Counts) -> Check:
    find = counts.denial

    def check(peer: Peer, _at: Clocks) -> Verdict | None:
        denial = find(peer)
        if denial is None:
            return None
        return Verdict(RefusalReason.DENIED, denial.rule, frees_at=denial.until)

    return check


def _deny(terms: AccessTerms, _counts: Counts) -> Check:
    find = terms.deny.find

    def check(peer: Peer, _at: Clocks) -> Verdict | None:
        entry = find(peer)
        return Verdict(RefusalReason.DENY, entry) if entry else None

    return check


def _allow(terms: AccessTerms, _counts: Counts) -> Check:
    find = terms.allow.find

    def check(peer: Peer, _at: Clocks) -> Verdict | None:
        if find(peer):
            return None
        return Verdict(RefusalReason.ALLOW, terms.keys.get(RefusalReason.ALLOW))

    return check


def _access_times(terms: AccessTerms, _counts: Counts) -> Check:
    def check(_peer: Peer, at: Clocks) -> Verdict | None:
        wall_s = at.wall_s
        opens = terms.access_times.closed_until(wall_s) if terms.access_times else None
        if opens is None:
            return None
        reason = RefusalReason.ACCESS_TIMES
        return Verdict(reason, terms.keys.get(reason), frees_at=at.now + (opens - wall_s))

    return check


def _max_pressure(terms: AccessTerms, counts: Counts) -> Check:
    def check(_peer: Peer, _at: Clocks) -> Verdict | None:
        reason = RefusalReason.MAX_PRESSURE
        for resource, limit in terms.max_pressure:
            value = counts.pressure(resource)
            if value is not None and value > limit:
                return Verdict(reason, _pressure_key(terms, resource, limit), value, limit)
        return None

    return check


def _pressure_key(terms: AccessTerms, resource: Resource, limit: float) -> Entry:
    """The part of the table ``max_pressure`` that refuses."""
    table = terms.keys.get(RefusalReason.MAX_PRESSURE)
    return Entry(f"max_pressure.{resource} = {limit:g}", table.origin if table else NOWHERE)


def _max_load(terms: AccessTerms, counts: Counts) -> Check:
    def check(_peer: Peer, _at: Clocks) -> Verdict | None:
        value, limit = counts.load(), terms.max_load
        if value is None or value <= limit:
            return None
        reason = RefusalReason.MAX_LOAD
        return Verdict(reason, terms.keys.get(reason), value, limit)

    return check


def _max_connections(terms: AccessTerms, counts: Counts) -> Check:
    return _max_open(
        RefusalReason.MAX_CONNECTIONS, terms, terms.max_connections, counts.service_open
    )


def _max_per_source(terms: AccessTerms, counts: Counts) -> Check:
    return _max_open(RefusalReason.MAX_PER_SOURCE, terms, terms.max_per_source, counts.source_open)


def _max_open(
    reason: RefusalReason, terms: AccessTerms, limit: int, are_open: Callable[[], int]
) -> Check:
    def check(_peer: Peer, _at: Clocks) -> Verdict | None:
        value = are_open()
        if value < limit:
            return None
        return Verdict(reason, terms.keys.get(reason), value, limit)

    return check


def _accept_rate(terms: AccessTerms, counts: Counts) -> Check:
    return _rate(RefusalReason.ACCEPT_RATE, terms, terms.accept_rate, counts.service_rate)


def _accept_rate_per_source(terms: AccessTerms, counts: Counts) -> Check:
    reason, rate = RefusalReason.ACCEPT_RATE_PER_SOURCE, terms.accept_rate_per_source
    return _rate(reason, terms, rate, counts.source_rate)


def _rate(
    reason: RefusalReason, terms: AccessTerms, rate: Rate | None, lately: Callable[[], Admitted]
) -> Check:
    def check(_peer: Peer, at: Clocks) -> Verdict | None:
        admitted = lately()
        if rate is None or not rate.exceeded(*admitted):
            return None
        estimate, frees_at = rate.estimate(*admitted), at.now + rate.frees_in_s(*admitted)
        return Verdict(reason, terms.keys.get(reason), estimate, rate.burst, frees_at)

    return check


_CHECKS: Mapping[RefusalReason, Callable[[AccessTerms, Counts], Check]] = MappingProxyType(
    {
        RefusalReason.DENIED: _denied,
        RefusalReason.DENY: _deny,
        RefusalReason.ALLOW: _allow,
        RefusalReason.ACCESS_TIMES: _access_times,
        RefusalReason.MAX_PRESSURE: _max_pressure,
        RefusalReason.MAX_LOAD: _max_load,
        RefusalReason.MAX_CONNECTIONS: _max_connections,
        RefusalReason.MAX_PER_SOURCE: _max_per_source,
        RefusalReason.ACCEPT_RATE: _accept_rate,
        RefusalReason.ACCEPT_RATE_PER_SOURCE: _accept_rate_per_source,
    }
)


# --- the room that is left before such a check refuses --------------------------------


def _least(rooms: Sequence[Callable[[], int]]) -> Callable[[], int]:
    """The least of several rooms. One alone is asked without a detour: 0.4 us less."""
    return rooms[0] if len(rooms) == 1 else lambda: min(room() for room in rooms)


def _room_of_connections(terms: AccessTerms, counts: Counts) -> Callable[[], int]:
    """At most 1: each other process may let in one too many, and no more."""
    limit, are_open = terms.max_connections, counts.service_open
    return lambda: int(are_open() < limit)


def _room_of_rate(terms: AccessTerms, counts: Counts) -> Callable[[], int]:
    rate, lately = terms.accept_rate, counts.service_rate
    if rate is None:
        raise AssertionError("a rate that is not set keeps nobody waiting")
    return lambda: rate.room(*lately())


_ROOMS: Mapping[RefusalReason, Callable[[AccessTerms, Counts], Callable[[], int]]] = (
    MappingProxyType(
        {
            RefusalReason.MAX_CONNECTIONS: _room_of_connections,
            RefusalReason.ACCEPT_RATE: _room_of_rate,
        }
    )
)
