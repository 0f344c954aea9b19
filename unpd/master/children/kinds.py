"""The kinds of children: which listeners each inherits, which program it runs, and the
recipe by which a reload notices that a pool changed.

A new kind is a row in :data:`KINDS` and a row in :data:`unpd.core.policy.POLICIES`. The
functions here translate the master's configuration into the arguments of these
programs, which import nothing of the master.

A recipe has every value of the configuration that a child of the pool reads, and which
sockets it listens on. A function here that reads one more value adds it to the recipe
of its kind: otherwise a reload leaves the pool alone although that value changed.

Called by the performers; calls :mod:`unpd.worker` and :mod:`unpd.metrics.exporter` in
the child.
"""

import ipaddress
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unpd import __version__
from unpd.board import layout
from unpd.config.addresses import (
    BoundAddress,
    FileAddress,
    InternetAddress,
    TcpAddress,
    takes_datagrams,
)
from unpd.config.host import SOMAXCONN, read_somaxconn
from unpd.config.plan import values_of, worker_count
from unpd.config.schema import Config
from unpd.config.service_types import service_type
from unpd.core.model import Child, Limits, Recipe, Wanted, WantedPool
from unpd.loop import now
from unpd.master.children.fork import CHILD_SIGNALS, Newborn
from unpd.master.listening.listener import METRICS, OpenListener
from unpd.master.runtime import Deployment, Runtime
from unpd.metrics.exporter import FINISH_S, ExporterContext, run_exporter
from unpd.metrics.labels import Labels, ListenerLabels
from unpd.names import ChildKind, ChildOrder
from unpd.services.base import StreamService
from unpd.services.tcpmux import Tcpmux
from unpd.worker.accepting import ListenerSetup
from unpd.worker.event.datagram import OwnAddresses
from unpd.worker.main import ServiceSetup, Worker, WorkerSetup
from unpd.worker.siblings import Place

FINISH_SHARE = 0.1
"""The part of ``grace_s`` that an exporter has for its last answers. The policy table
orders it to finish when the workers are gone, after 80 % of ``grace_s`` at the latest,
and kills it after 95 %.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of child.

    ``wanted``: how many a configuration wants, by pool. ``recipe``: that of a pool.
    ``keeps``: the descriptors of listeners that a child inherits. ``live``: its whole
    life, called in the child.
    """

    wanted: Callable[[Config], Mapping[str, int]]
    recipe: Callable[[Deployment, str], Recipe]
    keeps: Callable[[Deployment, Child], tuple[int, ...]]
    live: Callable[[Runtime, Deployment, Newborn], None]


def _wanted_workers(config: Config) -> dict[str, int]:
    """A pool that no service uses gets no workers."""
    used = {service.pool for service in config.services.values()}
    return {name: worker_count(pool) for name, pool in config.pools.items() if name in used}


def _wanted_exporters(config: Config) -> dict[str, int]:
    return {"exporter": 1} if config.metrics.listen else {}


def _worker_recipe(deployment: Deployment, pool: str) -> Recipe:
    config = deployment.config
    services = _services_of(deployment, pool)
    pool_values = values_of(config.pools[pool])
    del pool_values["workers"]  # how many siblings a worker has does not concern it
    datagrams = any(takes_datagrams(one.address) for one in _listeners_of(deployment, pool))
    return (
        pool_values,
        {name: values_of(config.services[name]) for name in services},
        _identities(_listeners_of(deployment, pool)),
        values_of(config.log),
        config.daemon.grace_s,
        own_addresses(deployment) if datagrams else None,
    )


def _exporter_recipe(deployment: Deployment, pool: str) -> Recipe:
    del pool
    config = deployment.config
    return (
        {name: service.pool for name, service in config.services.items()},
        _identities(deployment.listeners.opened.values()),
        values_of(config.log),
        config.daemon.grace_s,
    )


def _identities(listeners: Iterable[OpenListener]) -> dict[str, tuple[str, str, int]]:
    """What distinguishes open listeners, by key: also the socket's inode, because a
    listener may have been opened again.
    """
    return {
        one.wanted.key: (one.wanted.service, one.text, os.fstat(one.sock.fileno()).st_ino)
        for one in listeners
    }


def _worker_keeps(deployment: Deployment, child: Child) -> tuple[int, ...]:
    return tuple(listener.sock.fileno() for listener in _listeners_of(deployment, child.slot.pool))


def _listeners_of(deployment: Deployment, pool: str) -> list[OpenListener]:
    """The listeners of the services of a pool."""
    services = _services_of(deployment, pool)
    return [listener for name in services for listener in deployment.listeners.of(name)]


def own_addresses(deployment: Deployment) -> OwnAddresses:
    """The addresses on which unpd itself listens, which get no datagram from us."""
    addresses = [listener.address for listener in deployment.listeners.opened.values()]
    return OwnAddresses(
        ports=frozenset(one.port for one in addresses if isinstance(one, InternetAddress)),
        paths=frozenset(one.kernel_path for one in addresses if isinstance(one, FileAddress)),
    )


