"""Whether the kernel's clock is synchronised: adjtimex(2).

Owns nothing. Called by the command line. Calls nothing of unpd. Raises OSError where a
filter refuses the call.
"""

import ctypes
import os
from dataclasses import dataclass

_TIME_ERROR = 5
_STA_UNSYNC = 0x0040


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
