"""From the fork to the first instruction of a program.

:class:`Launch` has everything that is the same for all programs of a service. The
launcher makes it once, while it can still say that a user does not exist; :func:`start`
runs in each forked process, with all signals blocked, and never returns into the frames
of the launcher. If a step fails, the process writes it into its entry, and ends.

A fork copies the page tables of the launcher, and costs five times the processor time
of posix_spawn(3), which borrows its memory until the program begins. So a program that
needs no more than that call can do (:attr:`Launch.is_plain`) begins by it. If that
fails, the fork tells which step it was.

Called by :mod:`unpd.dispatcher.programs` and by the master, which makes launches.
:func:`prepare` raises PrivilegeError, and :func:`begin` OSError if the kernel refuses a
process.

Known gaps: signals 32 and 33, which the C library keeps for itself (nptl(7)), stay
ignored in a forked process where unpd was begun so. A launcher that dies between
posix_spawn(3) and the next line of Python leaves a program that nobody counts. A
program on a file system that hangs holds the launcher up in that call.
"""

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NoReturn

from unpd.board import layout
from unpd.board.layout import Session
from unpd.dispatcher import environment
from unpd.dispatcher.processes import fork_into
from unpd.dispatcher.session import SessionSetup, enter_pid
from unpd.errors import PrivilegeError
from unpd.kernel import privileges, processes, signals
from unpd.kernel.connections import address_text, borrowed
from unpd.kernel.privileges import Identity
from unpd.kernel.spawning import Spawner
from unpd.names import StartStep
from unpd.services.program import ProcessOptions, ProgramLimits, ProgramOptions

NOT_STARTED = 127
"""The exit code of a process that could not become its program, as shells have it."""
SOFT_OPEN_FILES = 1024
"""How many files a program may open without ``limits``, unless it raises that itself: a
greater number breaks programs that use select(2), and unpd has raised its own.
"""
PASSED_FD = 3
"""The descriptor of the socket, where it is passed as by systemd (sd_listen_fds(3))."""
MB = 1 << 20

Limit = tuple[int, tuple[int, int]]
"""A resource, and its soft and its hard limit (setrlimit(2))."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A program of a service. ``stderr_fd``: where its standard error goes; None: to
    its client. ``identity``: the user to become; None: that of the launcher.
    ``umask``: None for the launcher's. ``banner``: what the client is sent first.
    ``fd_name``: its socket is descriptor 3, with this name (sd_listen_fds(3)); "": it
    is 0 and 1. ``has_limits``: the configuration names some.
    """

    argv: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    directory: bytes
    umask: int | None
    nice: int
    limits: tuple[Limit, ...]
    identity: Identity | None
    stderr_fd: int | None
    kill_after_s: float
    banner: bytes = b""
    fd_name: bytes = b""
    has_limits: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether posix_spawn(3) can begin it."""
        more = (self.identity, self.nice, self.has_limits, self.banner, self.fd_name)
        return not any(more)


def prepare(
    options: ProcessOptions, name: str, children: Identity | None, stderr_fd: int | None
) -> Launch:
    """Prepare the programs of the service ``name``. ``children``: the user of the
    daemon's children, if this process is still root. PrivilegeError for an account that
    does not exist.
    """
    variables = environment.of_service(options.environment, options.pass_environment)
    command = options.command if isinstance(options, ProgramOptions) else ()
    # As systemd names what Accept=yes passes.
    fd_name = name if options.takes_socket else "connection"
    return Launch(
        argv=tuple(map(os.fsencode, command)),
        environment=environment.encoded(variables),
        directory=os.fsencode(options.directory),
        umask=int(options.umask, 8) if options.umask else None,
        nice=options.nice,
        limits=tuple(_limits(options.limits)),
        identity=identity_of(options, children) if children else None,
        stderr_fd=stderr_fd,
        kill_after_s=options.kill_after_s,
        fd_name=os.fsencode(fd_name) if options.is_passed_as_by_systemd else b"",
        has_limits=options.limits != ProgramLimits(),
    )


def identity_of(options: ProcessOptions, children: Identity) -> Identity:
    """The user and the groups that the options name, else those of the daemon's
    children. Another user than theirs has its own group, unless another is named.
    PrivilegeError for an account that does not exist.
    """
    is_theirs = options.user in ("", children.user)
    group = options.group or (children.group if is_theirs else None)
    try:
        return privileges.identify(options.user or children.user, group, options.groups)
    except KeyError as error:
        raise PrivilegeError(f"cannot become the user of a service: {error.args[0]}") from None


def _limits(limits: ProgramLimits) -> list[Limit]:
    wanted = (
        (resource.RLIMIT_NOFILE, limits.nofile, 1),
        (resource.RLIMIT_NPROC, limits.nproc, 1),
        (resource.RLIMIT_CPU, limits.cpu_s, 1),
        (resource.RLIMIT_AS, limits.as_mb, MB),
        (resource.RLIMIT_CORE, limits.core_mb, MB),
    )
    found = [(kind, (number * unit,) * 2) for kind, number, unit in wanted if number is not None]
    if limits.nofile is None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        found.append((resource.RLIMIT_NOFILE, (min(soft, SOFT_OPEN_FILES), hard)))
    return found


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a program. ``variables``: its environment. ``fds``: its standard
    descriptors. ``entry``: its words of the table of sessions. ``changed``: the signals
    that the launcher, of pid ``launcher_pid``, ignores or handles. ``title``: of a
    process that becomes no program.
    """

    launch: Launch
    variables: Mapping[bytes, bytes]
    fds: tuple[int, int, int]
    entry: memoryview
    launcher_pid: int
    changed: Sequence[int]
    spawner: Spawner
    title: str = ""


