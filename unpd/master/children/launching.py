"""What a launcher needs that another dispatcher does not: its programs, prepared; what
these share with later launchers; and whether it has to stay root.

Called by :mod:`unpd.master.children.kinds`. Calls :mod:`unpd.dispatcher`. Raises
PrivilegeError for an account that does not exist, and OSError if the kernel refuses the
descriptors of heirlooms.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from unpd.config.programs import needs_root
from unpd.core.model import Child
from unpd.dispatcher.heirlooms import Heirlooms
from unpd.dispatcher.launch import prepare
from unpd.dispatcher.programs import ProgramSetup, ServicePrograms
from unpd.dispatcher.whole import WholeSocket
from unpd.kernel.connections import local_text
from unpd.kernel.privileges import Identity
from unpd.master.children.serving import served_by
from unpd.master.runtime import Deployment, Runtime
from unpd.services.program import ProgramOptions
from unpd.worker.accepting import Listener, ListenerSetup
from unpd.worker.admission import Gate
from unpd.worker.main import ServiceSetup, listeners_of, terms_of


def make_heirlooms(runtime: Runtime, deployment: Deployment, child: Child) -> Heirlooms:
    """Make what the programs share with all launchers in this place."""
    programs, columns = _programs_of(deployment, child), runtime.columns.services
    return Heirlooms.make(
        columns.column(name) for name, options in programs.items() if options.logs_stderr
    )


def keeps_root(runtime: Runtime, deployment: Deployment, child: Child) -> bool:
    """Whether a program of the launcher runs as another user than the children do. Then
    the launcher stays root, and no code but unpd's own runs in it.
    """
    programs, daemon = _programs_of(deployment, child), deployment.config.daemon
    return runtime.identity is not None and any(
        needs_root(options, daemon) for options in programs.values()
    )


def _programs_of(deployment: Deployment, child: Child) -> dict[str, ProgramOptions]:
    """The options of the services of a launcher, by name."""
    services = [deployment.config.services[name] for name in served_by(deployment, child.slot)]
    return {
        service.name: service.options
        for service in services
        if isinstance(service.options, ProgramOptions)
    }


def prepare_programs(
    services: Iterable[ServiceSetup],
    heirlooms: Heirlooms,
    children: Identity | None,
    grace_s: float,
) -> ProgramSetup:
    """Prepare the programs of ``services``. ``children``: the user of the daemon's
    children, if this process is still root. ``grace_s``: of the daemon.
    """
    prepared = {}
    for service in services:
        options: ProgramOptions = service.service.options
        stderr_fd = heirlooms.stderr_fd(service.column)
        launch = prepare(options, service.name, children, stderr_fd)
        prepared[service.column] = ServicePrograms(
            name=service.name,
            launch=replace(launch, banner=service.access.banner_accepted),
            session_timeout_s=service.times.session_timeout_s,
            takes_socket=options.takes_socket,
            is_kept=options.keep > 0,
        )
    return ProgramSetup(services=prepared, heirlooms=heirlooms, grace_s=grace_s)


def sockets_of(
    running: Mapping[int, int], service: ServiceSetup, gate: Gate
) -> Iterable[Listener | WholeSocket]:
    """The listeners of a service; its sockets, if its programs take the clients.
    ``running``: how many programs have each, by its counter in the row.
    """
    options: ProgramOptions = service.service.options
    if not options.takes_socket:
        return listeners_of(service, gate)
    datagrams = [
        ListenerSetup(local_text(sock.fileno()), sock, 0, column)
        for sock, column in service.datagrams
    ]
    return [
        WholeSocket(setup, terms_of(service, gate), running, options.keep)
        for setup in (*service.listeners, *datagrams)
    ]
