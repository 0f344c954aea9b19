"""The engine: a level-triggered epoll loop over non-blocking sockets.

Behind each descriptor stands a target with ``ready(mask)``: a stream of a session, an
end of a redirect, or a watcher of a listener, of the wake-up pipe, of the channel. A
turn waits once, has every ready target served, ends what is due, and books what it has
counted.

Its bounds: a stream has at most so much pending output, ``max_connections`` are open at
a time (the others wait in the kernel's queue), and every session has its deadlines in
the wheel.

Its speed: connections are bare descriptors (:mod:`unpd.kernel.connections` says why);
options are inherited from the listener; the clock is read and the bytes are booked once
a turn; small messages of an echo take the hot path (:mod:`unpd.worker.event.plain`),
which does nothing that the general path does not do.

Owns the poller, the wheel and the relay. The worker calls it. Raises OSError if a
listener is broken for good: the worker cannot go on.
"""

import heapq
import select
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from unpd.board.ended import EndedRing
from unpd.kernel.batches import make_batch
from unpd.kernel.relay import PipePool
from unpd.logs import Log
from unpd.loop import now
from unpd.names import EndCause
from unpd.worker.accepting import Listener
from unpd.worker.event.datagram import DatagramSetup, DatagramSocket, OwnAddresses
from unpd.worker.event.intake import Intake
from unpd.worker.event.oldest import Oldest
from unpd.worker.event.plain import serve_plain
from unpd.worker.event.poller import Poller, Target
from unpd.worker.event.session import Session
from unpd.worker.event.shared import MAX_PIPES, Shared
from unpd.worker.event.stream import Stream
from unpd.worker.event.turn_times import TurnTimes
from unpd.worker.ledger import Ledger
from unpd.worker.questions import Described
from unpd.worker.redirect.flow import End
from unpd.worker.redirect.session import RelaySession
from unpd.worker.selection import Kick
from unpd.worker.siblings import Siblings
from unpd.worker.terms import Terms

MAX_EVENTS = 64
"""How many events a turn takes: enough to pay for the turn, and so few that malloc(3)
finds the memory for the answer of epoll_wait(2) at once.
"""
LONGEST_TURN_S = 1.0
"""How long a turn waits at most, so that the heartbeat is written about that often."""


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """Everything an engine is made of.

    ``row``: the worker's words on the scoreboard. ``datagrams``: its datagram sockets.
    ``handed``: the terms of connections that come through :meth:`Engine.take_over`.
    ``ended``: the ring for connections that have ended; None: nobody reads it.
    ``siblings``: the workers that share its listeners; None: it takes what it gets.
    ``alone``: nobody shares them, so that it never takes more than ``max_connections``.
    ``counts_turns``: False for a session process: its row has no words for the times
    of turns, and nobody reads from it since when its connection is open.
    ``hot_path``: False to serve small echoes on the general path, too. ``splices``:
    False for redirects that copy all bytes. ``batches``: False to receive and send a
    datagram a call. ``clock``: the monotonic clock.
    """

    listeners: Iterable[Listener]
    max_connections: int
    row: memoryview
    log: Log
    datagrams: Iterable[DatagramSetup] = ()
    handed: Iterable[Terms] = ()
    ended: EndedRing | None = None
    siblings: Siblings | None = None
    alone: bool = False
    counts_turns: bool = True
    hot_path: bool = True
    splices: bool = True
    batches: bool = True
    clock: Callable[[], float] = now


