"""A worker from its first line to its last. Called in the forked child, after the
master's prologue made it an unprivileged child of its own.

On RETIRE (a newer generation serves) and FINISH (the daemon stops) it drains, in this
order: listeners out of the wait; what their queues hold is accepted; listeners closed;
process title, which so tells that nobody new is taken; each connection brought to its
end; leave. RETIRE lets connections live until the master says FINISH.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from unpd.board import layout
from unpd.kernel.signals import SignalQueue, empty_wakeup_pipe
from unpd.logs import Log
from unpd.loop import now
from unpd.names import ChildOrder
from unpd.services.base import Service
from unpd.worker.accepting import Listener
from unpd.worker.event.connection import LINGER_S, Terms
from unpd.worker.event.deadlines import SLOTS_PER_S
from unpd.worker.event.engine import Engine

PATIENCE_SHARE = 0.75
"""The part of ``grace_s`` after which the last connection is over: a little before the
master kills what is left (at 0.8).
"""
LINGER_SHARE = 0.2
TWO_LOOKS_S = 2 / SLOTS_PER_S
"""How late the wheel may be, first with our FIN and then with the end of the lingering;
with a short ``grace_s`` that is more than lies between 0.75 and 0.8.
"""


@dataclass(frozen=True, slots=True)
class ListenerSetup:
    """One listener as a worker needs it: its address, its socket, the longest that its
    queue can be, its ``column`` of the scoreboard.
    """

    text: str
    sock: socket.socket
    backlog: int
    column: int


@dataclass(frozen=True, slots=True)
class ServiceSetup:
    """One service as a worker needs it: ``column`` of the scoreboard, times in seconds
    (0: none), and its listeners.
    """

    name: str
    service: Service
    column: int
    idle_timeout_s: float
    session_timeout_s: float
    user_timeout_s: float
    listeners: tuple[ListenerSetup, ...]


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Everything a worker is given. ``wakeup_fd`` becomes readable when ``arrivals``
    has signals. ``title`` sets the process title's state.
    """

    services: tuple[ServiceSetup, ...]
    max_connections: int
    grace_s: float
    cells: memoryview
    log: Log
    signal_queue: SignalQueue
    signals: Mapping[int, ChildOrder]
    wakeup_fd: int
    report_ready: Callable[[], None]
    reopen_log: Callable[[], None]
    title: Callable[[str], None]


class Worker:
    """The engine and what the master's orders do to it."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        listeners = [listener for service in setup.services for listener in _listeners(service)]
        self._engine = Engine(listeners, setup.max_connections, setup.cells, setup.log)
        self._engine.watch(setup.wakeup_fd, self._take_orders)
        self._draining = False
        self._retired = False
        self._finishing = False
        self._leaving = False

    def run(self) -> None:
        """Serve until drained or told to leave."""
        self._setup.report_ready()
        self._setup.title("ready")
        while not self._leaving and not (self._draining and not self._engine.count):
            self._engine.turn()
        self._engine.leave()

    def _take_orders(self) -> None:
        empty_wakeup_pipe(self._setup.wakeup_fd)
        for signum in self._setup.signal_queue.take():
            match self._setup.signals.get(signum):
                case ChildOrder.RETIRE:
                    self._retired = True
                    self._drain()
                case ChildOrder.FINISH:
                    self._finish()
                case ChildOrder.LEAVE:
                    self._leaving = True
                case ChildOrder.REOPEN_LOG:
                    self._setup.reopen_log()

    def _drain(self) -> None:
        if not self._draining:
            self._draining = True
            self._engine.stop_accepting()
            self._setup.title("draining")

    def _finish(self) -> None:
        """At a stop, connections end as they fall quiet; a child that was retired
        before has waited enough and ends them now.

        Said twice it means no more: a TERM for the whole process group or cgroup comes
        once from there and once from the master.
        """
        if self._finishing and not self._retired:
            return
        self._finishing = True
        linger_s = min(LINGER_S, LINGER_SHARE * self._setup.grace_s)
        patience_s = (
            0.0
            if self._retired
            else max(0.0, PATIENCE_SHARE * self._setup.grace_s - linger_s - TWO_LOOKS_S)
        )
        self._drain()
        self._engine.finish(now() + patience_s, linger_s)


def _listeners(service: ServiceSetup) -> list[Listener]:
    terms = Terms(
        service.name,
        service.service,
        layout.service_cells(service.column),
        service.idle_timeout_s,
        service.session_timeout_s,
        service.user_timeout_s,
    )
    # Before Linux 6.5 splice(2) into a UNIX socket waits for a lock that the peer holds
    # while it reads, as long as a page fault in its buffer takes: it could hold up the
    # whole worker.
    by_family = {socket.AF_UNIX: replace(terms, relays=False)}
    return [
        Listener(
            listener.sock,
            by_family.get(listener.sock.family, terms),
            listener.text,
            listener.backlog,
            layout.Row.LISTENER_ACCEPTED + listener.column,
        )
        for listener in service.listeners
    ]