Steps = Mapping[StartStep, Callable[[Start], None]]
"""What a forked process does, in this order. The last step never returns."""


def start_of_session(
    launch: Launch,
    variables: Mapping[bytes, bytes],
    setup: SessionSetup,
    changed: Sequence[int],
    spawner: Spawner,
) -> Start:
    """The start of a program that serves a connection. Programs expect a descriptor
    that waits.
    """
    os.set_blocking(setup.fd, True)
    stderr_fd = setup.fd if launch.stderr_fd is None else launch.stderr_fd
    return Start(
        launch=launch,
        variables=variables,
        fds=(setup.fd, setup.fd, stderr_fd),
        entry=setup.entry,
        launcher_pid=setup.dispatcher_pid,
        changed=changed,
        spawner=spawner,
        title=f"unpd: session {setup.terms.name} {address_text(setup.peer)}",
    )


def begin(program: Start, steps: Steps) -> int:
    """Begin a program; return its pid. OSError if the kernel refuses a process."""
    if program.launch.is_plain:
        # Whatever is wrong, the fork finds it too.
        with contextlib.suppress(OSError):
            return _spawn(program)
    return fork_into(partial(start, program, steps))


def _spawn(program: Start) -> int:
    """Begin a program by posix_spawn(3). It inherits the mask and the soft limits that
    this process has for that moment.
    """
    launch = program.launch
    own_limits: list[Limit] = []
    umask = None if launch.umask is None else os.umask(launch.umask)
    try:
        for kind, limit in launch.limits:
            own_limits.append((kind, resource.prlimit(0, kind, limit)))
        return program.spawner.spawn(launch.argv, program.variables, launch.directory, program.fds)
    finally:
        for kind, limit in own_limits:
            resource.prlimit(0, kind, limit)
        if umask is not None:
            os.umask(umask)


def start(program: Start, steps: Steps) -> NoReturn:
    """Become the program, step by step."""
    step = StartStep.SESSION
    try:
        if enter_pid(program.entry, program.launcher_pid):
            for step, take in steps.items():  # noqa: B007 - it names the one that failed
                take(program)
    except (OSError, MemoryError) as error:  # the latter: at a small limit of memory
        number = error.errno if isinstance(error, OSError) else errno.ENOMEM
        program.entry[Session.FAILED_ERRNO] = number or 0
        program.entry[Session.FAILED_STEP] = layout.START_STEPS.index(step) + 1
    finally:
        os._exit(NOT_STARTED)


def _lead_session(program: Start) -> None:
    """Lead a session and a process group. Give up the launcher's wake-up pipe and its
    handlers, which would take a signal that comes before execve(2); and ignore no
    signal, because a program would inherit that.
    """
    os.setsid()
    signal.set_wakeup_fd(-1)
    for signum in program.changed:
        signal.signal(signum, signal.SIG_DFL)


def _connect(program: Start) -> None:
    """Make its descriptors 0, 1 and 2, or its connection 3, and close all others."""
    launch, (fd, _, stderr_fd) = program.launch, program.fds
    if launch.banner:
        # An OSError: the client has gone, and the program will notice.
        with contextlib.suppress(OSError), borrowed(fd) as sock:
            sock.send(launch.banner, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    if not launch.fd_name:
        _place(program.fds)
        return
    null_fd = os.open(os.devnull, os.O_RDWR)
    _place((null_fd, stderr_fd, stderr_fd, fd))  # the last is PASSED_FD


def _place(sources: Sequence[int]) -> None:
    """Make these descriptors 0, 1, 2 and so on, and close all others. Duplicates of
    them come first, above the numbers that they get, so that none is overwritten.
    """
    count = len(sources)
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, count) for source in sources]
    for number, copy in enumerate(copies):
        os.dup2(copy, number)
    processes.close_all_but(range(count))


def _be_nice(program: Start) -> None:
    if program.launch.nice:
        os.nice(program.launch.nice)


def _limit(program: Start) -> None:
    for kind, limit in program.launch.limits:
        resource.prlimit(0, kind, limit)  # setrlimit() would hide the errno


def _become_user(program: Start) -> None:
    if program.launch.identity is not None:
        privileges.become(program.launch.identity)


def _enter_directory(program: Start) -> None:
    if program.launch.umask is not None:
        os.umask(program.launch.umask)
    os.chdir(program.launch.directory)


def _execute(program: Start) -> None:
    argv, variables = program.launch.argv, program.variables
    if program.launch.fd_name:
        pid = b"%d" % os.getpid()
        listen = {
            b"LISTEN_FDS": b"1",
            b"LISTEN_PID": pid,
            b"LISTEN_FDNAMES": program.launch.fd_name,
        }
        variables = {**variables, **listen}
    signals.unblock_all()
    os.execve(argv[0], argv, variables)  # noqa: S606 - no shell is meant


STEPS: Steps = MappingProxyType(
    {
        StartStep.SESSION: _lead_session,
        StartStep.DESCRIPTORS: _connect,
        StartStep.NICE: _be_nice,
        StartStep.LIMITS: _limit,
        StartStep.USER: _become_user,
        StartStep.DIRECTORY: _enter_directory,
        StartStep.PROGRAM: _execute,
    }
)
"""The steps in their order: rights may be needed until they are given up, and the
directory is opened with those of the program.
"""
