"""Admission: who may use a service through this process, and the counts of who does.

:mod:`unpd.access.decide` decides, :mod:`unpd.worker.counted` tells it what it reads,
and this module counts what was let in. It decides about each connection after the
accept, before anything else is done for it, and about each datagram. Limits at which
clients wait in the accept queue are asked for before the accept
(:meth:`Admission.reserve`). Of a connection through a load balancer, only that itself
is known after the accept, so there are two decisions (:mod:`unpd.worker.arrivals`).

The counts are in memory that all children share (:mod:`unpd.board.sources`): so limits
hold over all processes, and a process that dies frees what it has counted. A connection
counts from the decision until :meth:`Admission.left`.

Owned by the terms of a service. Called by the reception of a worker or dispatcher, and
by datagram sockets. Raises nothing.

Known gap: a processor may show others a store later than we look again. Nothing but the
microseconds between prevents that (:meth:`Admission.reserve`).
"""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from unpd.access.decide import ADMITTED, Decider, Decision, Verdict
from unpd.access.peer import UNIX, Peer
from unpd.access.rules import Entry
from unpd.access.terms import AccessTerms
from unpd.board.source_lane import SourceLane
from unpd.board.sources import Window
from unpd.names import Halt, RefusalReason, halt_reason
from unpd.worker.counted import Counted, DatagramCounts, Shown
from unpd.worker.peers import peer_of_connection

CALLERS = 1024
"""How many addresses a service remembers in each process, with 0.4 KB for each. When
one more comes, all are forgotten. An unknown address costs 1.9 us more than a known
one.
"""
_NO_LIMIT = sys.maxsize

# To look up a member in its enum costs 0.1 us, because Python 3.11 does it through a
# property.
_MAX_CONNECTIONS, _MAX_PER_SOURCE = RefusalReason.MAX_CONNECTIONS, RefusalReason.MAX_PER_SOURCE
_ACCEPT_RATE = RefusalReason.ACCEPT_RATE
_ACCEPT_RATE_PER_SOURCE = RefusalReason.ACCEPT_RATE_PER_SOURCE
_PAUSED = Halt.PAUSED
_DATAGRAM_HALTS = {halt: Decision(Verdict(halt_reason(halt))) for halt in Halt}
"""The decisions about datagrams for a service that is halted: no queue keeps them."""
_HALTS: Mapping[Halt, Decision] = {
    halt: decision for halt, decision in _DATAGRAM_HALTS.items() if halt is not Halt.PAUSED
}
"""The same about connections. A pause that lets clients wait refuses none that was
accepted.
"""


@dataclass(slots=True)
class Sensing:
    """The reports of the sensors of one process. ``send`` brings one to the master, as
    soon as there is a channel.
    """

    send: Callable[[Mapping[str, str]], None] | None = None

    def report(self, service: str, peer: Peer) -> None:
        """Report who has connected to the sensor ``service``."""
        if self.send is not None:
            self.send({"report": "sensed", "service": service, "peer": peer.text})


@dataclass(frozen=True, slots=True)
class Gate:
    """What all admissions of one process share. ``lane``: where this process counts.
    ``sensing``: the reports of its sensors.
    """

    shown: Shown
    lane: SourceLane
    sensing: Sensing = field(default_factory=Sensing)


Hold = tuple[int | None, int, bool]
"""What a connection holds of the limits: the token of its source in this process
(:class:`unpd.board.source_lane.SourceLane`), the key of that source (None and 0, if it
is not counted for one), and whether it counts for its service. A class would cost
0.2 us for each connection.
"""
COUNTED: Hold = (None, 0, True)
"""What a connection holds that is counted for its service alone."""
_UNCOUNTED: Hold = (None, 0, False)


class Caller(NamedTuple):
    """What does not change about an address as long as the terms hold. ``key``: that of
    its source. ``lists_pass``: whether ``deny`` and ``allow`` let it in.
    """

    peer: Peer
    key: int
    lists_pass: bool