def _services_of(deployment: Deployment, pool: str) -> list[str]:
    """The services of a pool."""
    services = deployment.config.services.items()
    return [name for name, service in services if service.pool == pool]


def _exporter_keeps(deployment: Deployment, child: Child) -> tuple[int, ...]:
    """The HTTP listener and no other: while any duplicate of a listener is open, the
    kernel completes handshakes for it, though its owner has closed it.
    """
    del child
    return tuple(listener.sock.fileno() for listener in deployment.listeners.of(METRICS))


def _live_as_worker(runtime: Runtime, deployment: Deployment, newborn: Newborn) -> None:
    config = deployment.config
    services = _services_of(deployment, newborn.child.slot.pool)
    # The master changes its own level only after this generation has been proved.
    newborn.log.set_level(config.log.level)
    made = {
        name: service_type(config.services[name].type).make(config.services[name].options)
        for name in services
    }
    for service in made.values():
        if isinstance(service, Tcpmux):
            service.offer(made)
    setup = WorkerSetup(
        services=tuple(
            _service_setup(runtime, deployment, name, service) for name, service in made.items()
        ),
        own=own_addresses(deployment),
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
        switch_log=newborn.switch_log,
        title=newborn.title,
    )
    Worker(setup).run()


def _service_setup(
    runtime: Runtime, deployment: Deployment, name: str, service: StreamService
) -> ServiceSetup:
    config = deployment.config.services[name]
    # listen(2) silently cuts a greater backlog.
    backlog = min(config.backlog, read_somaxconn(SOMAXCONN) or config.backlog)
    columns = runtime.columns.listeners
    listeners = deployment.listeners.of(name)
    return ServiceSetup(
        name=name,
        service=service,
        column=runtime.columns.services.column(name),
        times=config.times,
        listeners=tuple(
            ListenerSetup(
                listener.text, listener.sock, backlog, columns.column(listener.wanted.key)
            )
            for listener in listeners
            if not takes_datagrams(listener.address)
        ),
        datagrams=tuple(
            (one.sock, columns.column(one.wanted.key))
            for one in listeners
            if takes_datagrams(one.address)
        ),
        amplification=config.amplification,
        datagram_rate=config.datagram_rate,
        datagram_total_rate=config.datagram_total_rate,
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
        return min((patience_s[order] for order in orders if order in patience_s), default=None)

    def beat() -> None:
        newborn.cells[layout.Row.BEAT_NS] = int(now() * layout.NS)

    context = ExporterContext(
        sock=listener.sock,
        board=newborn.board,
        labels=exporter_labels(runtime, deployment),
        beat=beat,
        wakeup_fd=newborn.wakeup_fd,
        stop_within=stop_within,
        report=newborn.log.event,
        ready=ready,
        loopback=_is_loopback(listener.address),
        channel=newborn.channel,
        switch_log=newborn.switch_log,
    )
    run_exporter(context)


def _is_loopback(address: BoundAddress) -> bool:
    if not isinstance(address, TcpAddress):
        return False
    host, _, _ = address.host.partition("%")
    return ipaddress.ip_address(host).is_loopback


def exporter_labels(runtime: Runtime, deployment: Deployment) -> Labels:
    """Return the labels of the exporter's series, with their columns on the board."""
    columns, services = runtime.columns, deployment.config.services
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
        services=columns.services.shown_with(services),
        pools=columns.pools.shown_with({service.pool for service in services.values()}),
        listeners=listeners,
        service_pools={name: service.pool for name, service in services.items()},
        version=__version__,
        master_pid=runtime.master_pid,
    )


KINDS: Mapping[ChildKind, Kind] = MappingProxyType(
    {
        ChildKind.EXPORTER: Kind(
            wanted=_wanted_exporters,
            recipe=_exporter_recipe,
            keeps=_exporter_keeps,
            live=_live_as_exporter,
        ),
        ChildKind.WORKER: Kind(
            wanted=_wanted_workers,
            recipe=_worker_recipe,
            keeps=_worker_keeps,
            live=_live_as_worker,
        ),
    }
)
"""One row for each kind, in the order in which they are spawned."""


def wanted_children(deployment: Deployment) -> Wanted:
    """The children and limits that the configuration of ``deployment`` wants."""
    config = deployment.config
    limits = Limits(
        grace_s=config.daemon.grace_s,
        reload_grace_s=config.daemon.reload_grace_s,
        start_timeout_s=config.daemon.start_timeout_s,
        heartbeat_timeout_s=config.daemon.heartbeat_timeout_s,
    )
    pools = {
        (kind, pool): WantedPool(count, row.recipe(deployment, pool))
        for kind, row in KINDS.items()
        for pool, count in row.wanted(config).items()
    }
    return Wanted(pools, limits)
