"""A terminal with a shell that has one job: a daemon in the foreground or the
background.

A test makes a :class:`Terminal` and launches the daemon with its ``prefix`` and
``attach``. ``python -m tests.support.terminal fg|bg COMMAND ...`` is the shell. When
its job stops (Ctrl-Z), it takes the terminal back, and SIGUSR1 makes it do what ``bg``
does. When the terminal is closed, it passes SIGHUP on to its job and waits for its end.
"""

import contextlib
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Iterator

from tests.support import procs

CTRL_C = b"\x03"
CTRL_Z = b"\x1a"


class Terminal:
    """The two ends of a pseudo terminal. ``job`` is "fg" or "bg": where the shell
    starts the daemon.
    """

    def __init__(self, job: str, *, tostop: bool = False) -> None:
        self._keyboard, self._screen = os.openpty()
        self.prefix = (sys.executable, "-m", "tests.support.terminal", job)
        self.path = os.ttyname(self._screen)
        self._said = b""
        os.set_blocking(self._keyboard, False)
        if tostop:
            modes = termios.tcgetattr(self._screen)
            modes[3] |= termios.TOSTOP
            termios.tcsetattr(self._screen, termios.TCSANOW, modes)

    def attach(self) -> None:
        """Make this process, the leader of a session, read and write the terminal and
        be controlled by it.
        """
        for fd in range(3):
            os.dup2(self._screen, fd)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def attach_input(self) -> None:
        """Do what :meth:`attach` does, but leave standard error where it is."""
        for fd in range(2):
            os.dup2(self._screen, fd)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    @property
    def said(self) -> str:
        """Everything that the terminal has shown so far."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._keyboard, 65536):
                self._said += piece
        return self._said.decode().replace("\r\n", "\n")

    def shows_ready(self) -> bool:
        """Whether it shows that master, exporter and both workers of a daemon are
        ready. One worker is enough for the master's line.
        """
        return self.said.count('.ready"') >= 4

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._keyboard, keys)

    def hang_up(self) -> None:
        """Close the window: the kernel hangs the terminal up."""
        for fd in (self._screen, self._keyboard):
            os.close(fd)
        self._screen = self._keyboard = -1

    def close(self) -> None:
        """Close both ends if they are open."""
        if self._screen >= 0:
            self.hang_up()


@contextlib.contextmanager
def terminal(job: str, *, tostop: bool = False) -> Iterator[Terminal]:
    """Open a terminal, and close it at the end of the block."""
    found = Terminal(job, tostop=tostop)
    try:
        yield found
    finally:
        found.close()


def controlling(pid: int) -> int:
    """Return the number of the terminal that controls ``pid`` (proc(5), tty_nr), 0 for
    none.
    """
    fields = (procs.PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[4])


def main() -> None:
    """Be the shell of the terminal on descriptor 0."""
    where, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        if where == "fg":
            os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1,))
        os.execvp(command[0], command)  # noqa: S606 - the shell is this program
    signal.signal(signal.SIGHUP, lambda *_: os.killpg(job, signal.SIGHUP))
    while True:
        _, status = os.waitpid(job, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
        os.tcsetpgrp(0, os.getpgrp())
        signal.sigwait((signal.SIGUSR1,))
        os.killpg(job, signal.SIGCONT)


if __name__ == "__main__":
    main()
