"""The reception: lets accepted connections in, or turns them away, with a count and a
line in the log for each refusal. It also counts what :mod:`unpd.worker.arrivals` finds
out about those of load balancers.

A refused connection is closed at once; it was never open, and no session or process is
made for it. It may get one text before that, as far as its send buffer has room:
nothing here waits.

Owned by the engine of a worker, or by a dispatcher. Calls the admission of the service
and :mod:`unpd.worker.refusals`. Raises nothing.
"""

from collections.abc import Sequence
from typing import Protocol

from unpd.access.decide import ADMITTED, Decision, Verdict
from unpd.access.peer import Peer
from unpd.access.proxy_header import NoHeader
from unpd.access.terms import LIMITS, AccessTerms, OnLimit
from unpd.kernel.connections import turn_away
from unpd.worker.accepting import Accepted
from unpd.worker.admission import Admission, Hold
from unpd.worker.ledger import Ledger
from unpd.worker.refusals import RefusalLines
from unpd.worker.terms import Terms

Entered = tuple[int, bytes, Hold | None, bytes]
"""A connection that was let in: its descriptor, its peer's address, what it holds of
the limit for its source, and the address to which the client has connected, if a load
balancer told it (else b"": it is our own).
"""


class Named(Protocol):
    """A service, as far as its refusals are counted and logged."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def words(self) -> int:
        """Where its counters start in the row."""


class Reception:
    """The reception of one process."""

    def __init__(self, ledger: Ledger, lines: RefusalLines) -> None:
        self._ledger = ledger
        self._lines = lines

    def admit(self, terms: Terms, accepted: Sequence[Accepted], now: float) -> list[Entered]:
        """Return the connections that are let in, and close the others."""
        admission = terms.admission
        if admission is None:
            return [(fd, sockaddr, None, b"") for fd, sockaddr in accepted]
        admission.look(now)
        if admission.lets_all_in:  # 0.6 us less for each connection
            admission.let_in(len(accepted))
            return [(fd, sockaddr, None, b"") for fd, sockaddr in accepted]
        entered: list[Entered] = []
        for fd, sockaddr in accepted:
            decision, hold = admission.admit(fd, sockaddr)
            if decision is ADMITTED or self.passes(terms, admission, fd, decision, now):
                entered.append((fd, sockaddr, hold, b""))
        return entered

    def passes(
        self, terms: Terms, admission: Admission, fd: int, decision: Decision, now: float
    ) -> bool:
        """Count and log a decision of the service's admission, and close the connection
        that it refuses. Whether it lets the connection in.
        """
        if decision is not ADMITTED:
            self.record(terms, admission.peer, decision, now)
        if decision.refusal is None:
            return True
        turn_away(fd, _banner(admission.terms, decision.refusal))
        return False

    def held_back(self, terms: Terms, waiting: int, now: float) -> None:
        """Log that clients wait in an accept queue, if a limit of the service holds
        them back.
        """
        limit = terms.admission.holding(now) if waiting and terms.admission else None
        if limit is not None:
            self._lines.held_back(terms.name, waiting, limit, now)

    def no_header(self, terms: Terms, peer: Peer, fault: NoHeader, now: float) -> None:
        """Count a connection of a load balancer without a header, and log it."""
        self._ledger.header_over(terms, fault.reason)
        self._lines.no_header(terms.name, peer, fault, now)

    def record(self, service: Named, peer: Peer, decision: Decision, now: float) -> None:
        """Count and log what a decision refused, or would have refused. Of several
        reasons that are observed the first counts, as it would if all were enforced.
        """
        for verdict in decision.observed[:1]:
            self._ledger.would_refuse(service, verdict.reason)
            self._lines.would_refuse(service.name, peer, verdict, now)
        if decision.refusal is not None:
            self._ledger.refused(service, decision.refusal.reason)
            self._lines.refused(service.name, peer, decision.refusal, now)


def _banner(terms: AccessTerms, refusal: Verdict) -> bytes:
    """The text for a client that is refused: at a limit only if ``on_limit`` says so,
    else always.
    """
    if refusal.reason in LIMITS and terms.on_limit is not OnLimit.BANNER:
        return b""
    return terms.banner_refused
