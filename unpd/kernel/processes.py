"""Processes: how they ended, how they are signalled, what ties a child to its parent,
which descriptors it keeps.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ExitReport:
    """A wait status, decoded once: ``code`` of an exit, or ``signum`` of the signal
    that killed, and whether a core was dumped.
    """

    code: int | None
    signum: int | None
    core: bool

    def __str__(self) -> str:
        if self.signum is None:
            return f"exit code {self.code}"
        return f"killed by {signal_name(self.signum)}" + (" (core dumped)" if self.core else "")


def decode(status: int) -> ExitReport:
    """Decode a raw wait status (wait(2))."""
    if os.WIFSIGNALED(status):
        return ExitReport(None, os.WTERMSIG(status), os.WCOREDUMP(status))
    return ExitReport(os.WEXITSTATUS(status), None, core=False)


def signal_name(signum: int) -> str:
    """SIGTERM for 15; "signal 40" for a number without a name."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def send(pidfd: int, signum: int) -> None:
    """Signal the very process that ``pidfd`` stands for (pidfd_send_signal(2)); one
    that is gone already is no error.
    """
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signum)


def outliving(pidfds: Iterable[int], timeout_s: float) -> set[int]:
    """Wait until these processes have ended, at most ``timeout_s``; return the pidfds
    of those that have not. A pidfd is readable from the end on (pidfd_open(2)).
    """
    alive = set(pidfds)
    poll = select.poll()
    for pidfd in alive:
        poll.register(pidfd, select.POLLIN)
    deadline_at = time.monotonic() + timeout_s
    while alive and (left_s := deadline_at - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(left_s * 1000):
            poll.unregister(pidfd)
            alive.discard(pidfd)
    return alive


def die_with_parent(parent_pid: int) -> bool:
    """Ask for SIGKILL when the parent dies (prctl(2)); False if it is dead already.

    Call it after privileges were dropped: setresuid(2) clears the request. The kernel
    ties it to the forking thread, so the parent must not fork from another.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl: cannot set the parent death signal")
    return os.getppid() == parent_pid


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor that is not in ``kept``."""
    start = 0
    for fd in sorted(set(kept)):
        if (
            start < fd
            # CPython turns the empty range (0, 0) into close_range(0, UINT_MAX), which
            # closes everything
        ):
            os.closerange(start, fd)
        start = fd + 1
    # Linux closes to the end in one call (close_range(2)), whatever the limit is.
    os.closerange(start, 2**31 - 1)


def trim_heap() -> None:
    """Give back what the C library's heap has free: 0.4 MB after our imports, which a
    fork would share for nothing (malloc_trim(3); not every C library has it).
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def raise_descriptor_limit() -> int:
    """Raise RLIMIT_NOFILE to its hard limit; return what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def open_standard_descriptors() -> None:
    """Put /dev/null where descriptor 0, 1 or 2 is closed, so that no socket of ours
    ever becomes standard error.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # open(2) takes the lowest free number, which is this one; inheritable like
            # any standard descriptor.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
