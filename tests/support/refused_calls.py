"""Refuses system calls to a process and its descendants by a seccomp filter
(seccomp(2), prctl(2)), as the profile of a container or the unit of an administrator
may do.

:func:`refuse` is made for ``launch(preexec=...)``. It needs no privilege, because it
sets no_new_privs first.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Mapping
from types import MappingProxyType

import pytest

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000
AUDIT_ARCH_X86_64 = 0xC000003E
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCH_AT = 0, 4

NUMBERS: Mapping[str, int] = MappingProxyType(
    {
        "accept4": 288,
        "capset": 126,
        "clone3": 435,
        "close_range": 436,
        "epoll_pwait2": 441,
        "faccessat2": 439,
        "fchmodat2": 452,
        "getrandom": 318,
        "madvise": 28,
        "memfd_create": 319,
        "openat2": 437,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "prctl": 157,
        "prlimit64": 302,
        "recvmmsg": 299,
        "rseq": 334,
        "sched_getaffinity": 204,
        "sendmmsg": 307,
        "setgroups": 116,
        "splice": 275,
        "statx": 332,
    }
)
"""The numbers of the calls on x86-64 (<asm/unistd_64.h>)."""

requires_filters = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="needs x86-64, whose numbers of calls it knows"
)


def refuse(call: str, error: int) -> None:
    """Refuse ``call`` with the errno ``error``, from now on, in this process and in all
    its descendants. OSError if the kernel has no filters.
    """
    steps = (
        (_LOAD_WORD, 0, 0, _ARCH_AT),
        (_JUMP_IF_EQUAL, 0, 3, AUDIT_ARCH_X86_64),
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_EQUAL, 0, 1, NUMBERS[call]),
        (_RETURN, 0, 0, SECCOMP_RET_ERRNO | error),
        (_RETURN, 0, 0, SECCOMP_RET_ALLOW),
    )
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HP", len(steps), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0),
    ):
        if libc.prctl(*request) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
