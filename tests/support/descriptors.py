"""Open file descriptions: which ones this process has; which ones two processes share
(kcmp(2)), and how a faulty process would change one (pidfd_getfd(2)). The last two need
the right to trace.
"""

import ctypes
import os
from collections import Counter

from tests.support import procs

KCMP_FILE = 0
"""From <linux/kcmp.h>."""
SYS_PIDFD_GETFD = 438
"""One number on all architectures (<asm-generic/unistd.h>)."""


def opened(prefix: str = "") -> Counter[str]:
    """What this process has open, by the targets of the links in /proc/self/fd that
    begin with ``prefix``.

    A test compares with ``opened() - before``: what others closed since, or the garbage
    collector, does not count, because no two sockets or pipes have one name.
    """
    targets = procs.fds(os.getpid()).values()
    return Counter(target for target in targets if target.startswith(prefix))


def shared(pid: int, other: int) -> set[tuple[int, int]]:
    """Return each pair of descriptors of the two processes that have one open file
    description.
    """
    return {
        (fd, other_fd)
        for fd, target in procs.fds(pid).items()
        for other_fd, other_target in procs.fds(other).items()
        if target == other_target and _same(pid, other, fd, other_fd)
    }


def _same(pid: int, other: int, fd: int, other_fd: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 312, "aarch64": 272}[os.uname().machine]
    result = int(libc.syscall(number, pid, other, KCMP_FILE, fd, other_fd))
    if result < 0:
        raise OSError(ctypes.get_errno(), "kcmp")
    return result == 0


def borrow(pid: int, fd: int) -> int:
    """Return a duplicate of descriptor ``fd`` of ``pid``: both have one description."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        found = int(libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0))
    finally:
        os.close(pidfd)
    if found < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return found
