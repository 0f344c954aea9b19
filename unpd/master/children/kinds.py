"""The kinds of children: which listeners each inherits, which program it runs, and the
recipe by which a reload notices that a pool changed.

A new kind is a row in :data:`KINDS` and a row in :data:`unpd.core.policy.POLICIES`. The
functions here translate the master's configuration into the arguments of these
programs, which import nothing of the master. :mod:`unpd.master.children.serving` tells
which services a child serves.

A recipe has every value of the configuration that a child of the pool reads, but those
of its rules, and which sockets it listens on. A function here that reads one more value
adds it to the recipe of its kind: otherwise a reload leaves the pool alone although
that value changed. Only the addresses of all listeners are in no recipe: the adoption
of a configuration sends them to the workers (:mod:`unpd.master.perform`), which keep
their connections.

Called by the performers; calls :mod:`unpd.worker`, :mod:`unpd.dispatcher` and
:mod:`unpd.metrics.exporter` in the child.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from unpd.board.source_lane import SourceLane
from unpd.board.sources import SourceCounts
from unpd.config.access import AccessKeys
from unpd.config.addresses import takes_datagrams
from unpd.config.host import SOMAXCONN, read_somaxconn
from unpd.config.plan import values_of, worker_count
from unpd.core.model import Child, Limits, Recipe, Wanted, WantedPool
from unpd.dispatcher.heirlooms import Heirlooms
from unpd.dispatcher.main import Dispatcher, DispatcherSetup
from unpd.dispatcher.program_roll import ProgramRoll
from unpd.dispatcher.programs import Programs
from unpd.kernel.privileges import Identity
from unpd.kernel.signals import interrupt_waits
from unpd.master.children.exporting import (
    exporter_keeps,
    live_as_exporter,
    servers_by_service,
)
from unpd.master.children.fork import CHILD_SIGNALS, Newborn
from unpd.master.children.launching import (
    Prepare,
    function_identity,
    keeps_root,
    lane_of,
    make_heirlooms,
    prepare_function,
    prepare_programs,
    sockets_of,
)
from unpd.master.children.serving import (
    identities_of,
    listeners_of,
    make_services,
    needed_by,
    own_addresses,
    served_by,
    services_of,
    services_of_slots,
)
from unpd.master.columns import target_keys
from unpd.master.runtime import Deployment, Runtime
from unpd.names import METRICS, ChildKind
from unpd.services.base import StreamService
from unpd.worker.accepting import LONGEST_WAIT_S, ListenerSetup
from unpd.worker.admission import Gate
from unpd.worker.counted import Shown
from unpd.worker.main import ServiceSetup, Worker, WorkerSetup
from unpd.worker.orders import Signals
from unpd.worker.siblings import Place


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of child.

    ``wanted``: how many a deployment wants, by pool. ``recipe``: that of a pool, and
    its rules (:class:`unpd.core.model.WantedPool`).
    ``services``: the one of each slot of a pool, where each slot serves another.
    ``keeps``: the descriptors of listeners that a child inherits. ``live``: its whole
    life, called in the child. ``sessions``: how many session processes a child may have
    at a time. ``heirlooms``: makes what these share with later children in its place.
    ``identity``: the user that a child becomes, None: that of the master.
    ``keeps_root``: whether a child of a master that is root stays root.
    """

    wanted: Callable[[Deployment], Mapping[str, int]]
    recipe: Callable[[Deployment, str], tuple[Recipe, Recipe]]
    keeps: Callable[[Deployment, Child], tuple[int, ...]]
    live: Callable[[Runtime, Deployment, Newborn], None]
    sessions: Callable[[Deployment, Child], int] = lambda _deployment, _child: 0
    heirlooms: Callable[[Runtime, Deployment, Child], Heirlooms | None] = lambda *_: None
    identity: Callable[[Runtime, Deployment, Child], Identity | None] = lambda runtime, *_: (
        runtime.identity
    )
    keeps_root: Callable[[Runtime, Deployment, Child], bool] = lambda *_: False
    services: Callable[[Deployment, str], tuple[str, ...]] = lambda _deployment, _pool: ()


