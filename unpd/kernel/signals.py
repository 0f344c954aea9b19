"""Signals: the SIGCHLD handler that reaps, the handlers that only note, the wake-up
pipe, the mask.

SIGCHLD is installed through ``signal.signal`` and then changed through sigaction(2)
itself: CPython sets ``SA_ONSTACK`` alone, while a reaper wants ``SA_RESTART`` (a slow
call of a library is not broken off) and ``SA_NOCLDSTOP`` (a stopped child is no dead
child). Reading the action back and adding the flags keeps CPython's own C handler,
which only trips a flag and writes the wake-up byte; the Python handler runs between two
bytecodes of the main thread.

Each handler appends to a deque and does nothing else: no log, no lock, no table. The
bytes in the wake-up pipe are a wake-up and not a count: a full pipe loses bytes, the
deques lose nothing.
"""

import ctypes
import os
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class _SigAction(ctypes.Structure):
    """struct sigaction as glibc and musl lay it out on 64-bit Linux (sigaction(2))."""

    _fields_ = (
        ("sa_handler", ctypes.c_void_p),
        ("sa_mask", ctypes.c_byte * 128),
        ("sa_flags", ctypes.c_int),
        ("sa_restorer", ctypes.c_void_p),
    )


SA_NOCLDSTOP = 0x00000001
SA_RESTART = 0x10000000


@dataclass(frozen=True, slots=True)
class Reaped:
    """One result of waitpid(2): the raw wait status and when it was had (monotonic
    clock, ns).
    """

    pid: int
    status: int
    at_ns: int


class Reaper:
    """The SIGCHLD handler: loops waitpid(2) until there is nothing left, because
    signals coalesce (one call may stand for 200 deaths).
    """

    def __init__(self) -> None:
        self.reaped: deque[Reaped] = deque()
        self.calls = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """As a signal handler."""
        self.calls += 1
        self.sweep()

    def sweep(self) -> None:
        """Reap every child that is dead now. Also called once a second by the loop,
        which covers a signal that was lost.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.reaped.append(Reaped(pid, status, time.monotonic_ns()))

    def install(self) -> None:
        """Handle SIGCHLD, with SA_RESTART and SA_NOCLDSTOP. OSError if sigaction(2)
        fails.
        """
        signal.signal(signal.SIGCHLD, self)
        _add_flags(signal.SIGCHLD, SA_RESTART | SA_NOCLDSTOP)


def _add_flags(signum: int, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    action = _SigAction()
    if libc.sigaction(signum, None, ctypes.byref(action)) != 0:
        raise OSError(ctypes.get_errno(), "sigaction: cannot read the action")
    action.sa_flags |= flags
    if libc.sigaction(signum, ctypes.byref(action), None) != 0:
        raise OSError(ctypes.get_errno(), "sigaction: cannot set the flags")


class SignalQueue:
    """Handler of every other signal: notes the number, in order of arrival."""

    def __init__(self) -> None:
        self._arrived: deque[int] = deque()

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """As a signal handler."""
        self._arrived.append(signum)

    def install(self, signums: Iterable[int]) -> None:
        """Handle these signals."""
        for signum in signums:
            signal.signal(signum, self)

    def take(self) -> Iterator[int]:
        """Hand out each arrival once."""
        while self._arrived:
            yield self._arrived.popleft()


def open_wakeup_pipe() -> tuple[int, int]:
    """Make the pipe that turns a signal into readability: (read end, write end), the
    latter given to ``signal.set_wakeup_fd``.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer


def drain(fd: int) -> None:
    """Empty a wake-up pipe."""
    try:
        while len(os.read(fd, 65536)) == 65536:
            pass
    except BlockingIOError:
        pass


def block_all() -> None:
    """Hold back every signal until :func:`unblock_all`: what arrives meanwhile is kept,
    even where the default would be to ignore it (process 1).
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


def unblock_all() -> None:
    """Clear the signal mask, the inherited one too."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@contextmanager
def blocked() -> Iterator[None]:
    """Hold back every signal for the time of a fork. Handlers that are already due run
    before the body (pthread_sigmask calls them).
    """
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forget_inherited() -> None:
    """In a new child, signals blocked: give up the parent's wake-up pipe (its writes
    would land in the parent) and its handlers.
    """
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
