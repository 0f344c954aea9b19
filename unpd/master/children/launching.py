"""What a launcher needs that another dispatcher does not: its programs, prepared; what
these share with later launchers; and whether it has to stay root. The same for a python
dispatcher, whose only service has a function instead of a program.

Called by :mod:`unpd.master.children.kinds`. Calls :mod:`unpd.dispatcher`. Raises
PrivilegeError for an account that does not exist, HandlerError for a function that
cannot be used, and OSError if the kernel refuses the descriptors of heirlooms.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from unpd.board.sessions import SessionTable
from unpd.config.programs import needs_root
from unpd.core.model import Child
from unpd.dispatcher import function
from unpd.dispatcher.heirlooms import Heirlooms
from unpd.dispatcher.launch import STEPS, identity_of, prepare
from unpd.dispatcher.programs import ProgramSetup, ServicePrograms
from unpd.dispatcher.whole import WholeSocket
from unpd.kernel.connections import local_text
from unpd.kernel.privileges import Identity
from unpd.master.children.lanes import Lane
from unpd.master.children.serving import served_by
from unpd.master.runtime import Deployment, Runtime
from unpd.services.program import ProcessOptions, ProgramOptions
from unpd.worker.accepting import Listener, ListenerSetup
from unpd.worker.admission import Gate
from unpd.worker.main import ServiceSetup, listeners_of, terms_of

Prepare = Callable[[Runtime, Deployment, Child, Sequence[ServiceSetup]], ProgramSetup]
"""A function that prepares the sessions of a child."""


def make_heirlooms(runtime: Runtime, deployment: Deployment, child: Child) -> Heirlooms:
    """Make what the programs share with all launchers in this place."""
    every, columns = _options_of(deployment, child), runtime.columns.services
    return Heirlooms.make(
        columns.column(name) for name, options in every.items() if options.logs_stderr
    )


def keeps_root(runtime: Runtime, deployment: Deployment, child: Child) -> bool:
    """Whether a program of the launcher runs as another user than the children do. Then
    the launcher stays root, and no code but unpd's own runs in it.
    """
    every, daemon = _options_of(deployment, child), deployment.config.daemon
    return runtime.identity is not None and any(
        needs_root(options, daemon) for options in every.values()
    )


def function_identity(runtime: Runtime, deployment: Deployment, child: Child) -> Identity | None:
    """The user of a python dispatcher: that of its service, None for the master's."""
    if runtime.identity is None:
        return None
    (options,) = _options_of(deployment, child).values()
    return identity_of(options, runtime.identity)


def _options_of(deployment: Deployment, child: Child) -> dict[str, ProcessOptions]:
    """The options of the services of a launcher, by name."""
    services = [deployment.config.services[name] for name in served_by(deployment, child.slot)]
    return {
        service.name: service.options
        for service in services
        if isinstance(service.options, ProcessOptions)
    }


def lane_of(runtime: Runtime, child: Child) -> Lane:
    """The lane of a dispatcher of any kind."""
    lane = runtime.lanes.held_by(child.birth)
    if lane is None:
        raise AssertionError("a dispatcher was forked without a lane")
    return lane


def prepare_programs(
    runtime: Runtime, deployment: Deployment, child: Child, services: Sequence[ServiceSetup]
) -> ProgramSetup:
    """Prepare the programs of a launcher, which may still be root."""
    identity = runtime.identity if keeps_root(runtime, deployment, child) else None
    heirlooms = _heirlooms_of(runtime, child)
    return ProgramSetup(
        services={one.column: _prepare(one, heirlooms, identity) for one in services},
        heirlooms=heirlooms,
        grace_s=deployment.config.daemon.grace_s,
        steps=STEPS,
    )


def prepare_function(
    runtime: Runtime, deployment: Deployment, child: Child, services: Sequence[ServiceSetup]
) -> ProgramSetup:
    """Import the function of a python dispatcher, which has become its user."""
    (service,) = services
    heirlooms = _heirlooms_of(runtime, child)
    calls = _prepare(service, heirlooms, None)
    return ProgramSetup(
        services={service.column: calls},
        heirlooms=heirlooms,
        grace_s=deployment.config.daemon.grace_s,
        steps=function.prepare(service.name, service.service.options, calls.launch),
    )


def _heirlooms_of(runtime: Runtime, child: Child) -> Heirlooms:
    heirlooms = lane_of(runtime, child).heirlooms
    if heirlooms is None:
        raise AssertionError("a launcher was forked without heirlooms")
    return heirlooms


def _prepare(
    service: ServiceSetup, heirlooms: Heirlooms, children: Identity | None
) -> ServicePrograms:
    """Prepare the processes of one service. ``children``: the user of the daemon's
    children, if this process is still root.
    """
    options: ProcessOptions = service.service.options
    stderr_fd = heirlooms.stderr_fd(service.column)
    launch = prepare(options, service.name, children, stderr_fd)
    return ServicePrograms(
        name=service.name,
        launch=replace(launch, banner=service.access.banner_accepted),
        session_timeout_s=service.times.session_timeout_s,
        takes_socket=options.takes_socket,
        is_kept=options.is_kept,
    )


def sockets_of(
    running: Mapping[int, int],
    earlier: Sequence[SessionTable],
    service: ServiceSetup,
    gate: Gate,
) -> Iterable[Listener | WholeSocket]:
    """The listeners of a service; its sockets, if its programs take the clients.
    ``running``: how many programs have each, by its counter in the row. ``earlier``:
    the tables of the launchers of earlier generations.
    """
    options: ProgramOptions = service.service.options
    if not options.takes_socket:
        return listeners_of(service, gate)
    datagrams = [
        ListenerSetup(local_text(sock.fileno()), sock, 0, column)
        for sock, column in service.datagrams
    ]
    return [
        WholeSocket(setup, terms_of(service, gate), running, options.keep, earlier)
        for setup in (*service.listeners, *datagrams)
    ]
