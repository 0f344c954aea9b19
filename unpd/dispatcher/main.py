"""A dispatcher from its first line to its last: UNP's concurrent server.

It accepts a connection, forks a session process for it, closes its own descriptor of
the connection, and goes on. SIGCHLD tells it that sessions have ended; its handler
loops waitpid (:class:`unpd.kernel.signals.Reaper`). A service has at most
``max_connections`` sessions: beyond that its listeners are not watched, and clients
wait in the accept queue, or are turned away, as the service's ``on_limit`` says. The
listeners take turns: the one that accepted last is watched last. If the kernel refuses
a fork, the connection is kept and the fork is tried again after a pause; meanwhile
nothing is accepted. While an operator pauses a service, its listeners rest, a moment at
a time. A connection of a load balancer waits for the header that tells its
client, beside the others (:mod:`unpd.worker.arrivals`).

The master calls :meth:`Dispatcher.run` in the forked child. If an earlier dispatcher
died, this one has its table: the sessions in it count on, and get the orders too.

On RETIRE and FINISH it drains: it accepts what waits in the queues, as far as there is
room, closes the listeners, and leaves after its last session, and its last trial of a
program. On LEAVE it waits for these alone. It passes every order on. Raises OSError if
a listener is broken for good.
"""

import functools
import itertools
import os
import select
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from unpd.board import layout
from unpd.board.ended import EndedRing
from unpd.board.memory import Scoreboard
from unpd.board.sessions import SessionTable
from unpd.channel import ChannelEnd
from unpd.dispatcher.processes import SessionProcesses
from unpd.dispatcher.roll import Began, Roll
from unpd.dispatcher.session import SessionSetup
from unpd.dispatcher.unforked import Accepted, Unforked, ended_unserved
from unpd.dispatcher.whole import WholeSocket
from unpd.kernel.signals import Reaper, blocked
from unpd.logs import Log
from unpd.loop import Loop, now
from unpd.names import ChildOrder, EndCause
from unpd.worker.accepting import BATCH, Listener, report_failure
from unpd.worker.admission import Gate, Hold
from unpd.worker.arrivals import Arrival, Arrivals, ArrivalsSetup
from unpd.worker.event.deadlines import Wheel
from unpd.worker.event.poller import Target
from unpd.worker.ledger import Ledger
from unpd.worker.main import ServiceSetup, listeners_of
from unpd.worker.orders import Signals
from unpd.worker.questions import Described, Questions
from unpd.worker.reception import Entered, Reception
from unpd.worker.refusals import RefusalLines
from unpd.worker.selection import Kick
from unpd.worker.terms import Terms

SWEEP_S = 1.0
"""How often the bytes of sessions are booked, and a lost SIGCHLD is made up for. A turn
waits no longer, so the heartbeat is written as often.
"""
LOOK_S = 0.1
"""How long a turn waits at most while there are sessions of an earlier dispatcher: no
signal tells that one of them has ended.
"""


@dataclass(frozen=True, slots=True)
class DispatcherSetup:
    """Everything a dispatcher gets. ``table``: of its sessions, with room for
    ``max_connections`` of each service. ``roll``, ``processes`` and ``listeners``: what
    its sessions are, and where they come from. The others are as in
    :class:`unpd.worker.main.WorkerSetup`.
    """

    services: tuple[ServiceSetup, ...]
    table: SessionTable
    gate: Gate
    grace_s: float
    board: Scoreboard
    row: memoryview
    log: Log
    signals: Signals
    report_ready: Callable[[], None]
    channel: ChannelEnd
    switch_log: Callable[[], dict[str, Any]]
    title: Callable[[str], None]
    ended: EndedRing | None = None
    roll: type[Roll] = Roll
    processes: Callable[..., SessionProcesses] = SessionProcesses
    listeners: Callable[[ServiceSetup, Gate], Iterable[Listener | WholeSocket]] = listeners_of


@dataclass(slots=True)
class Door:
    """A listener, with the ``column`` of its service. ``watched``: whether a new
    connection wakes the dispatcher.
    """

    listener: Listener | WholeSocket
    column: int
    watched: bool = False


