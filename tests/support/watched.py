"""``unpd top`` on a terminal that a test reads and types on.

The screen understands as much of a terminal as the program uses: lines are written at a
place, with colours (console_codes(4)).
"""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import ROOT
from tests.support.waiting import until

PATIENCE_S = 30.0
"""Longer than anything here takes on a busy machine."""
_PIECE = re.compile(r"\x1b\[(\d+);(\d+)H|\x1b\[[?0-9;]*[A-Za-z]|([^\x1b]+)")


class Watched:
    """A running ``unpd top``. :func:`watching` starts it."""

    def __init__(self, control: Path, words: tuple[str, ...], **environment: str) -> None:
        self._keyboard, self._screen = os.openpty()
        os.set_blocking(self._keyboard, False)
        self._said = b""
        self.modes = termios.tcgetattr(self._screen)
        self.resize(100, 30)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "unpd", "top", "--control", control, *words],
            stdin=self._screen,
            stdout=self._screen,
            stderr=self._screen,
            start_new_session=True,
            preexec_fn=self._control,  # noqa: PLW1509 - the test run has no thread
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
        )

    def _control(self) -> None:
        """Make the terminal that of the new session, for its signals."""
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the window."""
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self._keyboard, termios.TIOCSWINSZ, size)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._keyboard, keys.encode())

    @property
    def said(self) -> str:
        """Every byte that the program has written."""
        with contextlib.suppress(BlockingIOError, OSError):  # EIO: it has ended
            while piece := os.read(self._keyboard, 65536):
                self._said += piece
        return self._said.decode(errors="ignore")  # it may end within a character

    @property
    def lines(self) -> list[str]:
        """What the screen shows now, if it has been drawn whole since the last
        change of its size.
        """
        rows: dict[int, str] = {}
        at = 1
        for row, _, text in _PIECE.findall(self.said):
            if row:
                at = int(row)
                rows = rows if at > 1 else {}
            elif text:
                rows[at] = rows.get(at, "") + text
        return [rows[number].rstrip() for number in sorted(rows)]

    def wait(self, pattern: str) -> str:
        """Wait until a line of the screen holds the pattern, and return it."""

        def found() -> str:
            return next((line for line in self.lines if re.search(pattern, line)), "")

        return until(found, PATIENCE_S, lambda: f"{pattern!r} on the screen: {self.lines}")

    def modes_now(self) -> list[Any]:
        """The modes of the terminal."""
        return termios.tcgetattr(self._screen)

    def end(self) -> None:
        """Close the terminal, after the end of the program."""
        self.process.kill()
        self.process.wait()
        for fd in (self._keyboard, self._screen):
            os.close(fd)


@contextlib.contextmanager
def watching(control: Path, *words: str, **environment: str) -> Iterator[Watched]:
    """Run ``unpd top`` on a terminal of 100 columns and 30 lines."""
    watched = Watched(control, words, **environment)
    try:
        yield watched
    finally:
        watched.end()