_WITHOUT_TABLE = (ChildKind.WORKER, ChildKind.ITERATIVE)
"""The kinds whose children have no table of sessions."""

# --- what is wanted -------------------------------------------------------------------


def _used_pools(deployment: Deployment, kind: ChildKind) -> dict[str, int]:
    """The pools that need children of a kind, with the number of services that these
    serve.
    """
    counts = {pool: len(services_of(deployment, kind, pool)) for pool in deployment.config.pools}
    return {pool: count for pool, count in counts.items() if count}


def _wanted_workers(deployment: Deployment) -> dict[str, int]:
    """A pool in which workers serve nothing gets none."""
    pools = deployment.config.pools
    return {name: worker_count(pools[name]) for name in _used_pools(deployment, ChildKind.WORKER)}


def _wanted_dispatchers(kind: ChildKind, deployment: Deployment) -> dict[str, int]:
    return dict.fromkeys(_used_pools(deployment, kind), 1)


def _wanted_exporters(deployment: Deployment) -> dict[str, int]:
    """None while its listener, which need not be required, is absent."""
    return {"exporter": 1} if deployment.listeners.of(METRICS) else {}


def _serving_recipe(kind: ChildKind, deployment: Deployment, pool: str) -> tuple[Recipe, Recipe]:
    config = deployment.config
    services = services_of(deployment, kind, pool)
    listeners = [one for name in services for one in listeners_of(deployment, kind, name)]
    values = {name: values_of(config.services[name]) for name in needed_by(deployment, services)}
    rules = {name: _take_rules(kind, of_service) for name, of_service in values.items()}
    recipe = (
        # How many siblings a worker has does not concern it.
        config.pools[pool].max_connections_per_worker if kind is ChildKind.WORKER else None,
        values,
        identities_of(listeners),
        values_of(config.log),
        config.daemon.grace_s,
    )
    return recipe, rules


def _take_rules(kind: ChildKind, values: dict[str, Any]) -> dict[str, Any]:
    """Take out of the values of a service those that only decide who may come in. The
    children of some kinds are born with room for ``max_connections`` and no more.
    """
    keys = [*AccessKeys.model_fields, "never_deny"]
    if kind in _WITHOUT_TABLE:
        keys.append("max_connections")
    return {key: values.pop(key) for key in keys}


def _function_recipe(deployment: Deployment, pool: str) -> tuple[Recipe, Recipe]:
    """Equal to no other recipe: each reload imports the functions anew."""
    recipe, rules = _serving_recipe(ChildKind.PYTHON, deployment, pool)
    return (recipe, object()), rules


def _exporter_recipe(deployment: Deployment, pool: str) -> tuple[Recipe, Recipe]:
    del pool
    config = deployment.config
    recipe = (
        config.metrics.listen,
        servers_by_service(deployment),
        target_keys(config.services),
        config.metrics.allow,
        identities_of(deployment.listeners.opened.values()),
        values_of(config.log),
        config.daemon.grace_s,
    )
    return recipe, None


# --- children that serve --------------------------------------------------------------


def _serving_keeps(deployment: Deployment, child: Child) -> tuple[int, ...]:
    return tuple(
        listener.sock.fileno()
        for name in served_by(deployment, child.slot)
        for listener in listeners_of(deployment, child.slot.kind, name)
    )


def _live_as_worker(runtime: Runtime, deployment: Deployment, newborn: Newborn) -> None:
    pool = deployment.config.pools[newborn.child.slot.pool]
    place = _place(runtime, newborn)
    limit = pool.max_connections_per_worker
    _serve(Worker(_worker_setup(runtime, deployment, newborn, limit, place)))


