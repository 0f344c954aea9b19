"""Signals: the SIGCHLD handler that reaps, the handler that queues the other signals,
the wake-up pipe, the signal mask.

A handler appends to a deque and does nothing else: no log, no lock, no table. A byte in
the wake-up pipe only ends the wait and counts nothing: a full pipe loses bytes, the
deques lose nothing.

A handler is installed through ``signal.signal`` and then changed through sigaction(2)
itself. CPython sets ``SA_ONSTACK`` only and blocks nothing meanwhile. A reaper needs
``SA_RESTART`` (a slow system call of a library is not interrupted) and ``SA_NOCLDSTOP``
(no signal for a child that is only stopped). And every handler has to block all other
signals: otherwise the handlers of signals that come together run one inside the other,
on the small stack that faulthandler gave the process, and a few of them overflow it.
Changing the action that is in force keeps CPython's C handler, which sets a flag and
writes the wake-up byte; the Python handler runs later, between two bytecodes of the
main thread.

Owns the handlers and the mask of the process. Called by the master, its new children,
the workers, the exporter and the command line. Calls nothing of unpd. Raises OSError.

Known gap: glibc keeps two real-time signals, 32 and 33, for itself (nptl(7)). No
program can handle or ignore them through it, so they end a process.
"""

import ctypes
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType


class _SigAction(ctypes.Structure):
    """struct sigaction of glibc and musl on 64-bit Linux (sigaction(2))."""

    _fields_ = (
        ("sa_handler", ctypes.c_void_p),
        ("sa_mask", ctypes.c_ubyte * 128),
        ("sa_flags", ctypes.c_int),
        ("sa_restorer", ctypes.c_void_p),
    )


_ALL_SIGNALS = (ctypes.c_ubyte * 128)(*[0xFF] * 128)
MAX_REAPED = 4096
"""How many children one call reaps, more than the scoreboard has rows."""
NS = 1_000_000_000
KIB = 1024
SA_NOCLDSTOP = 0x00000001
SA_RESTART = 0x10000000


@dataclass(frozen=True, slots=True)
class Reaped:
    """One result of wait4(2).

    ``status``: the raw wait status. ``at_ns``: when wait4 returned it (monotonic clock,
    ns). ``cpu_ns``: processor time of the child, and of the children that it waited
    for. ``peak_bytes``: the most memory that one of these had resident, which is at
    least that of the process that forked it.
    """

    pid: int
    status: int
    at_ns: int
    cpu_ns: int = 0
    peak_bytes: int = 0


