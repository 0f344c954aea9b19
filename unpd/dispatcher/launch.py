"""From the fork to the first instruction of a program.

:class:`Launch` has everything that is the same for all programs of a service. The
launcher makes it once, while it can still say that a user does not exist; :func:`start`
runs in each forked process, with all signals blocked, and never returns into the frames
of the launcher. If a step fails, the process writes it into its entry, and ends.

Called by :mod:`unpd.dispatcher.programs` and by the master, which makes launches.
:func:`prepare` raises PrivilegeError.
"""

import contextlib
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from unpd.board import layout
from unpd.board.layout import Session
from unpd.dispatcher import environment
from unpd.dispatcher.session import SessionSetup, enter_pid
from unpd.errors import PrivilegeError
from unpd.kernel import privileges, processes, signals
from unpd.kernel.privileges import Identity
from unpd.names import StartStep
from unpd.services.program import ProgramLimits, ProgramOptions

NOT_STARTED = 127
"""The exit code of a process that could not become its program, as shells have it."""
SOFT_OPEN_FILES = 1024
"""How many files a program may open without ``limits``, unless it raises that itself: a
greater number breaks programs that use select(2), and unpd has raised its own.
"""
MB = 1 << 20

Limit = tuple[int, tuple[int, int]]
"""A resource, and its soft and its hard limit (setrlimit(2))."""


@dataclass(frozen=True, slots=True)
class Rights:
    """The user, the group and the supplementary groups of a program."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """A program of a service. ``stderr_fd``: where its standard error goes; None: to
    its client. ``rights``: those to take; None: it keeps those of the launcher.
    ``umask``: None for the launcher's. ``banner``: what the client is sent first.
    """

    argv: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    directory: bytes
    umask: int | None
    nice: int
    limits: tuple[Limit, ...]
    rights: Rights | None
    stderr_fd: int | None
    kill_after_s: float
    banner: bytes = b""


def prepare(
    options: ProgramOptions,
    children: Identity | None,
    stderr_fd: int | None,
    banner: bytes,
) -> Launch:
    """Prepare the programs of a service. ``children``: the user of the daemon's
    children, if this process is still root. PrivilegeError for an account that does not
    exist.
    """
    variables = environment.of_service(options.environment, options.pass_environment)
    return Launch(
        argv=tuple(map(os.fsencode, options.command)),
        environment=environment.encoded(variables),
        directory=os.fsencode(options.directory),
        umask=int(options.umask, 8) if options.umask else None,
        nice=options.nice,
        limits=tuple(_limits(options.limits)),
        rights=_rights(options, children) if children else None,
        stderr_fd=stderr_fd,
        kill_after_s=options.kill_after_s,
        banner=banner,
    )


def _rights(options: ProgramOptions, children: Identity) -> Rights:
    """The rights that the options name, else those of the daemon's children. A user has
    its own group, unless another is named.
    """
    group = options.group or (None if options.user else children.group)
    try:
        identity = privileges.identify(options.user or children.user, group)
        groups = tuple(map(privileges.group_id, options.groups))
    except KeyError as error:
        raise PrivilegeError(f"cannot start {options.command[0]}: {error.args[0]}") from None
    return Rights(identity.uid, identity.gid, groups)


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


def start(
    launch: Launch, variables: Mapping[bytes, bytes], setup: SessionSetup, ignored: Sequence[int]
) -> NoReturn:
    """Become the program. ``variables``: its environment. ``ignored``: the signals that
    this process ignores.
    """
    step = StartStep.SESSION
    try:
        if enter_pid(setup):
            os.setsid()
            _reset_signals(ignored)
            step = StartStep.DESCRIPTORS
            _connect(launch, setup.fd)
            step = StartStep.NICE
            if launch.nice:
                os.nice(launch.nice)
            step = StartStep.LIMITS
            for kind, limit in launch.limits:
                resource.setrlimit(kind, limit)
            step = StartStep.USER
            if launch.rights is not None:
                privileges.become(launch.rights.uid, launch.rights.gid, launch.rights.groups)
            step = StartStep.DIRECTORY
            if launch.umask is not None:
                os.umask(launch.umask)
            os.chdir(launch.directory)
            step = StartStep.PROGRAM
            signals.unblock_all()
            os.execve(launch.argv[0], launch.argv, variables)  # noqa: S606 - no shell is meant
    except OSError as error:
        setup.entry[Session.FAILED_ERRNO] = error.errno or 0
        setup.entry[Session.FAILED_STEP] = layout.START_STEPS.index(step) + 1
    finally:
        os._exit(NOT_STARTED)


def _reset_signals(ignored: Sequence[int]) -> None:
    """Give up the launcher's wake-up pipe, and ignore nothing: a program would inherit
    that. Its handlers end with execve(2).
    """
    signal.set_wakeup_fd(-1)
    for signum in ignored:
        signal.signal(signum, signal.SIG_DFL)


def _connect(launch: Launch, fd: int) -> None:
    """Make the connection the descriptors 0, 1 and 2, and close all others. Programs
    expect a descriptor that waits.
    """
    os.set_blocking(fd, True)
    stderr_fd = fd if launch.stderr_fd is None else launch.stderr_fd
    for number, source in ((0, fd), (1, fd), (2, stderr_fd)):
        os.dup2(source, number)
    processes.close_all_but((0, 1, 2))
    if launch.banner:
        with contextlib.suppress(OSError):  # the client has gone: the program will notice
            os.write(1, launch.banner)
