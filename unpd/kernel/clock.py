"""The kernel's clocks: the one since boot, which goes on while the machine sleeps and
which nobody can set (clock_gettime(2)); and whether the wall clock is synchronised
(adjtimex(2)).

Owns nothing. Called by the board, the master and the exporter for times that they show,
and by the command line. Calls nothing of unpd. Raises OSError where a filter refuses
adjtimex(2).
"""

import ctypes
import os
import time
from dataclasses import dataclass

_TIME_ERROR = 5
_STA_UNSYNC = 0x0040


def since_boot_ns() -> int:
    """The time on the clock since boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def slept_ns() -> int:
    """How far the clock since boot is ahead of the monotonic one: how long the machine
    has slept.
    """
    monotonic_ns = time.monotonic_ns()  # the first, so that the difference is not negative
    return since_boot_ns() - monotonic_ns


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex`` (adjtimex(2)), with room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


@dataclass(frozen=True, slots=True)
class Clock:
    """``synchronised``: a program keeps the clock right, after a server or a device.
    ``max_error_s``: by how much it may be wrong, as that program says.
    """

    synchronised: bool
    max_error_s: float


def clock() -> Clock:
    """Ask the kernel; change nothing. OSError."""
    timex = _Timex()  # modes 0: only read
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    right = state != _TIME_ERROR and not timex.status & _STA_UNSYNC
    return Clock(right, timex.maxerror / 1_000_000)