def _live_as_iterative(runtime: Runtime, deployment: Deployment, newborn: Newborn) -> None:
    setup = _worker_setup(runtime, deployment, newborn, max_connections=1, place=None)
    _serve(Worker(setup))


def _worker_setup(
    runtime: Runtime,
    deployment: Deployment,
    newborn: Newborn,
    max_connections: int,
    place: Place | None,
) -> WorkerSetup:
    return WorkerSetup(
        services=_service_setups(runtime, deployment, newborn),
        gate=_gate(runtime, newborn),
        own=own_addresses(deployment),
        max_connections=max_connections,
        grace_s=deployment.config.daemon.grace_s,
        board=newborn.board,
        place=place,
        row=newborn.cells,
        log=newborn.log,
        signals=_signals(newborn),
        report_ready=newborn.report_ready,
        channel=newborn.channel,
        switch_log=newborn.switch_log,
        title=newborn.title,
        ended=newborn.ended,
    )


def _live_as_dispatcher(runtime: Runtime, deployment: Deployment, newborn: Newborn) -> None:
    services = _service_setups(runtime, deployment, newborn)
    _serve(Dispatcher(_dispatcher_setup(runtime, deployment, newborn, services)))


def _live_as_launcher(
    prepare: Prepare, runtime: Runtime, deployment: Deployment, newborn: Newborn
) -> None:
    services = _service_setups(runtime, deployment, newborn)
    programs = prepare(runtime, deployment, newborn.child, services)
    earlier = runtime.lanes.earlier(newborn.child)
    setup = replace(
        _dispatcher_setup(runtime, deployment, newborn, services),
        roll=ProgramRoll,
        processes=functools.partial(Programs, setup=programs),
        listeners=functools.partial(sockets_of, programs.running, earlier),
    )
    _serve(Dispatcher(setup))


def _dispatcher_setup(
    runtime: Runtime, deployment: Deployment, newborn: Newborn, services: tuple[ServiceSetup, ...]
) -> DispatcherSetup:
    return DispatcherSetup(
        services=services,
        table=lane_of(runtime, newborn.child).table,
        gate=_gate(runtime, newborn),
        grace_s=deployment.config.daemon.grace_s,
        board=newborn.board,
        row=newborn.cells,
        log=newborn.log,
        signals=_signals(newborn),
        report_ready=newborn.report_ready,
        channel=newborn.channel,
        switch_log=newborn.switch_log,
        title=newborn.title,
        ended=newborn.ended,
    )


def _gate(runtime: Runtime, newborn: Newborn) -> Gate:
    sources = runtime.sources
    shown = Shown(
        sources=sources,
        counts=SourceCounts(sources, newborn.board.rows_shown),
        denied=runtime.deny_list.denied,
        halted=runtime.live.halted,
        master=newborn.board.words,
    )
    return Gate(shown, SourceLane(sources, newborn.row))


def _serve(server: Worker | Dispatcher) -> None:
    """Run a server whose accepts end soon, whatever a process that shares its listeners
    may do.
    """
    interrupt_waits(LONGEST_WAIT_S)
    server.run()


def _sessions(deployment: Deployment, child: Child) -> int:
    services = served_by(deployment, child.slot)
    return sum(deployment.config.services[name].max_connections for name in services)


def _place(runtime: Runtime, newborn: Newborn) -> Place:
    return Place(
        birth=newborn.child.birth,
        pool=runtime.columns.pools.column(newborn.child.slot.pool),
        generation=newborn.child.generation,
    )


def _signals(newborn: Newborn) -> Signals:
    return Signals(newborn.signal_queue, CHILD_SIGNALS, newborn.wakeup_fd)


def _service_setups(
    runtime: Runtime, deployment: Deployment, newborn: Newborn
) -> tuple[ServiceSetup, ...]:
    # The master changes its own level only after this generation has been proved.
    wanted = deployment.config.log
    newborn.log.set_level(wanted.level, connections=wanted.connections)
    kind, served = newborn.child.slot.kind, served_by(deployment, newborn.child.slot)
    made = make_services(deployment, served)
    return tuple(_service_setup(runtime, deployment, kind, name, made[name]) for name in served)


