"""The arrivals: connections of load balancers, from the accept to the header that tells
the client.

A service lists in ``proxy_protocol`` the load balancers that must send a header of the
PROXY protocol (:mod:`unpd.access.proxy_header`). Their connections wait here for at
most HEADER_TIMEOUT_S. The header is looked at where it is (MSG_PEEK), and taken out of
the socket once it is complete: exactly its bytes, so that what follows is the
service's. Only then access is decided, about the client that it tells, who is the peer
from then on. A header that is late, malformed or missing ends the connection.

An arrival holds up nobody. Its descriptor is watched with EPOLLET, so that a header
that comes byte by byte wakes the process once for each, and not all the time. Mostly
the header is there when the connection is accepted, and nothing waits.

An arrival counts from its accept on. It is open in the ledger, so that it takes a place
of ``max_connections_per_worker``; and it has a place of those limits of its service at
which clients wait in the accept queue (:meth:`unpd.worker.admission.Admission.arrive`).
But it is accepted only when access has let its client in.

Owns the descriptors of the arrivals. The intake of a worker and a dispatcher bring what
they have accepted; their epoll and their wheel call :class:`Arrival`. Calls the
admission of the service and the reception. Raises nothing.

Known gap: no result counts the headers that a process awaited when it died.
"""

import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import close
from typing import Any

from unpd.access.peer import Peer, peer_of
from unpd.access.proxy_header import MAX_BYTES, Header, NoHeader, parse
from unpd.kernel import connections as kernel
from unpd.names import HeaderResult
from unpd.worker.accepting import Accepted
from unpd.worker.admission import Admission
from unpd.worker.event.deadlines import Wheel
from unpd.worker.event.poller import Target
from unpd.worker.ledger import Ledger
from unpd.worker.path_quality import path_fields
from unpd.worker.peers import peer_of_connection
from unpd.worker.reception import Entered, Reception
from unpd.worker.selection import Kick, Selection
from unpd.worker.terms import Terms

HEADER_TIMEOUT_S = 5.0
"""How long a header may take: more than the 3 s after which TCP sends a lost segment
again (section 2 of the protocol).
"""
PARTING_S = 0.25
"""How long it may still take in a graceful stop: it is under way, or does not come."""

_MASK = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_OVER = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

