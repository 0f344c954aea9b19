"""The kinds of children: which descriptors each inherits, and what it runs.

A new kind is a row in :data:`KINDS` and a row in :data:`unpd.core.policy.POLICIES`. The
functions here translate the master's configuration into what the programs of the
children take; workers and the exporter import nothing of the master. Called by the
performers.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unpd import __version__, sinks
from unpd.board import layout
from unpd.config.addresses import TcpAddress
from unpd.config.host import SOMAXCONN, read_somaxconn
from unpd.config.times import times_of
from unpd.core.model import Child
from unpd.loop import now
from unpd.master.children.fork import CHILD_SIGNALS, Newborn
from unpd.master.listening.listener import METRICS
from unpd.master.runtime import Deployment, Runtime
from unpd.metrics.exporter import FINISH_S, ExporterContext, run_exporter
from unpd.metrics.labels import Labels, ListenerLabels
from unpd.names import ChildKind, ChildOrder
from unpd.services.table import SERVICES
from unpd.worker.accepting import ListenerSetup
from unpd.worker.main import ServiceSetup, Worker, WorkerSetup
from unpd.worker.siblings import Place

FINISH_SHARE = 0.1
"""The part of ``grace_s`` that an exporter has for its last answers. It is told to
finish when the workers are gone, after 80 % of ``grace_s`` at the latest, and killed
after 95 %.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of child. ``keeps``: the descriptors of listeners that it inherits.
    ``live``: its whole life, called in the child.
    """

    keeps: Callable[[Deployment, Child], tuple[int, ...]]
    live: Callable[[Runtime, Deployment, Newborn], None]


def _worker_keeps(deployment: Deployment, child: Child) -> tuple[int, ...]:
    services = [
        name
        for name, service in deployment.config.services.items()
        if service.pool == child.slot.pool
    ]
    return tuple(
        listener.sock.fileno() for name in services for listener in deployment.listeners.of(name)
    )


def _exporter_keeps(deployment: Deployment, child: Child) -> tuple[int, ...]:
    """The HTTP listener and no other: a listener that its owner has closed still
    completes handshakes while any duplicate of it is open.
    """
    del child
    return tuple(listener.sock.fileno() for listener in deployment.listeners.of(METRICS))


def _live_as_worker(runtime: Runtime, deployment: Deployment, newborn: Newborn) -> None:
    config = deployment.config
    # The master's own level changes only after this generation has proved itself.
    newborn.log.set_level(config.log.level)
    setup = WorkerSetup(
        services=tuple(
            _service_setup(runtime, deployment, name)
            for name, service in config.services.items()
            if service.pool == newborn.child.slot.pool
        ),
        max_connections=config.pools[newborn.child.slot.pool].max_connections,
        grace_s=config.daemon.grace_s,
        board=newborn.board,
        place=Place(
            birth=newborn.child.birth,
            pool=runtime.columns.pools.column(newborn.child.slot.pool),
            generation=newborn.child.generation,
        ),
        row=newborn.cells,
        log=newborn.log,
        signal_queue=newborn.signal_queue,
        signals=CHILD_SIGNALS,
        wakeup_fd=newborn.wakeup_fd,
        report_ready=newborn.report_ready,
        channel=newborn.channel,
        reopen_log=lambda: _reopen_log(deployment, newborn),
        title=newborn.title,
    )
    Worker(setup).run()


def _service_setup(runtime: Runtime, deployment: Deployment, name: str) -> ServiceSetup:
    config = deployment.config.services[name]
    # listen(2) cuts a greater backlog without a word.
    backlog = min(config.backlog, read_somaxconn(SOMAXCONN) or config.backlog)
    return ServiceSetup(
        name=name,
        service=SERVICES[config.type].make(config.options),
        column=runtime.columns.services.column(name),
        times=times_of(config),
        listeners=tuple(
            ListenerSetup(
                listener.text,
                listener.sock,
                backlog,
                runtime.columns.listeners.column(listener.wanted.key),
            )
            for listener in deployment.listeners.of(name)
        ),
    )


def _live_as_exporter(runtime: Runtime, deployment: Deployment, newborn: Newborn) -> None:
    listener = deployment.listeners.of(METRICS)[0]
    newborn.log.set_level(deployment.config.log.level)

    def ready() -> None:
        newborn.report_ready()
        newborn.title("ready")

    patience_s = {
        ChildOrder.RETIRE: FINISH_S,
        ChildOrder.FINISH: min(FINISH_S, FINISH_SHARE * deployment.config.daemon.grace_s),
        ChildOrder.LEAVE: 0.0,
    }

    def stop_within() -> float | None:
        orders = [CHILD_SIGNALS.get(signum) for signum in newborn.signal_queue.take()]
        if ChildOrder.REOPEN_LOG in orders:
            _reopen_log(deployment, newborn)
        return min((patience_s[order] for order in orders if order in patience_s), default=None)

    def beat() -> None:
        newborn.cells[layout.Row.BEAT_NS] = int(now() * layout.NS)

    run_exporter(
        ExporterContext(
            sock=listener.sock,
            board=newborn.board,
            labels=exporter_labels(runtime, deployment),
            beat=beat,
            wakeup_fd=newborn.wakeup_fd,
            stop_within=stop_within,
            report=newborn.log.event,
            ready=ready,
            loopback=isinstance(listener.address, TcpAddress)
            and ipaddress.ip_address(listener.address.host.partition("%")[0]).is_loopback,
        )
    )


def exporter_labels(runtime: Runtime, deployment: Deployment) -> Labels:
    """The labels of the exporter's series, and their columns on the scoreboard."""
    columns = runtime.columns
    listeners = tuple(
        ListenerLabels(
            opened.wanted.service,
            opened.text,
            columns.listeners.column(key),
            isinstance(opened.address, TcpAddress),
        )
        for key, opened in deployment.listeners.opened.items()
        if opened.wanted.service != METRICS
    )
    return Labels(
        services=tuple((name, columns.services.column(name)) for name in columns.services.names),
        pools=tuple((name, columns.pools.column(name)) for name in columns.pools.names),
        listeners=listeners,
        service_pools={name: service.pool for name, service in deployment.config.services.items()},
        version=__version__,
        master_pid=runtime.master_pid,
    )


def _reopen_log(deployment: Deployment, newborn: Newborn) -> None:
    """Open the new log file. The master has made it and given it to this child's
    user.
    """
    if not deployment.config.log.file:
        return
    try:
        newborn.log.sink.move_to(sinks.open_file(deployment.config.log.file, create=False))
    except OSError as error:
        newborn.log.event(
            "log.not_reopened", file=deployment.config.log.file, error=str(error.strerror)
        )


KINDS: Mapping[ChildKind, Kind] = MappingProxyType(
    {
        ChildKind.WORKER: Kind(_worker_keeps, _live_as_worker),
        ChildKind.EXPORTER: Kind(_exporter_keeps, _live_as_exporter),
    }
)
"""One row for each kind."""