def _service_setup(
    runtime: Runtime, deployment: Deployment, kind: ChildKind, name: str, service: StreamService
) -> ServiceSetup:
    config = deployment.config.services[name]
    # listen(2) silently cuts a greater backlog.
    backlog = min(config.backlog, read_somaxconn(SOMAXCONN) or config.backlog)
    columns = runtime.columns.listeners
    listeners = listeners_of(deployment, kind, name)
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
        access=config.access,
        datagram_access=config.datagram_access,
        keepalive=config.keepalive,
        target_columns=tuple(map(runtime.columns.targets.column, target_keys({name: config}))),
        offered={
            offered: deployment.config.services[offered].times
            for offered in needed_by(deployment, (name,))
        },
    )


KINDS: Mapping[ChildKind, Kind] = MappingProxyType(
    {
        ChildKind.EXPORTER: Kind(
            wanted=_wanted_exporters,
            recipe=_exporter_recipe,
            keeps=exporter_keeps,
            live=live_as_exporter,
        ),
        ChildKind.WORKER: Kind(
            wanted=_wanted_workers,
            recipe=functools.partial(_serving_recipe, ChildKind.WORKER),
            keeps=_serving_keeps,
            live=_live_as_worker,
        ),
        ChildKind.ITERATIVE: Kind(
            wanted=functools.partial(_used_pools, kind=ChildKind.ITERATIVE),
            recipe=functools.partial(_serving_recipe, ChildKind.ITERATIVE),
            keeps=_serving_keeps,
            live=_live_as_iterative,
            services=functools.partial(services_of_slots, ChildKind.ITERATIVE),
        ),
        ChildKind.DISPATCHER: Kind(
            wanted=functools.partial(_wanted_dispatchers, ChildKind.DISPATCHER),
            recipe=functools.partial(_serving_recipe, ChildKind.DISPATCHER),
            keeps=_serving_keeps,
            live=_live_as_dispatcher,
            sessions=_sessions,
        ),
        ChildKind.LAUNCHER: Kind(
            wanted=functools.partial(_wanted_dispatchers, ChildKind.LAUNCHER),
            recipe=functools.partial(_serving_recipe, ChildKind.LAUNCHER),
            keeps=_serving_keeps,
            live=functools.partial(_live_as_launcher, prepare_programs),
            sessions=_sessions,
            heirlooms=make_heirlooms,
            keeps_root=keeps_root,
        ),
        ChildKind.PYTHON: Kind(
            wanted=functools.partial(_used_pools, kind=ChildKind.PYTHON),
            recipe=_function_recipe,
            keeps=_serving_keeps,
            live=functools.partial(_live_as_launcher, prepare_function),
            sessions=_sessions,
            heirlooms=make_heirlooms,
            identity=function_identity,
            services=functools.partial(services_of_slots, ChildKind.PYTHON),
        ),
    }
)
"""One row for each kind, in the order in which they are spawned."""


def wanted_children(deployment: Deployment) -> Wanted:
    """The children and limits that the configuration of ``deployment`` wants."""
    config = deployment.config
    limits = Limits(
        lame_duck_s=config.daemon.lame_duck_s,
        grace_s=config.daemon.grace_s,
        reload_grace_s=config.daemon.reload_grace_s,
        start_timeout_s=config.daemon.start_timeout_s,
        heartbeat_timeout_s=config.daemon.heartbeat_timeout_s,
    )
    pools = {
        (kind, pool): WantedPool(
            count,
            *row.recipe(deployment, pool),
            services=row.services(deployment, pool),
        )
        for kind, row in KINDS.items()
        for pool, count in row.wanted(deployment).items()
    }
    return Wanted(pools, limits)
