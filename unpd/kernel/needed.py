"""The newer system calls that unpd cannot do without. An old kernel lacks them, and the
filter of a container may refuse them (seccomp(2)).

Owns the list and the minimum kernel. Called by boot, once. Calls nothing of unpd.
Raises CallRefusedError.

Every other newer call has a way around it: close_range(2) in
:mod:`unpd.kernel.processes`, splice(2) in :mod:`unpd.kernel.relay`, capset(2) in
:mod:`unpd.kernel.privileges` for a master without root, and CPython's own ways.
"""

import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from types import MappingProxyType

MINIMUM_LINUX = "5.3"
"""The first Linux that has all of these calls: pidfd_open(2) came last."""
PR_GET_NO_NEW_PRIVS = 39


class CallRefusedError(Exception):
    """The system refuses a call that unpd needs. The text is one sentence."""


def _try_memfd_create() -> None:
    os.close(os.memfd_create("unpd-probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))


def _try_pidfd_open() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _try_pidfd_send_signal() -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(pidfd, 0)
    finally:
        os.close(pidfd)


def _try_prctl() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


PROBES: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        "memfd_create": _try_memfd_create,
        "pidfd_open": _try_pidfd_open,
        "pidfd_send_signal": _try_pidfd_send_signal,
        "prctl": _try_prctl,
    }
)
"""A harmless use of each call, by its name."""


def check_calls() -> None:
    """Try each call. CallRefusedError for the first that the system refuses."""
    for name, probe in PROBES.items():
        try:
            probe()
        except OSError as error:
            raise CallRefusedError(
                f"unpd needs {name}(2), which the system refuses ({error.strerror}): it must be"
                f" Linux {MINIMUM_LINUX} or later, and a system call filter must allow the call"
            ) from error
