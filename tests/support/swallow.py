"""A tracer that keeps one signal from a process (``python -m tests.support.swallow PID
SIGNUM``), as if it had been lost; and how a test starts it.

strace can add signals but not take them away, so this is ptrace(2) itself: the tracer
sees each signal before its tracee and hands on all but the one.
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
def swallowed(pid: int, number: Signals) -> Iterator[None]:
    """``pid`` gets no signal ``number`` for the length of the block. Mark the test with
    requires_strace(): the right it needs is the same.
    """
    command = [sys.executable, "-m", "tests.support.swallow", str(pid), str(int(number))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"attached\n"
        try:
            yield
        finally:
            tracer.kill()  # the kernel lets go of what a dead tracer traced


def main() -> None:
    """Trace until killed, or until the tracee ends."""
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
        )  # of the others: the tracee was killed meanwhile, which waitpid says next


if __name__ == "__main__":
    main()
