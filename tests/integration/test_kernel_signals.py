"""Signals: the reaper, the queue, the wake-up pipe and the mask.

Every test that forks or installs handlers runs in a program of its own.
"""

import os
import signal
import subprocess
import sys

import pytest

from tests.support import ROOT
from unpd.kernel.signals import (
    SA_NOCLDSTOP,
    SA_RESTART,
    Reaper,
    SignalQueue,
    blocked,
    empty_wakeup_pipe,
)


def python(script: str) -> str:
    """Run a script in an interpreter of its own; return what it prints."""
    preset = (
        "import os, signal, sys, time\nfrom unpd.kernel import signals\nfrom unpd.kernel.signals"
        " import SignalQueue, Reaper\n"
    )
    return (
        subprocess.run(
            [sys.executable, "-c", preset + script],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
        .stdout.decode()
        .strip()
    )


@pytest.mark.parametrize("size", [0, 1, 65535, 65536])
def test_a_wakeup_pipe_is_emptied(size: int) -> None:
    """A pipe is emptied whatever it holds; an empty one does not block."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    assert os.write(writer, b"x" * size) == size
    empty_wakeup_pipe(reader)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    os.close(writer)
    empty_wakeup_pipe(reader)
    os.close(reader)


def test_each_signal_is_taken_once_and_in_order() -> None:
    """Each signal is taken once and in order, also one that arrives during take()."""
    signal_queue = SignalQueue()
    for signum in (15, 1, 15):
        signal_queue(signum, None)
    taken = []
    for signum in signal_queue.take():
        taken.append(signum)
        if signum == 1:
            signal_queue(10, None)
    assert taken == [15, 1, 15, 10]
    assert list(signal_queue.take()) == []


def test_signals_are_blocked_within_the_block() -> None:
    """All signals are blocked within the block; afterwards the mask is the old one,
    also after an exception.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    during = []

    def fork_fails() -> None:
        with blocked():
            during.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            raise BlockingIOError

    with pytest.raises(BlockingIOError):
        fork_fails()
    assert set(during[0]) >= {signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_the_reaper_takes_every_dead_child() -> None:
    """One call of the handler reaps every dead child with its status; another call
    without children does nothing.
    """
    script = """
statuses = {}
with signals.blocked():
    for code in range(50):
        if (pid := os.fork()) == 0:
            os._exit(code)
        statuses[pid] = code << 8
    for pid in statuses:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
reaper = Reaper()
reaper(signal.SIGCHLD, None)
assert {reaped.pid: reaped.status for reaped in reaper.reaped} == statuses
assert all(0 < reaped.at_ns <= time.monotonic_ns() for reaped in reaper.reaped)
reaper.sweep()
print(len(reaper.reaped), reaper.calls)
"""
    assert python(script) == "50 1"


def test_the_reaper_does_not_wait() -> None:
    """The reaper does not wait for a living child."""
    script = """
if (pid := os.fork()) == 0:
    signal.pause()
reaper = Reaper()
reaper.sweep()
print(len(reaper.reaped))
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
"""
    assert python(script) == "0"


def test_the_reaper_is_installed_with_its_flags() -> None:
    """SA_RESTART and SA_NOCLDSTOP are set beside CPython's handler; a stopped child
    does not call it.
    """
    script = """
import ctypes
reaper = Reaper()
reaper.install()
action = signals._SigAction()
ctypes.CDLL(None).sigaction(signal.SIGCHLD, None, ctypes.byref(action))
if (pid := os.fork()) == 0:
    signal.pause()
os.kill(pid, signal.SIGSTOP)
os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
stopped = reaper.calls
os.kill(pid, signal.SIGKILL)
while not reaper.reaped:
    signal.sigtimedwait((), 0.01)
print(action.sa_flags, stopped, reaper.reaped[0].pid == pid)
"""
    flags, stopped, same = python(script).split()
    assert int(flags) & (SA_RESTART | SA_NOCLDSTOP) == SA_RESTART | SA_NOCLDSTOP
    assert (stopped, same) == ("0", "True")


def test_a_signal_wakes_through_the_pipe() -> None:
    """A signal writes its number into the pipe, whose ends are not inherited; if the
    pipe is full the byte is lost, but not the signal.
    """
    script = """
signal_queue = SignalQueue()
signal_queue.install([signal.SIGUSR1])
reader, writer = signals.open_wakeup_pipe()
os.kill(os.getpid(), signal.SIGUSR1)
inheritable = [os.get_inheritable(fd) for fd in (reader, writer)]
print(os.read(reader, 100) == bytes([signal.SIGUSR1]), *inheritable)
try:
    while True:
        os.write(writer, b'x' * 4096)
except BlockingIOError:
    pass
os.kill(os.getpid(), signal.SIGUSR1)
signals.empty_wakeup_pipe(reader)
print(list(map(int, signal_queue.take())) == [signal.SIGUSR1] * 2)
"""
    assert python(script) == "True False False\nTrue"


def test_a_signal_that_arrives_while_blocked_is_kept() -> None:
    """A signal that arrives while all are blocked is delivered afterwards, also in a
    process 1, which would ignore it by default.
    """
    script = """
signals.block_all()
os.kill(os.getpid(), signal.SIGTERM)
signal_queue = SignalQueue()
signal_queue.install([signal.SIGTERM])
early = list(signal_queue.take())
signals.unblock_all()
print(early, list(map(int, signal_queue.take())), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    assert python(script) == "[] [15] set()"


def test_a_child_loses_its_parents_signals() -> None:
    """A child loses its parent's handlers and wake-up pipe; ignored signals stay
    ignored.
    """
    script = """
signal_queue = SignalQueue()
signal_queue.install([signal.SIGUSR1, signal.SIGTERM])
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
reader, writer = signals.open_wakeup_pipe()
with signals.blocked():
    if (pid := os.fork()) == 0:
        signals.reset_inherited()
        assert signal.set_wakeup_fd(-1) == -1
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
        os._exit(7)
print(os.waitpid(pid, 0)[1] >> 8)
"""
    assert python(script) == "7"


def test_the_reaper_is_never_called_inside_itself() -> None:
    """A child that forks without end calls the handler while it runs: it goes on in
    place of nesting, and reaps what died meanwhile.
    """
    calls = 5000

    class Flooded(Reaper):
        def sweep(self) -> None:
            sweeps.append(self.calls)
            if self.calls < calls:
                self(signal.SIGCHLD, None)

    sweeps: list[int] = []
    reaper = Flooded()
    reaper(signal.SIGCHLD, None)
    assert reaper.calls == calls
    assert sweeps == list(range(1, calls + 1))


def test_one_call_reaps_a_bounded_number() -> None:
    """Children may die faster than they are reaped: the master must go on meanwhile."""
    script = """
signals.MAX_REAPED = 3
pids = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
reaper = Reaper()
reaper.sweep()
print(len(reaper.reaped))
reaper.sweep()
print(len(reaper.reaped))
"""
    assert python(script).split() == ["3", "5"]
