"""Keeps one signal from a process, as if the signal had been lost. The chaos test of a
lost SIGCHLD uses it.

``python -m tests.support.drop_signal PID SIGNUM`` is the tracer. strace can add signals
but not remove them, so this uses ptrace(2) itself: the tracer sees each signal before
its tracee and passes on all others.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from signal import Signals

from tests.support import ROOT

# <linux/ptrace.h>, <linux/wait.h>
PTRACE_CONT = 7
PTRACE_SEIZE = 0x4206
PTRACE_LISTEN = 0x4208
PTRACE_EVENT_STOP = 128
WALL = 0x40000000
STOPPING = frozenset((Signals.SIGSTOP, Signals.SIGTSTP, Signals.SIGTTIN, Signals.SIGTTOU))


@contextlib.contextmanager
def signal_dropped(pid: int, number: Signals) -> Iterator[None]:
    """Keep signal ``number`` from ``pid`` for the length of the block. Mark the test
    with requires_strace() and requires_root: a master does not let its own user trace
    it.
    """
    command = [sys.executable, "-m", "tests.support.drop_signal", str(pid), str(int(number))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"attached\n"
        try:
            yield
        finally:
            tracer.kill()  # the kernel detaches the tracee of a dead tracer


def main() -> None:
    """Trace until this process is killed or the tracee ends."""
    pid, unwanted = int(sys.argv[1]), int(sys.argv[2])
    _ptrace(PTRACE_SEIZE, pid, 0)
    print("attached", flush=True)
    while True:
        _, status = os.waitpid(pid, WALL)
        if not os.WIFSTOPPED(status):
            return
        number = os.WSTOPSIG(status)
        if status >> 16 == PTRACE_EVENT_STOP:
            _ptrace(PTRACE_LISTEN if number in STOPPING else PTRACE_CONT, pid, 0)
        else:
            _ptrace(PTRACE_CONT, pid, 0 if number == unwanted else number)


def _ptrace(request: int, pid: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (
        ctypes.c_long(request),
        ctypes.c_long(pid),
        ctypes.c_void_p(0),
        ctypes.c_void_p(value),
    )
    if libc.ptrace(*arguments) != 0 and request == PTRACE_SEIZE:
        raise OSError(
            ctypes.get_errno(), "ptrace"
        )  # the other requests fail only if the tracee was killed; waitpid says so next


if __name__ == "__main__":
    main()