class Engine:
    """The connections of one worker."""

    def __init__(self, setup: EngineSetup) -> None:
        listeners = tuple(setup.listeners)
        terms = (*(listener.terms for listener in listeners), *setup.handed)
        self._ledger = Ledger(setup.row, terms)
        self._poller = Poller()
        self._clock = setup.clock
        self._hot_path = setup.hot_path
        self._max_connections = setup.max_connections
        self._shared = Shared(
            poller=self._poller,
            ledger=self._ledger,
            log=setup.log,
            now=setup.clock(),
            pipes=PipePool(MAX_PIPES if setup.splices else 0),
        )
        self._intake = Intake(
            listeners, setup.siblings, setup.max_connections, self._shared, alone=setup.alone
        )
        self._times = TurnTimes(setup.row if setup.counts_turns else None)
        self._woken_at = self._shared.now
        self._oldest = Oldest(terms, self._ledger) if setup.counts_turns else None
        self._ended = setup.ended
        self._datagrams = _datagram_sockets(setup, self._shared)
        for datagrams in self._datagrams:
            datagrams.watch()

    @property
    def open(self) -> int:
        """How many connections are open, arrivals included."""
        return self._ledger.open

    def watch(self, fd: int, target: Target, mask: int = select.EPOLLIN) -> None:
        """Call ``target.ready(events)`` when ``fd`` shows one of ``mask``."""
        self._poller.watch(fd, target, mask)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``, which stays open."""
        self._poller.unwatch(fd)

    def connections(self, after: int = -1) -> Iterator[Described]:
        """Yield the open sessions and the arrivals whose descriptors are above
        ``after``, in their order.
        """
        sessions: Iterable[Described] = self.sessions(after)
        arrivals = (one for one in self._shared.arrivals if one.number > after)
        return heapq.merge(sessions, arrivals, key=lambda one: one.number)

    def sessions(self, after: int = -1) -> Iterator[Session | RelaySession]:
        """Yield the open sessions whose numbers are above ``after``, in their order."""
        for target in self._poller.after(after):
            if (session := _session_of(target)) is not None:
                yield session

    def session_at(self, number: int) -> Session | RelaySession | None:
        """The open session with a number that one had, if there is one."""
        return _session_of(self._poller.targets[number])

    def learn(self, own: OwnAddresses) -> None:
        """Take the addresses on which unpd listens from now on."""
        for datagrams in self._datagrams:
            datagrams.learn(own)

    def level_changed(self) -> None:
        """Ask the log anew which lines it wants."""
        self._shared.look_at_log()

    def take_over(self, terms: Terms, fd: int, peer: bytes) -> None:
        """Serve a connection that another process has accepted and counted."""
        self._shared.now = self._clock()
        self._ledger.open += 1
        Session(self._shared, terms, fd, peer).open()

    def begin(self) -> None:
        """Begin to turn: what came before is no turn."""
        self._woken_at = self._clock()

    def turn(self, longest_s: float = LONGEST_TURN_S) -> None:
        """Wait once, but no longer than ``longest_s``; serve what is ready, end what is
        due. Write the heartbeat, unless the last one is quite new.
        """
        # Many turns serve only two or three connections, also under load, where these
        # come as fast as they are served. So a turn that has nothing special to do asks
        # for it by comparisons, not by calls.
        shared, ledger, intake, wheel = self._shared, self._ledger, self._intake, self._shared.wheel
        times = self._times
        if (ledger.open < self._max_connections) is not intake.has_room or intake.pausing:
            intake.watch()
        wait_s = min(wheel.next_at - shared.now, longest_s)
        if intake.pausing:
            wait_s = min(wait_s, intake.resume_at() - shared.now)
        # One call of the clock more in each turn: nothing else tells the work from the
        # wait. The processor time of the process, asked with the heartbeat, would be
        # cheaper, but a turn that the disk or the scheduler holds up uses none.
        busy_s = self._clock() - self._woken_at
        times.busy_s += busy_s
        if busy_s > times.longest_s:  # noqa: PLR1730 - a call of max costs more
            times.longest_s = busy_s
        events = self._poller.epoll.poll(max(0.0, wait_s), MAX_EVENTS)
        shared.now = self._woken_at = self._clock()
        if ledger.beat(shared.now):
            times.book()
        if self._hot_path:
            serve_plain(events, shared)
        else:
            for fd, mask in events:
                self._poller.targets[fd].ready(mask)
        if wheel.next_at <= shared.now:
            for session in wheel.due(shared.now):
                session.come_due()
        if intake.patrol_at <= shared.now:
            self._patrol()
        ledger.book()

    def _patrol(self) -> None:
        """Do what is done about once a second."""
        shared = self._shared
        self._intake.patrol()
        if self._oldest is not None:
            self._oldest.look(self.sessions, self.session_at, shared.now)
        self._write_ends()
        shared.relay.release_if_unused()
        shared.pipes.release_unused()
        shared.refusals.flush(shared.now)

    def _write_ends(self) -> None:
        if self._ended is not None:
            self._ended.write(self._ledger.ends)

    # --- draining ---------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Stop watching the listeners, accept what their queues hold at this moment,
        close them. So with the datagrams that wait.
        """
        self._shared.now = self._clock()
        self._intake.drain()
        while self._datagrams:
            self._datagrams.pop().drain()
        self._ledger.book()

    def finish(self, finish_at: float, linger_s: float) -> None:
        """Bring every session to its end: once its client has been quiet for a moment,
        at ``finish_at`` at the latest, and ``linger_s`` more for the client's FIN.

        Sessions that we are ending already linger for ``linger_s`` from now at most.
        """
        shared = self._shared
        shared.now = self._clock()
        shared.finish_at = finish_at
        shared.linger_s = linger_s
        for session in self.sessions():
            session.finish_soon()
        shared.arrivals.finish()

    def kick(self, kick: Kick) -> int:
        """End every connection of a selection; return how many."""
        at = self._shared.now = self._clock()
        kicked = [one for one in self.sessions() if one.belongs(kick.selection, at)]
        arrivals = self._shared.arrivals.kick(kick)
        for session in () if kick.dry_run else kicked:
            try:
                session.reset(session.cause or kick.cause)
            except OSError:
                session.end(session.cause or kick.cause)
        self._ledger.book()
        return len(kicked) + arrivals

    def leave(self) -> None:
        """End every session at once."""
        self._shared.now = self._clock()
        for session in self.sessions():
            session.end(session.cause or EndCause.SHUTDOWN)
        self._shared.arrivals.leave()
        self._ledger.book()
        self._write_ends()
        self._shared.refusals.finish()
        self._shared.relay.close()
        self._shared.pipes.close()

    def close(self) -> None:
        """Close the epoll."""
        self._poller.epoll.close()


def _datagram_sockets(setup: EngineSetup, shared: Shared) -> list[DatagramSocket]:
    """The datagram sockets, which share one batch. Its buffers take 0.1 ms to make, so
    that an engine without such sockets has none.
    """
    datagrams = list(setup.datagrams)
    if not datagrams:
        return []
    batch = make_batch(plain=not setup.batches)
    return [DatagramSocket(each, shared, batch) for each in datagrams]


def _session_of(target: Target) -> Session | RelaySession | None:
    """The open session of a stream, or of the client's end of a relay."""
    if not isinstance(target, Stream | End) or target.fd < 0:  # it has ended meanwhile
        return None
    session = target.session
    if isinstance(session, Session | RelaySession) and session.number == target.fd:
        return session
    return None