Enter = Callable[[Sequence[Entered]], None]
"""Takes connections whose clients have been let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalsSetup:
    """What the arrivals get of their process. ``watch`` and ``forget``: of its epoll.
    ``wheel``: its deadlines. ``numbered_from``: their numbers are their descriptors and
    so much more. ``clock``: its monotonic time.
    """

    watch: Callable[[int, Target, int], None]
    forget: Callable[[int], None]
    wheel: Wheel[Any]
    ledger: Ledger
    reception: Reception
    clock: Callable[[], float]
    numbered_from: int = 0


@dataclass(slots=True, eq=False)
class Arrival:
    """One connection. ``sockaddr`` and ``peer``: the load balancer. ``enter`` takes the
    connection when its client is let in. ``due_at``: when its header is late.
    """

    arrivals: "Arrivals"
    terms: Terms
    admission: Admission
    fd: int
    sockaddr: bytes
    peer: Peer
    enter: Enter
    opened_at: float
    due_at: float
    watched: bool = False
    wheel_slot: set[Any] | None = None

    def ready(self, mask: int) -> None:
        """Look what has come."""
        self.arrivals.look(self, mask)

    def come_due(self) -> None:
        """End, because the header has not come."""
        self.arrivals.give_up(self)

    @property
    def number(self) -> int:
        """Its number among the connections of the process."""
        return self.arrivals.numbered_from + self.fd

    def belongs(self, selection: Selection, now: float) -> bool:
        """Whether it belongs to a selection of an operator: its peer is the load
        balancer.
        """
        return selection.takes(self.terms.name, self.sockaddr, now - self.opened_at)

    def describe(self, now: float) -> dict[str, Any]:
        """Its facts, as of a session (worker/questions.py). ``now``: monotonic
        seconds.
        """
        return {
            "service": self.terms.name,
            "peer": kernel.address_text(self.sockaddr),
            "local": kernel.local_text(self.fd),
            "age_s": round(now - self.opened_at, 3),
            "received": 0,
            "sent": 0,
            "state": "arriving",
            **path_fields(self.fd),
        }


class Arrivals:
    """The arrivals of one process."""

    def __init__(self, setup: ArrivalsSetup) -> None:
        self.numbered_from = setup.numbered_from
        self._setup = setup
        self._all: dict[int, Arrival] = {}
        self._finishing = False

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Arrival]:
        """The arrivals in the order of their numbers."""
        return (arrival for _, arrival in sorted(self._all.items()))

    def take(self, terms: Terms, accepted: Iterable[Accepted], enter: Enter) -> list[Accepted]:
        """Take the connections of load balancers out of those that were accepted;
        return the others. ``terms``: of a service that has load balancers.
        """
        admission = terms.admission
        if admission is None:
            return list(accepted)
        others: list[Accepted] = []
        for fd, sockaddr in accepted:
            peer = peer_of_connection(fd, sockaddr)
            if admission.terms.proxies.find(peer):
                self._begin(terms, admission, (fd, sockaddr), peer, enter)
            else:
                others.append((fd, sockaddr))
        return others

    def _begin(
        self, terms: Terms, admission: Admission, accepted: Accepted, peer: Peer, enter: Enter
    ) -> None:
        setup, now = self._setup, self._setup.clock()
        fd, sockaddr = accepted
        if not setup.reception.passes(terms, admission, fd, admission.arrive(peer, now), now):
            return
        arrival = Arrival(
            arrivals=self,
            terms=terms,
            admission=admission,
            fd=fd,
            sockaddr=sockaddr,
            peer=peer,
            enter=enter,
            opened_at=now,
            due_at=now + (PARTING_S if self._finishing else HEADER_TIMEOUT_S),
        )
        self._all[fd] = arrival
        setup.ledger.arrived()
        self.look(arrival, 0)
        if fd in self._all:
            self._wait(arrival)

    def _wait(self, arrival: Arrival) -> None:
        """Look again when more has come."""
        try:
            self._setup.watch(arrival.fd, arrival, _MASK)
        except OSError:  # epoll_ctl(2): ENOSPC
            self._drop(arrival, HeaderResult.DROPPED)
            return
        arrival.watched = True
        self._setup.wheel.put(arrival, arrival.due_at)

    def look(self, arrival: Arrival, mask: int) -> None:
        """Look what has come. ``mask``: the events that the descriptor showed."""
        try:
            data = kernel.peek(arrival.fd, MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._drop(arrival, HeaderResult.CLOSED)
            return
        match parse(data):
            case Header() as header:
                self._announce(arrival, header)
            case NoHeader() as fault:
                self._refuse(arrival, fault)
            case None if not data or mask & _OVER:
                self._drop(arrival, HeaderResult.CLOSED)

    def _announce(self, arrival: Arrival, header: Header) -> None:
        """Take the header, and decide about the client that it tells."""
        try:
            kernel.skip(arrival.fd, header.length)
        except OSError:
            self._drop(arrival, HeaderResult.CLOSED)
            return
        setup, now, admission = self._setup, self._setup.clock(), arrival.admission
        self._forget(arrival)
        local = b""
        if header.source is None:
            setup.ledger.header_over(arrival.terms, HeaderResult.LOCAL)
            sockaddr, (decision, hold) = arrival.sockaddr, admission.admit_local(arrival.peer, now)
        else:
            setup.ledger.header_over(arrival.terms, HeaderResult.TOLD)
            sockaddr = header.source.sockaddr
            decision, hold = admission.admit_told(peer_of(sockaddr), now)
            local = header.destination.sockaddr if header.destination else b""
        if setup.reception.passes(arrival.terms, admission, arrival.fd, decision, now):
            arrival.enter([(arrival.fd, sockaddr, hold, local)])

    def give_up(self, arrival: Arrival) -> None:
        """End an arrival whose time is over."""
        if self._finishing:
            self._drop(arrival, HeaderResult.DROPPED)
        else:
            self._refuse(arrival, NoHeader(HeaderResult.LATE))

    def _refuse(self, arrival: Arrival, fault: NoHeader) -> None:
        """End an arrival, with a line in the log."""
        self._close(arrival)
        self._setup.reception.no_header(arrival.terms, arrival.peer, fault, self._setup.clock())

    def _drop(self, arrival: Arrival, result: HeaderResult) -> None:
        """End an arrival, of which the load balancer is not to blame."""
        self._close(arrival)
        self._setup.ledger.header_over(arrival.terms, result)

    def _close(self, arrival: Arrival) -> None:
        self._forget(arrival)
        arrival.admission.arrival_over()
        close(arrival.fd)

    def _forget(self, arrival: Arrival) -> None:
        """Await its header no more. The descriptor stays open."""
        del self._all[arrival.fd]
        self._setup.wheel.remove(arrival)
        if arrival.watched:
            self._setup.forget(arrival.fd)

    # --- the end of the process, and of load balancers --------------------------------

    def finish(self) -> None:
        """In a graceful stop, wait for headers that are under way, and for no other."""
        self._finishing = True
        due_at = self._setup.clock() + PARTING_S
        for arrival in self._all.values():
            arrival.due_at = min(arrival.due_at, due_at)
            self._setup.wheel.put(arrival, arrival.due_at)

    def kick(self, kick: Kick) -> int:
        """End the arrivals of a selection, by their load balancers; return how many."""
        at = self._setup.clock()
        kicked = [one for one in self._all.values() if one.belongs(kick.selection, at)]
        for arrival in () if kick.dry_run else kicked:
            self._drop(arrival, HeaderResult.DROPPED)
        return len(kicked)

    def leave(self) -> None:
        """End all of them."""
        for arrival in list(self._all.values()):
            self._drop(arrival, HeaderResult.DROPPED)
