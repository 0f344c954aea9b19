"""``unpd top`` on a terminal: reads keys, asks the daemon and draws, in one loop with
one wait.

Owns the modes of the terminal, which it restores however it ends, and the handlers of
the signals that a terminal sends. Called by the command; calls the asker, the view, the
layout and the painter. Errors: PrivilegeError of the asker. A terminal that was closed
is the end.
"""

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from typing import Any

from unpd.cli.top.answers import Answers
from unpd.cli.top.columns import Table, make_tables
from unpd.cli.top.keys import keys_of
from unpd.cli.top.layout import Size, bounded, page
from unpd.cli.top.painting import Painter
from unpd.cli.top.polling import Asker
from unpd.cli.top.view import View, followed, pressed
from unpd.kernel.signals import SignalQueue, empty_wakeup_pipe, open_wakeup_pipe

INPUT, OUTPUT = 0, 1
LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
SIGNALS = (*LEAVING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Screen:
    """One run. ``view``: what the command line chose."""

    def __init__(self, asker: Asker, view: View) -> None:
        self._asker = asker
        self._view = view
        self._answers: Answers | None = None
        self._tables: tuple[Table, ...] = ()
        self._arranged = view
        self._painter = Painter()
        self._before: list[Any] = []
        self._signals = SignalQueue()
        self._wakeup_fd, _ = open_wakeup_pipe()

    def run(self) -> None:
        """Go on until the user leaves. PrivilegeError."""
        self._signals.install(SIGNALS)
        with contextlib.closing(self._asker), self._modes(), contextlib.suppress(OSError):
            while not self._view.left:
                self._arrange()
                self._draw()
                self._wait()

    @contextlib.contextmanager
    def _modes(self) -> Iterator[None]:
        """Have each key at once, and not echoed; at the end, as it was before."""
        self._before = termios.tcgetattr(INPUT)
        try:
            self._enter()
            yield
        finally:
            with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
                self._leave()

    def _enter(self) -> None:
        tty.setcbreak(INPUT)
        self._write(self._painter.begin())

    def _leave(self) -> None:
        self._write(self._painter.end())
        termios.tcsetattr(INPUT, termios.TCSADRAIN, self._before)

    def _arrange(self) -> None:
        """Make the tables anew, and keep the cursor on its row."""
        if self._answers is not None:
            self._tables = make_tables(self._answers, self._view.orders, self._view.wanted)
            self._view = self._arranged = followed(self._view, self._tables)

    def _draw(self) -> None:
        columns, lines = os.get_terminal_size(OUTPUT)
        # A terminal that was never told its size has 0.
        size = Size(columns or 80, lines or 24)
        self._view = bounded(self._view, self._answers, self._tables, self._asker.trouble, size)
        shown = page(self._view, self._answers, self._tables, self._asker.trouble, size)
        self._write(self._painter.frame(shown, size))

    def _write(self, output: bytes) -> None:
        while output:
            output = output[os.write(OUTPUT, output) :]

    def _wait(self) -> None:
        """Wait for a key, a signal, the daemon, or the time to ask it again. OSError if
        the terminal is gone.
        """
        asked = self._asker.fileno()
        poll = select.poll()
        for fd in (INPUT, self._wakeup_fd, *([] if asked is None else [asked])):
            poll.register(fd, select.POLLIN)
        idle = self._view.paused and asked is None
        ready = dict(poll.poll(None if idle else self._asker.due_in_s() * 1000 + 1))
        if INPUT in ready:
            self._take_keys()
        if self._wakeup_fd in ready:
            empty_wakeup_pipe(self._wakeup_fd)
            self._take_signals()
        answer = None if idle else self._asker.turn()
        if answer and not self._view.paused:
            self._answers = self._answers.then(answer) if self._answers else Answers(answer)

    def _take_keys(self) -> None:
        typed = os.read(INPUT, 4096)
        if not typed:
            raise OSError("the terminal was closed")
        for key in keys_of(typed):
            self._view = pressed(self._view, key, self._tables)
            # A key may need the tables as the keys before it have left them, but none
            # of those that are typed or pasted into the filter does.
            if not self._view.typing and self._is_rearranged():
                self._arrange()

    def _is_rearranged(self) -> bool:
        """Whether the tables are those of another order or filter."""
        made, view = self._arranged, self._view
        return (made.orders, made.wanted) != (view.orders, view.wanted)

    def _take_signals(self) -> None:
        for signum in self._signals.take():
            if signum in LEAVING:
                self._view = pressed(View(), "q", ())
            elif signum == signal.SIGTSTP:
                self._stop()

    def _stop(self) -> None:
        """Stop as a job does at Ctrl-Z, with the terminal as it was before; go on at
        SIGCONT.
        """
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._before = termios.tcgetattr(INPUT)
        self._enter()
