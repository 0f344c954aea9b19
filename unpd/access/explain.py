"""Explains a decision: what each rule and limit of a service says about one peer.

A decision ends at the first reason that refuses; an explanation looks at all of them,
in the same order and with the same functions (:mod:`unpd.access.decide`), and tells the
values that are compared also where they refuse nobody. Called by the master for ``unpd
explain``, and by the command line for rules alone. Raises nothing of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from unpd.access.decide import Clocks, Counts, Verdict, look_at
from unpd.access.peer import Peer
from unpd.access.rules import Entry
from unpd.access.terms import AccessTerms
from unpd.names import RefusalReason, Resource

ADMITTED, REFUSED, WAITS = "admitted", "refused", "waits"
"""What becomes of a peer now: it comes in, is turned away, or waits in the accept
queue.
"""

RULES = frozenset((RefusalReason.DENY, RefusalReason.ALLOW, RefusalReason.ACCESS_TIMES))
"""The reasons that need no counts."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one reason says. ``verdict``: None if it does not refuse the peer.
    ``observed``: it would only be counted. ``waits``: the peer would wait in the accept
    queue. ``known``: false if it depends on counts, and there are none. ``value`` and
    ``limit``: what is compared; None where nothing is. ``resource``: that of this part
    of ``max_pressure``.
    """

    reason: RefusalReason
    verdict: Verdict | None
    observed: bool
    waits: bool
    known: bool = True
    value: float | None = None
    limit: float | None = None
    resource: Resource | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """``outcome``: ADMITTED, REFUSED or WAITS. ``looks``: one for each reason that the
    terms have, and of ``max_pressure`` one for each resource, in the order of the
    decision. ``proxy``: the entry by which the peer is a load balancer, so that this
    holds only for connections of its own.
    """

    outcome: str
    looks: tuple[Look, ...]
    proxy: Entry | None = None


def explain(terms: AccessTerms, counts: Counts | None, peer: Peer, at: Clocks) -> Explanation:
    """Explain what would be decided now about a peer that connects. ``counts``: None to
    look at the rules alone.
    """
    reasons = [reason for reason in RefusalReason if reason in (*terms.decided, *terms.queued)]
    looks = tuple(
        _look(reason, part, counts, peer, at)
        for reason in reasons
        for part in _parts(reason, terms)
    )
    refusing = [look for look in looks if look.verdict is not None and not look.observed]
    outcome = ADMITTED
    if any(look.waits for look in refusing):
        outcome = WAITS
    if any(not look.waits for look in refusing):
        outcome = REFUSED
    return Explanation(outcome, looks, terms.proxies.find(peer))


def halted(explanation: Explanation, reason: RefusalReason, *, waits: bool) -> Explanation:
    """The same about a service that an operator has halted. ``waits``: its clients wait
    in the accept queue, unless they would be refused anyway.
    """
    look = Look(reason, Verdict(reason), observed=False, waits=waits)
    outcome = WAITS if waits and explanation.outcome != REFUSED else REFUSED
    return replace(explanation, outcome=outcome, looks=(look, *explanation.looks))


def _parts(reason: RefusalReason, terms: AccessTerms) -> Iterator[AccessTerms]:
    """The terms, once for each value that the reason compares."""
    if reason is RefusalReason.MAX_PRESSURE:
        for limited in terms.max_pressure:
            yield replace(terms, max_pressure=(limited,))
    else:
        yield terms


def _look(
    reason: RefusalReason, terms: AccessTerms, counts: Counts | None, peer: Peer, at: Clocks
) -> Look:
    asked = NoCounts() if counts is None else counts
    known = counts is not None or reason in RULES
    verdict = look_at(reason, terms, asked, peer, at)
    value, limit = (verdict.value, verdict.limit) if verdict else _compared(reason, terms, asked)
    return Look(
        reason=reason,
        verdict=verdict,
        observed=reason in terms.observe,
        waits=reason in terms.queued,
        known=known,
        value=value if known else None,
        limit=limit,
        resource=terms.max_pressure[0][0] if reason is RefusalReason.MAX_PRESSURE else None,
    )


def _compared(
    reason: RefusalReason, terms: AccessTerms, counts: Counts
) -> tuple[float | None, float | None]:
    """The values that were compared without a refusal."""
    match reason:
        case RefusalReason.MAX_LOAD:
            return counts.load(), terms.max_load
        case RefusalReason.MAX_CONNECTIONS:
            return counts.service_open(), terms.max_connections
        case RefusalReason.MAX_PER_SOURCE:
            return counts.source_open(), terms.max_per_source
        case RefusalReason.ACCEPT_RATE if terms.accept_rate:
            return terms.accept_rate.estimate(*counts.service_rate()), terms.accept_rate.burst
        case RefusalReason.ACCEPT_RATE_PER_SOURCE if terms.accept_rate_per_source:
            rate = terms.accept_rate_per_source
            return rate.estimate(*counts.source_rate()), rate.burst
        case RefusalReason.MAX_PRESSURE if terms.max_pressure:
            resource, limit = terms.max_pressure[0]
            return counts.pressure(resource), limit
    return None, None


class NoCounts:
    """The counts of a service that nobody uses: none of its limits refuses."""

    def denial(self, peer: Peer) -> None:
        """No peer is denied."""

    def pressure(self, resource: Resource) -> float | None:
        """Nothing tells."""

    def load(self) -> float | None:
        """Nothing tells."""

    def service_open(self) -> int:
        """None is open."""
        return 0

    def source_open(self) -> int:
        """None is open."""
        return 0

    def service_rate(self) -> tuple[int, int, float]:
        """None came."""
        return 0, 0, 0.0

    def source_rate(self) -> tuple[int, int, float]:
        """None came."""
        return 0, 0, 0.0