class Admission:
    """The admission of connections to the service in ``column``. ``has_proxies``:
    whether load balancers tell who its clients are. ``callers``: the addresses that it
    remembers. ``sense``: that of a sensor, which reports each peer that it has let in.

    Those who come in one turn are decided about after one :meth:`look` at what holds
    for all of them.
    """

    def __init__(
        self,
        terms: AccessTerms,
        column: int,
        gate: Gate,
        sense: Callable[[Peer], None] | None = None,
    ) -> None:
        self.terms = terms
        self.has_proxies = bool(terms.proxies)
        self._has_queued = bool(terms.queued)
        self._reserves = terms.queued == (_ACCEPT_RATE,)  # else there is room for one
        self._reserved = 0
        self._reserved_in: Window = (0, 1, 0)
        self._column = column
        self._counts = counts = Counted(terms, column, gate.shown)
        self._lane, self._denied, self._halted = gate.lane, gate.shown.denied, gate.shown.halted
        self._needs_peer = terms.limits_peers or bool(terms.accept_rate) or sense is not None
        self._sense = sense
        self.callers: dict[bytes, Caller] = {}
        self._clients, self._arrivals = Decider(terms, counts), Decider(AccessTerms(), counts)
        self._limits_sources = self._clients.limits_sources_alone
        self._has_rate = terms.accept_rate is not None
        self._has_source_rate = terms.accept_rate_per_source is not None
        self._has_source_limit = terms.max_per_source > 0
        self._nobody_denied = False
        self._refusal_of_halt: Decision | None = None

    @property
    def queues(self) -> bool:
        """Whether clients wait in the accept queue: at a limit, or in a pause."""
        return self._has_queued or self._halted.of(self._column) is _PAUSED

    @property
    def halt(self) -> Halt | None:
        """How an operator has halted the service."""
        return self._halted.of(self._column)

    @property
    def turns_away_at_limit(self) -> bool:
        """Whether clients that were accepted are refused while ``max_connections`` are
        open: because of that, or because an operator wants it.
        """
        terms = self.terms
        limited = _MAX_CONNECTIONS in terms.decided and _MAX_CONNECTIONS not in terms.observe
        return limited or self.halt in _HALTS

    @property
    def peer(self) -> Peer:
        """The peer of the last decision that was not ADMITTED."""
        return self._counts.peer

    def has_room(self, now: float) -> bool:
        """Whether a connection may be taken out of the accept queue. ``now``: monotonic
        seconds.
        """
        return self.room(now) > 0

    def room(self, now: float) -> int:
        """How many connections may be taken out of the accept queue at once. No limit
        keeps a client there that will be turned away.

        A limit of open connections has room for one at a time. Of a rate it is our
        share: the room divided by the number of processes, and 1 while there is any. So
        if all ask at the same moment, each other process takes at most one too many.
        Who takes more than one out of the queue reserves them (:meth:`reserve`).
        """
        halt = self._halted.of(self._column)
        if halt is _PAUSED:
            return 0
        if not self._has_queued:
            return _NO_LIMIT
        if halt is not None:
            return 1  # the halt may be over before the client is refused
        self._counts.turn_to(now)
        room = self._clients.room()
        return max(1, room // self._counts.processes) if room > 0 else 0

    def reserve(self, wanted: int, now: float) -> int:
        """How many of the ``wanted`` connections may be taken out of the accept queue
        at once. Each counts for ``accept_rate`` from now on, until :meth:`release`.

        All processes show what they take before they look, and who then sees too many
        takes its share alone; or none for a moment, while others still show theirs. So
        each other process takes at most one too many, unless it is held up in between
        for longer than two windows of the rate.
        """
        if self._halted.of(self._column) is not None:
            wanted = min(wanted, 1)
        if wanted <= 1 or not self._reserves:
            return min(wanted, self.room(now))
        self._counts.turn_to(now)
        window = self._counts.service_window
        self._lane.service_admitted(self._column, window, wanted)
        if self._clients.room() < 0:
            self._lane.service_released(self._column, window, wanted)
            return self._reserve_share(wanted, now)
        self._reserved, self._reserved_in = wanted, window
        return wanted

    def _reserve_share(self, wanted: int, now: float) -> int:
        """Reserve no more than our share of the room. Who sees too many after it has
        shown its own gives back all but one.
        """
        room = min(wanted, self.room(now))
        if room <= 1:
            return room
        lane, window = self._lane, self._counts.service_window
        lane.service_admitted(self._column, window, room)
        too_many = min(-self._clients.room(), room - 1)
        if too_many > 0:
            lane.service_released(self._column, window, too_many)
            room -= too_many
        self._reserved, self._reserved_in = room, window
        return room

    def release(self) -> None:
        """Give back what was reserved for connections that did not come, or that were
        refused.
        """
        if self._reserved:
            self._lane.service_released(self._column, self._reserved_in, self._reserved)
            self._reserved = 0

    def holding(self, now: float) -> Verdict | None:
        """The limit that keeps clients in the accept queue; None if there is room."""
        self._counts.turn_to(now)
        return self._clients.holds_back(self._counts)

    def look(self, now: float) -> None:
        """Look at what holds for all who come ``now``: the windows of rates, whether an
        operator has halted the service, and whether anybody is denied.
        """
        halt = self._halted.of(self._column)
        self._refusal_of_halt = _HALTS.get(halt) if halt else None
        self._nobody_denied = self._denied.is_empty
        self._counts.turn_to(now)

    @property
    def lets_all_in(self) -> bool:
        """Whether nobody is refused, as the last look has it, and nobody counts for
        more than the service.
        """
        return self._nobody_denied and not self._needs_peer and self._refusal_of_halt is None

    def let_in(self, count: int) -> None:
        """Count connections that come in without a decision: :attr:`lets_all_in`."""
        self._lane.service_opened(self._column, count)

    def admit(self, fd: int, sockaddr: bytes) -> tuple[Decision, Hold | None]:
        """Decide about an accepted connection. If it is let in, count it."""
        counts = self._counts
        address = sockaddr[:2] + sockaddr[4:]  # without the port (ip(7), ipv6(7))
        peer, key, passes = self.callers.get(address) or self._met(fd, sockaddr, address)
        counts.be_about(peer, key)
        refusal = self._refusal_of_halt
        passes = passes and (self._nobody_denied or counts.denial(peer) is None)
        if passes and self._limits_sources and refusal is None and counts.source_passes():
            decision = ADMITTED  # as decide() would say: 0.7 us less
        else:
            decision = refusal or self._clients.decide(peer, counts, passes=passes)
            if decision.refusal is not None:
                return decision, None
        hold = self._enter(self.terms.observe if decision.observed else ())
        return decision if self._sense is None else self._sensed(peer, decision), hold

    def _met(self, fd: int, sockaddr: bytes, address: bytes) -> Caller:
        """Find out who calls, and remember that for the ``address``; not of a UNIX
        peer, whose user no address tells.
        """
        peer = peer_of_connection(fd, sockaddr)
        caller = Caller(peer, self._counts.key_of(peer), self._clients.lists_pass(peer))
        if peer.family != UNIX:
            if len(self.callers) >= CALLERS:
                self.callers.clear()
            self.callers[address] = caller
        return caller

    def _decide(self, decider: Decider, peer: Peer, now: float) -> Decision:
        self.look(now)
        self._counts.be_about(peer)
        return self._refusal_of_halt or decider.decide(peer, self._counts)

    def _sensed(self, peer: Peer, decision: Decision) -> Decision:
        """Report a peer that is let in, if this is a sensor. The decision, or if that
        sensor only observes, one that says so.
        """
        if self._sense is None:
            return decision
        network = self.terms.sensed(peer)
        if network is None:
            return decision
        if not self.terms.sensor_observes:
            self._sense(peer)
            return decision
        denied = Verdict(RefusalReason.DENIED, Entry(str(network)))
        return Decision(None, (*decision.observed, denied))

    def _enter(self, uncounted: Collection[RefusalReason] = ()) -> Hold | None:
        """Count a connection that is let in; not for the limits ``uncounted``: those
        for which it counts already, and if one that is observed would have refused it,
        those that are observed. Else more would be observed than is refused later.
        """
        asked, lane = self._counts, self._lane
        counts = _MAX_CONNECTIONS not in uncounted
        if counts:
            lane.service_opened(self._column)
        if self._has_rate and _ACCEPT_RATE not in uncounted:
            self._count_for_rate()
        window = None
        if self._has_source_rate and _ACCEPT_RATE_PER_SOURCE not in uncounted:
            window = asked.source_window
        if self._has_source_limit and _MAX_PER_SOURCE not in uncounted:
            token = lane.source_opened(asked.key, asked.now, window)
            return token, asked.key, counts
        if window is not None:
            lane.source_admitted(asked.key, window)
        return None if counts else _UNCOUNTED

    def _count_for_rate(self) -> None:
        """Count a connection for ``accept_rate``, unless it is a reserved one."""
        if self._reserved:
            self._reserved -= 1
        else:
            self._lane.service_admitted(self._column, self._counts.service_window)

    # --- behind a load balancer -------------------------------------------------------

    def arrive(self, peer: Peer, now: float) -> Decision:
        """Decide about a load balancer whose header has not come: only a live denial of
        its own address refuses it. If it is let in, its connection counts at once for
        the limits at which others wait in the accept queue.
        """
        decision, queued = self._decide(self._arrivals, peer, now), self.terms.queued
        if decision.refusal is None and _MAX_CONNECTIONS in queued:
            self._lane.service_opened(self._column)
        if decision.refusal is None and _ACCEPT_RATE in queued:
            self._count_for_rate()
        return decision

    def arrival_over(self) -> None:
        """Count the end of an arrival, whatever came of it."""
        if _MAX_CONNECTIONS in self.terms.queued:
            self._lane.service_closed(self._column)

    def admit_told(self, peer: Peer, now: float) -> tuple[Decision, Hold | None]:
        """Decide about the client that the header of an arrival has told."""
        decision, hold = self.admit_local(peer, now)
        if decision.refusal is None:
            decision = self._sensed(peer, decision)
        return decision, hold

    def admit_local(self, peer: Peer, now: float) -> tuple[Decision, Hold | None]:
        """Decide about an arrival that told no other client than the load balancer. No
        sensor reports it: it is a health check.
        """
        self.arrival_over()  # for the decision, its own place is free
        decision = self._decide(self._clients, peer, now)
        if decision.refusal is not None:
            return decision, None
        observed = self.terms.observe if decision.observed else frozenset()
        return decision, self._enter(observed | ({_ACCEPT_RATE} & {*self.terms.queued}))

    def left(self, hold: Hold | None) -> None:
        """Count the end of a connection that was let in."""
        token, _, counts = hold or COUNTED
        if counts:
            self._lane.service_closed(self._column)
        if token is not None:
            self._lane.source_closed(token)


class DatagramAdmission:
    """The admission of datagrams to a service. They are never open, so that only rules,
    times, pressure and rates refuse one.
    """

    def __init__(self, terms: AccessTerms, column: int, gate: Gate) -> None:
        self.terms = terms
        self._column = column
        self._counts = DatagramCounts(terms, column, gate.shown)
        self._decider = Decider(terms, self._counts)
        self._lane, self._denied, self._halted = gate.lane, gate.shown.denied, gate.shown.halted
        self._needs_peer = self.terms.limits_peers

    @property
    def lets_all_in(self) -> bool:
        """Whether no datagram is refused or counted at this moment."""
        halted, denied = self._halted.of(self._column), self._denied
        return halted is None and not self._needs_peer and denied.is_empty

    @property
    def peer(self) -> Peer:
        """The sender of the last decision that was not ADMITTED."""
        return self._counts.peer

    def admit(self, peer: Peer, now: float) -> Decision:
        """Decide about a datagram of a sender. If it is let in, count it. In a pause it
        is refused: no queue keeps it.
        """
        halt = self._halted.of(self._column)
        self._counts.turn_to(now)
        self._counts.be_about(peer)
        if halt is not None:
            return _DATAGRAM_HALTS[halt]
        decision = self._decider.decide(peer, self._counts)
        if decision.refusal is None:
            self._count(decision)
        return decision

    def _count(self, decision: Decision) -> None:
        """As for connections."""
        terms, asked, lane = self.terms, self._counts, self._lane
        uncounted = terms.observe if decision.observed else ()
        if terms.accept_rate is not None and _ACCEPT_RATE not in uncounted:
            lane.source_admitted(asked.service_key, asked.service_window)
        by_source = terms.accept_rate_per_source is not None
        if by_source and _ACCEPT_RATE_PER_SOURCE not in uncounted:
            lane.source_admitted(asked.key, asked.source_window)
