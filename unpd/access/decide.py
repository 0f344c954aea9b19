"""The decision about one peer: may it use a service now, and if not, why not.

The order is fixed: a live denial, ``deny``, ``allow``, ``access_times``,
``max_pressure``, ``max_load``, ``max_connections``, ``max_per_source``,
``accept_rate``, ``accept_rate_per_source``. So an address in ``deny`` is refused
whatever ``allow`` says, as in xinetd, and a peer that no rule lets in costs no count.
The first reason refuses. A reason that is only observed does not, so the decision goes
on to the next. A service that an operator has halted refuses before all that, without
a decision (:mod:`unpd.worker.admission`).

A limit of the service keeps clients in the accept queue where the terms say so
(``queued``). :func:`holds_back` decides about such limits before the accept, and
:func:`decide` not again after it: if another process has let in a client meanwhile,
that is the one too many that the counts allow.

Workers and dispatchers call it at each accept and for each datagram, ``unpd explain``
for a peer that a person names. Calls the modules of unpd.access. Raises nothing of its
own; the counts may raise.
"""

from collections.abc import Callable, Mapping
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


class Moment(NamedTuple):
    """One time on both clocks. ``now``: monotonic seconds. ``wall_s``: seconds since
    the epoch.
    """

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


def decide(terms: AccessTerms, counts: Counts, peer: Peer, at: Moment) -> Decision:
    """Decide about a peer that was accepted, or about a datagram of it."""
    observed: list[Verdict] = []
    for reason in terms.decided:
        verdict = _CHECKS[reason](terms, counts, peer, at)
        if verdict is None:
            continue
        if reason not in terms.observe:
            return Decision(verdict, tuple(observed))
        observed.append(verdict)
    return Decision(None, tuple(observed)) if observed else ADMITTED


def holds_back(terms: AccessTerms, counts: Counts, at: Moment) -> Verdict | None:
    """The limit because of which no client is taken out of the accept queue now."""
    for reason in terms.queued:
        verdict = _CHECKS[reason](terms, counts, _NOBODY, at)
        if verdict is not None:
            return verdict
    return None


def look_at(
    reason: RefusalReason, terms: AccessTerms, counts: Counts, peer: Peer, at: Moment
) -> Verdict | None:
    """What one reason alone says, whose term must be set: for an explanation."""
    return _CHECKS[reason](terms, counts, peer, at)


_NOBODY = Peer(UNIX)
"""Stands for the peer where none is known: no limit of the accept queue looks at it."""


# --- one check for each reason, whose term is set -------------------------------------


def _denied(_terms: AccessTerms, counts: Counts, peer: Peer, _at: Moment) -> Verdict | None:
    denial = counts.denial(peer)
    if denial is None:
        return None
    return Verdict(RefusalReason.DENIED, denial.rule, frees_at=denial.until)


def _deny(terms: AccessTerms, _counts: Counts, peer: Peer, _at: Moment) -> Verdict | None:
    entry = terms.deny.find(peer)
    return Verdict(RefusalReason.DENY, entry) if entry else None


def _allow(terms: AccessTerms, _counts: Counts, peer: Peer, _at: Moment) -> Verdict | None:
    if terms.allow.find(peer):
        return None
    return Verdict(RefusalReason.ALLOW, terms.keys.get(RefusalReason.ALLOW))


def _access_times(terms: AccessTerms, _counts: Counts, _peer: Peer, at: Moment) -> Verdict | None:
    opens = terms.access_times.closed_until(at.wall_s) if terms.access_times else None
    if opens is None:
        return None
    reason = RefusalReason.ACCESS_TIMES
    return Verdict(reason, terms.keys.get(reason), frees_at=at.now + (opens - at.wall_s))


def _max_pressure(terms: AccessTerms, counts: Counts, _peer: Peer, _at: Moment) -> Verdict | None:
    reason = RefusalReason.MAX_PRESSURE
    for resource, limit in terms.max_pressure:
        value = counts.pressure(resource)
        if value is not None and value > limit:
            return Verdict(reason, _pressure_key(terms, resource, limit), value, limit)
    return None


def _pressure_key(terms: AccessTerms, resource: Resource, limit: float) -> Entry:
    """The part of the table ``max_pressure`` that refuses."""
    table = terms.keys.get(RefusalReason.MAX_PRESSURE)
    return Entry(f"max_pressure.{resource} = {limit:g}", table.origin if table else NOWHERE)


def _max_load(terms: AccessTerms, counts: Counts, _peer: Peer, _at: Moment) -> Verdict | None:
    value, limit = counts.load(), terms.max_load
    if value is None or value <= limit:
        return None
    reason = RefusalReason.MAX_LOAD
    return Verdict(reason, terms.keys.get(reason), value, limit)


def _max_connections(
    terms: AccessTerms, counts: Counts, _peer: Peer, _at: Moment
) -> Verdict | None:
    value, limit = counts.service_open(), terms.max_connections
    if value < limit:
        return None
    reason = RefusalReason.MAX_CONNECTIONS
    return Verdict(reason, terms.keys.get(reason), value, limit)


def _max_per_source(terms: AccessTerms, counts: Counts, _peer: Peer, _at: Moment) -> Verdict | None:
    value, limit = counts.source_open(), terms.max_per_source
    if value < limit:
        return None
    reason = RefusalReason.MAX_PER_SOURCE
    return Verdict(reason, terms.keys.get(reason), value, limit)


def _accept_rate(terms: AccessTerms, counts: Counts, _peer: Peer, at: Moment) -> Verdict | None:
    rate, admitted = terms.accept_rate, counts.service_rate()
    if rate is None or not rate.exceeded(*admitted):
        return None
    return _too_fast(RefusalReason.ACCEPT_RATE, terms, rate, admitted, at)


def _accept_rate_per_source(
    terms: AccessTerms, counts: Counts, _peer: Peer, at: Moment
) -> Verdict | None:
    rate, admitted = terms.accept_rate_per_source, counts.source_rate()
    if rate is None or not rate.exceeded(*admitted):
        return None
    return _too_fast(RefusalReason.ACCEPT_RATE_PER_SOURCE, terms, rate, admitted, at)


def _too_fast(
    reason: RefusalReason, terms: AccessTerms, rate: Rate, admitted: Admitted, at: Moment
) -> Verdict:
    frees_at = at.now + rate.frees_in_s(*admitted)
    return Verdict(reason, terms.keys.get(reason), rate.estimate(*admitted), rate.burst, frees_at)


_CHECKS: Mapping[RefusalReason, Callable[[AccessTerms, Counts, Peer, Moment], Verdict | None]] = (
    MappingProxyType(
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
)
