"""A worker from its first line to its last, and the master's orders to it.

The master calls :meth:`Worker.run` in the forked child, after the prologue of
:mod:`unpd.master.children.fork` made it an unprivileged child of its own. It owns the
engine. It raises OSError if a listener is broken for good.

On RETIRE (a newer generation serves) and FINISH (the daemon stops) the worker drains,
in this order: listeners out of the epoll; the connections in their queues accepted;
listeners closed; the process title, which tells that no new client is taken; each
session brought to its end; leave. After RETIRE, sessions live until the master says
FINISH.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from unpd.board import layout
from unpd.board.memory import Scoreboard
from unpd.channel import ChannelEnd
from unpd.config.times import ServiceTimes
from unpd.kernel.signals import SignalQueue, empty_wakeup_pipe
from unpd.logs import Log
from unpd.loop import now
from unpd.names import ChildOrder
from unpd.worker.accepting import Listener, ListenerSetup
from unpd.worker.event.datagram import DatagramSetup, DatagramTerms, OwnAddresses
from unpd.worker.event.deadlines import SLOTS_PER_S
from unpd.worker.event.engine import Engine, EngineSetup
from unpd.worker.event.poller import Watcher
from unpd.worker.event.shared import LINGER_S
from unpd.worker.networks import Networks
from unpd.worker.questions import Questions
from unpd.worker.siblings import Place, Siblings
from unpd.worker.terms import Terms

PATIENCE_SHARE = 0.75
"""The share of ``grace_s`` after which the last session is over: a little before the
master kills what is left (at 0.8).
"""
LINGER_SHARE = 0.2
"""The share of ``grace_s`` that a session lingers at most."""
TWO_SLOTS_S = 2 / SLOTS_PER_S
"""How late the wheel may be, once with our FIN and once with the end of the lingering:
with a short ``grace_s`` more than lies between 0.75 and 0.8.
"""


@dataclass(frozen=True, slots=True)
class ServiceSetup:
    """One service as a worker gets it. ``column``: its column on the scoreboard.
    ``service``: a StreamService, a DatagramService or both, as its listeners need it.
    ``datagrams``: its datagram sockets with their columns; the three numbers bound what
    a source network, and all of them, are sent.
    """

    name: str
    service: Any
    column: int
    times: ServiceTimes
    listeners: tuple[ListenerSetup, ...]
    datagrams: tuple[tuple[socket.socket, int], ...] = ()
    amplification: float = 1.0
    datagram_rate: int = 0
    datagram_total_rate: int = 0


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Everything a worker gets.

    ``own``: the addresses on which unpd listens. ``board`` and ``place``: where it
    finds its siblings. ``row``: its own words on the board. ``wakeup_fd`` becomes
    readable when ``signal_queue`` has signals. ``channel``: the questions of the
    master, which come after ``report_ready`` (None: no questions). ``switch_log``
    answers the question that brings a new log file. ``title`` sets the state in the
    process title.
    """

    services: tuple[ServiceSetup, ...]
    own: OwnAddresses
    max_connections: int
    grace_s: float
    board: Scoreboard
    place: Place
    row: memoryview
    log: Log
    signal_queue: SignalQueue
    signals: Mapping[int, ChildOrder]
    wakeup_fd: int
    report_ready: Callable[[], None]
    channel: ChannelEnd | None
    switch_log: Callable[[], dict[str, Any]]
    title: Callable[[str], None]


class Worker:
    """The engine, and the effect of the master's orders on it."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        all_times = {service.name: service.times for service in setup.services}
        self._engine = Engine(
            EngineSetup(
                listeners=[
                    listener
                    for service in setup.services
                    for listener in _listeners(service, all_times)
                ],
                datagrams=[
                    datagrams
                    for service in setup.services
                    for datagrams in _datagrams(service, setup.own)
                ],
                max_connections=setup.max_connections,
                row=setup.row,
                log=setup.log,
                siblings=Siblings(setup.board, setup.place),
            )
        )
        self._engine.watch(setup.wakeup_fd, Watcher(self._take_orders))
        self._draining = False
        self._retired = False
        self._finishing = False
        self._leaving = False

    def run(self) -> None:
        """Serve until drained, or ordered to leave."""
        self._setup.report_ready()
        if self._setup.channel is not None:
            setup = self._setup
            Questions(
                self._setup.channel, self._engine, setup.log, setup.switch_log, setup.board
            ).watch()
        self._setup.title("ready")
        while not self._leaving and not (self._draining and not self._engine.open):
            self._engine.turn()
        self._engine.leave()
        self._engine.close()

    def _take_orders(self, _mask: int) -> None:
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

    def _drain(self) -> None:
        if not self._draining:
            self._draining = True
            self._engine.stop_accepting()
            self._setup.title("draining")

    def _finish(self) -> None:
        """At a stop, sessions end as their clients fall quiet. A worker that was
        retired before has waited enough: its sessions end now.

        A second FINISH means no more than the first: a SIGTERM for the whole process
        group or cgroup comes once from there and once from the master.
        """
        if self._finishing and not self._retired:
            return
        self._finishing = True
        linger_s = min(LINGER_S, LINGER_SHARE * self._setup.grace_s)
        patience_s = max(0.0, PATIENCE_SHARE * self._setup.grace_s - linger_s - TWO_SLOTS_S)
        self._drain()
        self._engine.finish(now() + (0.0 if self._retired else patience_s), linger_s)


def _listeners(service: ServiceSetup, all_times: Mapping[str, ServiceTimes]) -> list[Listener]:
    terms = Terms(
        name=service.name,
        service=service.service,
        times=service.times,
        words=layout.service_cells(service.column),
        all_times=all_times,
    )
    # Before Linux 6.5 splice(2) into a UNIX socket waits for a lock that the peer holds
    # while it reads, as long as a page fault in its buffer takes: it could hold up the
    # whole worker.
    unix_terms = replace(terms, relays=False)
    return [
        Listener(setup, unix_terms if setup.sock.family == socket.AF_UNIX else terms)
        for setup in service.listeners
    ]


def _datagrams(service: ServiceSetup, own: OwnAddresses) -> list[DatagramSetup]:
    """The datagram sockets of a service, which share what a source network is sent."""
    terms = DatagramTerms(
        name=service.name,
        service=service.service,
        words=layout.service_cells(service.column),
        networks=Networks(
            service.amplification,
            service.datagram_rate,
            now(),
            total_rate=service.datagram_total_rate,
        ),
    )
    return [DatagramSetup(sock, column, terms, own) for sock, column in service.datagrams]