class Dispatcher:
    """The listeners of the services that fork, and their sessions."""

    def __init__(self, setup: DispatcherSetup) -> None:
        self._setup = setup
        self._loop = Loop()
        self._doors = [
            Door(listener, service.column)
            for service in setup.services
            for listener in setup.listeners(service, setup.gate)
        ]
        self._begin = 0  # where a round of the doors begins
        accounts = {door.column: door.listener.terms for door in self._doors}
        self._ledger = Ledger(setup.row, accounts.values())
        self._roll = setup.roll(setup.table, self._ledger, accounts, setup.gate.lane)
        self._refusals = RefusalLines(setup.log)
        self._reception = Reception(self._ledger, self._refusals)
        self._reaper = Reaper()
        self._processes = setup.processes(self._roll, self._reaper, setup.log, now)
        self._wheel: Wheel[Arrival] = Wheel()
        self._arrivals = Arrivals(
            ArrivalsSetup(
                watch=self.watch,
                forget=self.forget,
                wheel=self._wheel,
                ledger=self._ledger,
                reception=self._reception,
                clock=now,
                numbered_from=setup.table.size,
            )
        )
        self._unforked = Unforked(self._fork, self._roll, setup.log)
        self._sweep_at = 0.0
        self._look_at = 0.0
        self._draining = False
        self._retired = False
        self._finishing = False

    def run(self) -> None:
        """Serve until drained."""
        setup = self._setup
        if setup.ended is not None:
            setup.ended.keep_from_children()
        self._reaper.install()
        self._loop.watch(setup.signals.wakeup_fd, select.EPOLLIN, self._take_orders)
        self._processes.watch(self._loop)
        setup.report_ready()
        questions = Questions(setup.channel, self, setup.log, setup.switch_log, setup.board)
        questions.watch(try_out=self._processes.try_out)
        setup.gate.sensing.send = questions.report
        setup.title("ready")
        while not self._draining or self._has_work():
            self._turn()
        self._write_ends()
        self._refusals.finish()

    def _has_work(self) -> bool:
        return bool(self._roll.enrolled or self._arrivals or self._processes.has_trials)

    def _turn(self) -> None:
        self._watch_doors()
        self._loop.turn(self._wait_s())
        self._ledger.beat(now())
        self._processes.take_ends()
        self._processes.look()
        if self._look_at <= now():
            self._look_at = now() + LOOK_S
            self._processes.take_inherited_ends()
        for arrival in self._wheel.due(now()):
            arrival.come_due()
        if self._unforked.retry_at <= now():
            self._unforked.retry()
        if self._sweep_at <= now():
            self._sweep()
        self._ledger.book()

    def _wait_s(self) -> float:
        pauses = [door.listener.resume_at for door in self._doors]
        look_at = self._look_at if self._processes.inherited else self._sweep_at
        sessions_at = min(look_at, self._processes.due_at)
        others = (self._unforked.retry_at, self._wheel.next_at, sessions_at)
        due_at = min(self._sweep_at, *others, *(at for at in pauses if at is not None))
        return 0.0 if self._reaper.reaped else max(0.0, due_at - now())

    def _sweep(self) -> None:
        self._sweep_at = now() + SWEEP_S
        with blocked():  # the SIGCHLD handler appends to the same deque
            self._reaper.sweep()
        self._roll.book()
        self._write_ends()
        self._refusals.flush(now())

    def _write_ends(self) -> None:
        if self._setup.ended is not None:
            self._setup.ended.write(self._ledger.ends)

    # --- accepting --------------------------------------------------------------------

    def _watch_doors(self) -> None:
        """Watch each listener whose service has room, unless it pauses: the one that
        accepted last behind the others, or its queue could starve theirs.
        """
        at = now()
        for door in self._doors[self._begin :] + self._doors[: self._begin]:
            listener = door.listener
            listener.resume(at)
            wanted = listener.resume_at is None and self._has_room(door)
            if isinstance(listener, WholeSocket) and listener.unasked:
                while wanted and self._accept(door):
                    pass
            elif wanted and not door.watched:
                woken = functools.partial(self._woken, door)
                self._loop.watch(listener.fd, select.EPOLLIN, woken)
            elif door.watched and not wanted:
                self._loop.forget(listener.fd)
            door.watched = wanted

    def _has_room(self, door: Door) -> bool:
        """Whether a connection may be accepted now. At a limit of its service that any
        process may relieve, its listener rests for a moment.
        """
        admission = door.listener.terms.admission
        if self._unforked or admission is None:
            return False
        if admission.has_proxies and len(self._arrivals) >= self._setup.table.size:
            return False
        if self._roll.full and not admission.turns_away_at_limit:
            self._reception.held_back(door.listener.terms, door.listener.waiting(), now())
            return False
        # From a whole socket programs take the clients: nothing here can refuse these.
        keeps_out = isinstance(door.listener, WholeSocket) and admission.halt is not None
        if keeps_out or not admission.has_room(now()):
            door.listener.rest(now())
            self._reception.held_back(door.listener.terms, door.listener.waiting(), now())
            return False
        return True

    def _woken(self, door: Door, mask: int) -> None:
        if mask & select.EPOLLHUP:  # another process shut the shared listener down
            if (failure := door.listener.ended(now())) is not None:
                report_failure(door.listener, failure, self._ledger, self._setup.log)
            return
        for _ in range(BATCH):
            if not self._accept(door):
                break
            self._begin = self._doors.index(door) + 1
        if door.watched and not self._has_room(door):
            # A place may become free before the next turn, which has to watch the
            # doors in their order again.
            self._loop.forget(door.listener.fd)
            door.watched = False

    def _accept(self, door: Door) -> bool:
        """Accept one connection, if there is room for it, and fork its session. Whether
        one was there.
        """
        if not self._has_room(door):
            return False
        listener = door.listener
        accepted, failure = listener.accept(1, now())
        if failure is not None:
            report_failure(listener, failure, self._ledger, self._setup.log)
            return not failure.paused
        known = accepted
        if listener.terms.admission is not None and listener.terms.admission.has_proxies:
            enter = functools.partial(self._enter, door)
            known = self._arrivals.take(listener.terms, accepted, enter)
        self._enter(door, self._reception.admit(listener.terms, known, now()))
        return bool(accepted)

    def _enter(self, door: Door, entered: Sequence[Entered]) -> None:
        """Fork the sessions of connections that were let in."""
        listener = door.listener
        for fd, peer, hold, _ in entered:
            if self._roll.full:  # only if a hostile process has changed the counts
                self._let_go(listener.terms, fd, hold)
                continue
            began = Began(door.column, listener.word, peer, int(now() * layout.NS), hold)
            accepted = Accepted(listener.terms, fd, peer, self._roll.begin(began))
            self._unforked.add(accepted, ended_unserved(listener.terms, fd))

    def _let_go(self, terms: Terms, fd: int, hold: Hold | None) -> None:
        """Close a connection for which the table has no room."""
        if terms.admission is not None:
            terms.admission.left(hold)
        os.close(fd)

    def _fork(self, accepted: Accepted) -> None:
        """Fork the session of a connection. OSError if the kernel refuses."""
        setup = self._setup
        session = SessionSetup(
            terms=accepted.terms,
            fd=accepted.fd,
            peer=accepted.peer,
            entry=setup.table.entry(accepted.index),
            listeners=[door.listener.sock.close for door in self._doors],
            signals=setup.signals,
            grace_s=setup.grace_s,
            log=setup.log,
            retired=self._retired,
            dispatcher_pid=os.getpid(),
        )
        self._processes.fork(accepted.index, session)
        if self._finishing:
            self._processes.tell(ChildOrder.FINISH, {accepted.index})

    # --- orders -----------------------------------------------------------------------

    def _take_orders(self, _mask: int) -> None:
        for order in self._setup.signals.take():
            self._drain(accepts=order is not ChildOrder.LEAVE)
            match order:
                case ChildOrder.RETIRE:
                    self._retired = True
                case ChildOrder.FINISH:
                    self._finishing = True
                    self._arrivals.finish()
                case ChildOrder.LEAVE:
                    self._arrivals.leave()
            if order is not ChildOrder.RETIRE:
                self._unforked.drop(EndCause.SHUTDOWN)
            self._processes.tell(order)

    def _drain(self, accepts: bool) -> None:
        """Accept what the queues hold at this moment, as far as there is room, and
        close the listeners. What is left belongs to the next generation.
        """
        if self._draining:
            return
        self._draining = True
        for door in self._doors:
            if door.watched:
                self._loop.forget(door.listener.fd)
            left = door.listener.queued() if accepts else 0
            while left > 0 and self._accept(door):
                left -= 1
        while self._doors:
            self._doors.pop().listener.sock.close()
        self._setup.title("draining")

    def kick(self, kick: Kick) -> int:
        """End the sessions of a selection, the connections that wait for their fork,
        and the arrivals of load balancers; return how many.
        """
        kicked = self._roll.kick(kick, now())
        if not kick.dry_run:
            self._processes.tell(ChildOrder.LEAVE, kicked)
            self._unforked.drop(kick.cause, kicked)
        return len(kicked) + self._arrivals.kick(kick)

    # --- as the channel sees it -------------------------------------------------------

    def watch(self, fd: int, target: Target, mask: int = select.EPOLLIN) -> None:
        """Call ``target.ready(events)`` when ``fd`` shows one of ``mask``."""
        self._loop.watch(fd, mask, target.ready)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``, which stays open."""
        self._loop.forget(fd)

    def connections(self, after: int = -1) -> Iterable[Described]:
        """The sessions, and behind their entries the arrivals, above ``after``."""
        every: Iterable[Described] = itertools.chain(self._roll.present(), self._arrivals)
        return (each for each in every if each.number > after)
