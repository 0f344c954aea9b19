"""Processes: wait statuses, signals through pidfds, the tie of a child to its parent,
descriptors, the heap.

Owns nothing: each pidfd and descriptor belongs to the caller. Called by the master, its
new children and the command line. Calls nothing of unpd. Raises OSError.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LAST_FD = 2**31 - 1
MAX_TRIED = 1 << 20
"""How many descriptors are closed one by one, in a tenth of a second: as many as the
kernel lets a process have by default (fs.nr_open).
"""


@dataclass(frozen=True, slots=True)
class ExitReport:
    """A decoded wait status: the exit code, or the number of the signal that killed the
    process, and whether it dumped core.
    """

    code: int | None
    signum: int | None
    core: bool

    @property
    def signal(self) -> str:
        """The name of the signal, "" without one."""
        return "" if self.signum is None else signal_name(self.signum)

    def __str__(self) -> str:
        if self.signum is None:
            return f"exit code {self.code}"
        return f"killed by {signal_name(self.signum)}" + (" (core dumped)" if self.core else "")


def decode_wait_status(status: int) -> ExitReport:
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


def send_signal(pidfd: int, signum: int) -> None:
    """Send a signal to the process behind ``pidfd`` (pidfd_send_signal(2)).

    A process that has ended already is no error.
    """
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signum)


def signal_group(pid: int, signum: int) -> None:
    """Send a signal to the process group that the child ``pid`` leads; to ``pid`` alone
    while it does not lead one yet. PermissionError.
    """
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def is_our_child(pid: int) -> bool:
    """Whether ``pid`` is a child of this process that was not reaped yet."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def has_ended(pidfd: int) -> bool:
    """Whether the process behind ``pidfd`` has ended (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def alive_after(pidfds: Iterable[int], timeout_s: float) -> set[int]:
    """Wait until these processes have ended, at most ``timeout_s`` seconds.

    Return the pidfds of those that are still alive. A pidfd becomes readable when its
    process ends (pidfd_open(2)).
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
    """Ask the kernel for SIGKILL when the parent dies (prctl(2), PR_SET_PDEATHSIG);
    False if the parent is dead already.

    Call it after the privilege drop, because setresuid(2) clears the request. The
    request refers to the thread that forked, so the parent must fork from its main
    thread. OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl: cannot set the parent death signal")
    return os.getppid() == parent_pid


def adopt_orphans() -> None:
    """Become the parent of the descendants whose parent ends (prctl(2),
    PR_SET_CHILD_SUBREAPER). So each of them has this process among its ancestors.
    OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl: cannot become the reaper of orphans")


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor that is not in ``kept``.

    close_range(2) does it. Linux before 5.9 lacks that call, and the filter of a
    container may refuse it: then the descriptors in /proc are closed. Without /proc,
    every number is tried up to the descriptor limit, at most MAX_TRIED of them, because
    the limit can be a thousand million.
    """
    kept = {fd for fd in kept if fd >= 0}
    gaps = list(_gaps(sorted(kept)))
    if all(_close_range(first, last) for first, last in gaps):
        return
    try:
        open_now = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        tried = MAX_TRIED if limit == resource.RLIM_INFINITY else min(limit, MAX_TRIED)
        for first, last in gaps:
            if first < tried:
                os.closerange(first, min(last + 1, tried))
        return
    for fd in set(open_now) - kept:
        with contextlib.suppress(OSError):  # the list's own descriptor is closed by now
            os.close(fd)


def _gaps(fds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The ranges of numbers between and after the sorted ``fds``, ends included."""
    first = 0
    for fd in fds:
        if first < fd:
            yield first, fd - 1
        first = fd + 1
    yield first, LAST_FD


def _close_range(first: int, last: int) -> bool:
    """Whether the C library has close_range(2) and the system carries it out."""
    try:
        close_range = ctypes.CDLL(None).close_range
    except AttributeError:
        return False
    return bool(close_range(ctypes.c_uint(first), ctypes.c_uint(last), 0) == 0)


def trim_heap() -> None:
    """Return the free memory of the C library's heap to the kernel (malloc_trim(3)).

    After our imports that is 0.4 MB, which each fork would share for nothing. Does
    nothing with a C library that lacks the call.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def descriptor_limit() -> int | None:
    """How many descriptors this process may have at most, the hard limit
    RLIMIT_NOFILE; None if there is no limit, or if a filter refuses to tell it.
    """
    try:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    except OSError:
        return None
    return None if hard == resource.RLIM_INFINITY else hard


def raise_descriptor_limit() -> int:
    """Raise the soft limit RLIMIT_NOFILE to the hard limit; return that limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
