"""The kinds of children: for each, which descriptors it keeps and what it does with its
life. A new kind is a row in :data:`KINDS`.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unpd import __version__, logs
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
from unpd.metrics.names import Listener, Names
from unpd.names import ChildKind, ChildOrder
from unpd.services.table import SERVICES
from unpd.worker.accepting import ListenerSetup
from unpd.worker.main import ServiceSetup, Worker, WorkerSetup
from unpd.worker.siblings import Place

FINISH_SHARE = 0.1
"""The part of ``grace_s`` that an exporter has for its last answers: it is told to
finish when the workers are gone, at 0.8 at the latest, and killed at 0.95.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of child. ``keeps``: the listeners' descriptors it inherits. ``live``:
    its whole life, called in the child.
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
    """The HTTP listener and no other: a listener that its owner has closed goes on
    completing handshakes while any duplicate lives.
    """
    del child
    return tuple(listener.sock.fileno() for listener in deployment.listeners.of(METRICS))


def _live_as_worker(runtime: Runtime, deployment: Deployment, birth: Newborn) -> None:
    config = deployment.config
    birth.log.set_level(
        config.log.level
    )  # the master's own level changes only once this generation has proved itself
    setup = WorkerSetup(
        services=tuple(
            _service_setup(runtime, deployment, name)
            for name, service in config.services.items()
            if service.pool == birth.child.slot.pool
        ),
        max_connections=config.pools[birth.child.slot.pool].max_connections,
        grace_s=config.daemon.grace_s,
        board=birth.board,
        place=Place(
            birth=birth.child.birth,
            pool=runtime.columns.pools.column(birth.child.slot.pool),
            generation=birth.child.generation,
        ),
        row=birth.cells,
        log=birth.log,
        signal_queue=birth.signal_queue,
        signals=CHILD_SIGNALS,
        wakeup_fd=birth.wakeup_fd,
        report_ready=birth.report_ready,
        channel=None,
        reopen_log=lambda: _reopen_log(deployment, birth),
        title=birth.title,
    )
    Worker(setup).run()


def _service_setup(runtime: Runtime, deployment: Deployment, name: str) -> ServiceSetup:
    config = deployment.config.services[name]
    backlog = min(
        config.backlog, read_somaxconn(SOMAXCONN) or config.backlog
    )  # listen(2): silently truncated
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


def _live_as_exporter(runtime: Runtime, deployment: Deployment, birth: Newborn) -> None:
    listener = deployment.listeners.of(METRICS)[0]
    birth.log.set_level(deployment.config.log.level)

    def ready() -> None:
        birth.report_ready()
        birth.title("ready")

    patience_s = {
        ChildOrder.RETIRE: FINISH_S,
        ChildOrder.FINISH: min(FINISH_S, FINISH_SHARE * deployment.config.daemon.grace_s),
        ChildOrder.LEAVE: 0.0,
    }

    def stop_within() -> float | None:
        orders = [CHILD_SIGNALS.get(signum) for signum in birth.signal_queue.take()]
        if ChildOrder.REOPEN_LOG in orders:
            _reopen_log(deployment, birth)
        return min((patience_s[order] for order in orders if order in patience_s), default=None)

    def beat() -> None:
        birth.cells[layout.Row.BEAT_NS] = int(now() * layout.NS)

    run_exporter(
        ExporterContext(
            sock=listener.sock,
            board=birth.board,
            names=exporter_names(runtime, deployment),
            beat=beat,
            wakeup_fd=birth.wakeup_fd,
            stop_within=stop_within,
            report=birth.log.warning,
            ready=ready,
            loopback=isinstance(listener.address, TcpAddress)
            and ipaddress.ip_address(listener.address.host.partition("%")[0]).is_loopback,
        )
    )


def exporter_names(runtime: Runtime, deployment: Deployment) -> Names:
    """What the exporter calls the columns of the scoreboard."""
    columns = runtime.columns
    listeners = tuple(
        Listener(
            opened.wanted.service,
            opened.text,
            columns.listeners.column(key),
            isinstance(opened.address, TcpAddress),
        )
        for key, opened in deployment.listeners.opened.items()
        if opened.wanted.service != METRICS
    )
    return Names(
        services=tuple((name, columns.services.column(name)) for name in columns.services.names),
        pools=tuple((name, columns.pools.column(name)) for name in columns.pools.names),
        listeners=listeners,
        service_pools={name: service.pool for name, service in deployment.config.services.items()},
        version=__version__,
        master_pid=runtime.master_pid,
    )


def _reopen_log(deployment: Deployment, birth: Newborn) -> None:
    """The master has made the new file and given it to our user; we only open it."""
    if not deployment.config.log.file:
        return
    try:
        birth.log.sink.move_to(logs.open_file(deployment.config.log.file, create=False))
    except OSError as error:
        birth.log.error(
            "log.not_reopened", file=deployment.config.log.file, error=str(error.strerror)
        )


KINDS: Mapping[ChildKind, Kind] = MappingProxyType(
    {
        ChildKind.WORKER: Kind(_worker_keeps, _live_as_worker),
        ChildKind.EXPORTER: Kind(_exporter_keeps, _live_as_exporter),
    }
)
"""One row a kind."""
