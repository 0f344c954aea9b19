"""A worker from its first line to its last, and the master's orders to it.

The master calls :meth:`Worker.run` in the forked child, after the prologue of
:mod:`unpd.master.children.fork` made it an unprivileged child of its own. It owns the
engine. It raises OSError if a listener is broken for good.

When it is ordered to drain (:mod:`unpd.worker.orders`), the worker does so in this
order: listeners out of the epoll; the connections in their queues accepted; listeners
closed; the process title, which tells that no new client is taken; each session brought
to its end; leave.
"""

import functools
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unpd.access.terms import AccessTerms
from unpd.board import layout
from unpd.board.ended import EndedRing
from unpd.board.memory import Scoreboard
from unpd.channel import ChannelEnd
from unpd.config.times import ServiceTimes
from unpd.kernel.outgoing import ConnectOptions
from unpd.kernel.resolver import Resolver
from unpd.logs import Log
from unpd.loop import now
from unpd.services.redirect import Redirect
from unpd.services.sensor import Sensor
from unpd.worker.accepting import Listener, ListenerSetup
from unpd.worker.admission import Admission, DatagramAdmission, Gate
from unpd.worker.event.datagram import DatagramSetup, DatagramTerms, OwnAddresses
from unpd.worker.event.engine import Engine, EngineSetup
from unpd.worker.networks import Networks
from unpd.worker.orders import Orders, Signals
from unpd.worker.questions import Questions
from unpd.worker.redirect.names import Names
from unpd.worker.redirect.targets import Targets, TargetsSetup
from unpd.worker.siblings import Place, Siblings
from unpd.worker.terms import Terms


@dataclass(frozen=True, slots=True)
class ServiceSetup:
    """One service as a worker gets it. ``column``: its column on the scoreboard.
    ``service``: a StreamService, a DatagramService or both, as its listeners need it;
    or a Redirect, whose targets have ``target_columns`` and, like its clients, probes
    if ``keepalive``.
    ``datagrams``: its datagram sockets with their columns; the three numbers bound what
    a source network, and all of them, are sent. ``access``: who may use it, and how
    much of it. ``offered``: the times of the services to which its sessions may be
    handed over.
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
    access: AccessTerms = field(default_factory=AccessTerms)
    datagram_access: AccessTerms = field(default_factory=AccessTerms)
    keepalive: bool = True
    target_columns: tuple[int, ...] = ()
    offered: Mapping[str, ServiceTimes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Everything a worker gets.

    ``gate``: what its admissions share. ``own``: the addresses on which unpd listens at
    its start. ``board`` and ``place``:
    where it finds its siblings; without a place it has its listeners alone, and never
    takes more than ``max_connections``. ``row``: its own words on the board.
    ``channel``: the questions of the master, which come after ``report_ready`` (None:
    no questions). ``ended``: the ring for connections that have ended, None if nobody
    reads it. ``switch_log`` answers the question that brings a new log file.
    ``title`` sets the state in the process title.
    """

    services: tuple[ServiceSetup, ...]
    gate: Gate
    own: OwnAddresses
    max_connections: int
    grace_s: float
    board: Scoreboard
    place: Place | None
    row: memoryview
    log: Log
    signals: Signals
    report_ready: Callable[[], None]
    channel: ChannelEnd | None
    switch_log: Callable[[], dict[str, Any]]
    title: Callable[[str], None]
    ended: EndedRing | None = None


class Worker:
    """The engine, and the effect of the master's orders on it."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._names = Names(lambda: Resolver(layout.MAX_TARGETS))
        self._engine = Engine(
            EngineSetup(
                listeners=[
                    listener
                    for service in setup.services
                    for listener in listeners_of(service, setup.gate, self._targets_of(service))
                ],
                datagrams=[
                    datagrams
                    for service in setup.services
                    for datagrams in _datagrams(service, setup.own, setup.gate)
                ],
                max_connections=setup.max_connections,
                row=setup.row,
                log=setup.log,
                ended=setup.ended,
                siblings=Siblings(setup.board, setup.place) if setup.place else None,
                alone=setup.place is None,
            )
        )
        self._orders = Orders(self._engine, setup.signals, setup.grace_s, self._drain)

    def run(self) -> None:
        """Serve until drained, or ordered to leave."""
        setup, engine, orders = self._setup, self._engine, self._orders
        orders.watch()
        self._names.begin(engine.watch, now)
        setup.report_ready()
        if setup.channel is not None:
            questions = Questions(setup.channel, engine, setup.log, setup.switch_log, setup.board)
            questions.watch(engine.learn, level_changed=engine.level_changed)
            setup.gate.sensing.send = questions.report
        setup.title("ready")
        engine.begin()
        while not orders.leaving and not (orders.draining and not engine.open):
            engine.turn()
        engine.leave()
        engine.close()

    def _drain(self) -> None:
        self._engine.stop_accepting()
        self._setup.title("draining")

    def _targets_of(self, service: ServiceSetup) -> Targets | None:
        if not isinstance(service.service, Redirect):
            return None
        connect = ConnectOptions(service.keepalive, service.times.user_timeout_s)
        options = service.service.options
        setup = TargetsSetup(service.name, options, service.target_columns, connect)
        return Targets(setup, self._names)


def listeners_of(
    service: ServiceSetup, gate: Gate, targets: Targets | None = None
) -> list[Listener]:
    """The listeners of a service, with its terms. ``targets``: those of a redirect."""
    terms = replace(terms_of(service, gate), targets=targets)
    # Before Linux 6.5 splice(2) into a UNIX socket waits for a lock that the peer holds
    # while it reads, as long as a page fault in its buffer takes: it could hold up the
    # whole worker.
    unix_terms = replace(terms, over_tcp=False, relays=False)
    return [
        Listener(setup, unix_terms if setup.sock.family == socket.AF_UNIX else terms)
        for setup in service.listeners
    ]


def terms_of(service: ServiceSetup, gate: Gate) -> Terms:
    """The terms of the streams of a service."""
    is_sensor = isinstance(service.service, Sensor)
    sense = functools.partial(gate.sensing.report, service.name) if is_sensor else None
    return Terms(
        name=service.name,
        service=service.service,
        times=service.times,
        words=layout.service_cells(service.column),
        offered=service.offered,
        banner=service.access.banner_accepted,
        has_proxies=bool(service.access.proxies),
        admission=Admission(service.access, service.column, gate, sense),
    )


def _datagrams(service: ServiceSetup, own: OwnAddresses, gate: Gate) -> list[DatagramSetup]:
    """The datagram sockets of a service. Those of UDP share what a source network is
    sent, and the UNIX ones what a sender is.
    """
    admission = DatagramAdmission(service.datagram_access, service.column, gate)
    udp, unix = (
        DatagramTerms(
            name=service.name,
            service=service.service,
            words=layout.service_cells(service.column),
            networks=Networks(
                service.amplification,
                service.datagram_rate,
                now(),
                total_rate=service.datagram_total_rate,
            ),
            admission=admission,
        )
        for _ in range(2)
    )
    return [
        DatagramSetup(sock, column, unix if sock.family == socket.AF_UNIX else udp, own)
        for sock, column in service.datagrams
    ]
