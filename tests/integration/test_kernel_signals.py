"""Signals: the reaper that misses nobody, signal_queue in their order, a mask that is
given back. Whatever forks or changes handlers is a program of its own.
"""

import os
import signal
import subprocess
import sys

import pytest

from tests.support import ROOT
from unpd.kernel.signals import SA_NOCLDSTOP, SA_RESTART, SignalQueue, blocked, drain


def python(script: str) -> str:
    """What a program of ours prints."""
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
    """However much is in it; and one that is empty does not block."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    assert os.write(writer, b"x" * size) == size
    drain(reader)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    os.close(writer)
    drain(reader)
    os.close(reader)


def test_each_arrival_is_handed_out_once_and_in_order() -> None:
    """Those that arrive while they are taken as well."""
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


def test_signals_are_blocked_for_a_while() -> None:
    """And the mask is what it was afterwards, after a failure too."""
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


def test_the_reaper_takes_all_that_are_dead() -> None:
    """One call for many deaths, each with its status; then it knows that there is
    nobody left.
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


def test_the_reaper_passes_the_living_over() -> None:
    """It never waits for them."""
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
    """SA_RESTART and SA_NOCLDSTOP beside CPython's own handler; a stopped child is no
    dead one.
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
    """It writes its number there, neither end is inherited, and a full pipe loses the
    byte but not the arrival.
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
signals.drain(reader)
print(list(map(int, signal_queue.take())) == [signal.SIGUSR1] * 2)
"""
    assert python(script) == "True False False\nTrue"


def test_what_arrives_while_blocked_is_kept() -> None:
    """From the first line of the program on: a process 1 would else never see what its
    default ignores.
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


def test_a_child_forgets_its_parents_signals() -> None:
    """Neither its handlers nor its wake-up pipe; what was ignored stays ignored."""
    script = """
signal_queue = SignalQueue()
signal_queue.install([signal.SIGUSR1, signal.SIGTERM])
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
reader, writer = signals.open_wakeup_pipe()
with signals.blocked():
    if (pid := os.fork()) == 0:
        signals.forget_inherited()
        assert signal.set_wakeup_fd(-1) == -1
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
        os._exit(7)
print(os.waitpid(pid, 0)[1] >> 8)
"""
    assert python(script) == "7"