class Reaper:
    """The SIGCHLD handler. It calls wait4(2) until no child is dead, because signals
    coalesce: one SIGCHLD may stand for 200 deaths.

    A SIGCHLD that comes while the handler runs does not call it inside itself: a child
    that forks without end could make that nest too deep. The running one goes on
    instead.

    ``reaped``: the results that nobody has taken yet, oldest first. ``calls``: how many
    times SIGCHLD called the handler. ``last_rites``: called with the pid of each dead
    child before it is reaped, while no other process can get that pid.
    """

    def __init__(self) -> None:
        self.reaped: deque[Reaped] = deque()
        self.last_rites: Callable[[int], None] | None = None
        self.calls = 0
        self._runs = False
        self._again = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGCHLD."""
        self.calls += 1
        self._again = True
        while self._again and not self._runs:
            self._runs, self._again = True, False
            self.sweep()
            self._runs = False

    def sweep(self) -> None:
        """Reap the children that are dead now, at most MAX_REAPED: more may die without
        end, and the others wait for the next call.

        The master also calls this once a second, in case a signal was lost.
        """
        for _ in range(MAX_REAPED):
            try:
                pid, status, usage = os.wait4(self._next_dead(), os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            cpu_ns = int((usage.ru_utime + usage.ru_stime) * NS)
            at_ns, peak_bytes = time.monotonic_ns(), usage.ru_maxrss * KIB
            self.reaped.append(Reaped(pid, status, at_ns, cpu_ns, peak_bytes))

    def _next_dead(self) -> int:
        """The pid of a dead child, after its last rites; -1 for any."""
        if self.last_rites is None:
            return -1
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if dead is None:
            return -1
        self.last_rites(dead.si_pid)
        return dead.si_pid

    def install(self) -> None:
        """Become the handler of SIGCHLD, with SA_RESTART and SA_NOCLDSTOP. OSError if
        sigaction(2) fails.
        """
        _install(signal.SIGCHLD, self, SA_RESTART | SA_NOCLDSTOP)


def _install(signum: int, handler: Callable[[int, FrameType | None], None], flags: int = 0) -> None:
    """Install a handler that adds ``flags`` and blocks all signals while it runs."""
    signal.signal(signum, handler)
    libc = ctypes.CDLL(None, use_errno=True)
    action = _SigAction()
    if libc.sigaction(signum, None, ctypes.byref(action)) != 0:
        raise OSError(ctypes.get_errno(), "sigaction: cannot read the action")
    action.sa_flags |= flags
    action.sa_mask = _ALL_SIGNALS
    if libc.sigaction(signum, ctypes.byref(action), None) != 0:
        raise OSError(ctypes.get_errno(), "sigaction: cannot change the action")


class SignalQueue:
    """The handler of every other signal: queues their numbers in order of arrival.

    ``last``: the number that was taken last, 0 before the first.
    """

    def __init__(self) -> None:
        self.last = 0
        self._numbers: deque[int] = deque()

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._numbers.append(signum)

    def install(self, signums: Iterable[int]) -> None:
        """Become the handler of these signals. OSError if sigaction(2) fails."""
        for signum in signums:
            _install(signum, self)

    def take(self) -> Iterator[int]:
        """Take the queued numbers out, one after the other."""
        while self._numbers:
            self.last = self._numbers.popleft()
            yield self.last


def interrupt_waits(period_s: float) -> None:
    """Interrupt a system call of this process that waits, once every ``period_s``: it
    fails with EINTR. Python tries most of its own calls again (PEP 475). SIGALRM does
    it, by a timer that a child does not inherit. A system call filter may refuse the
    timer: then nothing is interrupted. OSError if sigaction(2) fails.
    """
    _install(signal.SIGALRM, _do_nothing)
    with suppress(signal.ItimerError):
        signal.setitimer(signal.ITIMER_REAL, period_s, period_s)


def _do_nothing(_signum: int, _frame: FrameType | None) -> None:
    """Handle SIGALRM: its arrival has done all."""


def numbers_of(name: str) -> tuple[int, ...]:
    """Return the number of a signal, or those of a range, such as SIGRTMIN..SIGRTMAX.
    KeyError for an unknown name.
    """
    first, _, last = name.partition("..")
    return tuple(range(signal.Signals[first], signal.Signals[last or first] + 1))


def ignore(signums: Iterable[int]) -> None:
    """Ignore these signals."""
    for signum in signums:
        signal.signal(signum, signal.SIG_IGN)


def changed() -> tuple[int, ...]:
    """The signals that this process ignores, which programs inherit (execve(2)), or
    handles in Python. It takes 0.4 ms to find them.
    """
    default = (signal.SIG_DFL, None)  # the latter: a handler in C, such as faulthandler's
    every = signal.valid_signals()
    return tuple(number for number in every if signal.getsignal(number) not in default)


def open_wakeup_pipe() -> tuple[int, int]:
    """Open the pipe that becomes readable when a signal arrives; return (read end,
    write end).

    CPython's C handler writes to the write end (``signal.set_wakeup_fd``).
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer


def empty_wakeup_pipe(fd: int) -> None:
    """Read everything from the read end of a wake-up pipe."""
    try:
        while len(os.read(fd, 65536)) == 65536:
            pass
    except BlockingIOError:
        pass


def block_all() -> None:
    """Block every signal until :func:`unblock_all`.

    Signals that arrive meanwhile stay pending, even those whose default is to be
    ignored, as SIGTERM's is in process 1.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


def unblock_all(but: Iterable[int] = ()) -> None:
    """Unblock every signal, also those that were blocked when the process began; leave
    those in ``but`` blocked.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, but)


def take_pending(signums: Iterable[int]) -> int | None:
    """Take one of these blocked signals that has come; None if none has."""
    taken = signal.sigtimedwait(signums, 0)
    return taken.si_signo if taken else None


@contextmanager
def blocked() -> Iterator[None]:
    """Block every signal while the body runs, such as during a fork.

    Handlers of earlier signals run before the body: pthread_sigmask calls them.
    """
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_inherited() -> None:
    """Give up the parent's wake-up pipe and handlers, in a new child with all signals
    blocked.

    Bytes that a child writes to that pipe would wake the parent.
    """
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
