"""The standard error of programs, line by line, as lines of our log.

All programs of a service, and the processes that they start, write to one socket
(:mod:`unpd.kernel.shared_stderr`). What is written is always read, so that a program
that writes without end keeps no other one waiting; what is logged of it is bounded.

A line is of the program to whose session (setsid(2)) its writer belongs. The session of
a writer that has ended is not known: its line counts as one of the only program of the
service that runs, and stands for itself if there are several.

Owns the beginnings of lines, and the last line of each program. Called by
:mod:`unpd.dispatcher.programs`. Raises OSError if the socket is broken for good.

Known gap: a launcher that dies takes the beginnings of lines with it.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from unpd.kernel.shared_stderr import SharedStderr
from unpd.line_limit import LineLimit
from unpd.logs import Log

MAX_LINE_BYTES = 1000
"""A longer line is cut into lines of this length: the log would cut it anyway."""
MAX_WRITERS = 1024
"""Of how many processes the beginning of a line is kept, and of how many the last line;
the oldest is forgotten first.
"""
PIECES = 16
"""How many pieces are read in one turn."""
LAST_PIECES = 256
"""How many are read when a program has ended, so that its last words are among them."""
LINES_PER_S = 100


@dataclass(frozen=True, slots=True)
class _Begun:
    """The beginning of a line of the program ``owner``."""

    owner: int
    text: bytes


class ErrorLines:
    """The standard error of the programs of one service. ``running``: their pids."""

    def __init__(
        self,
        service: str,
        stderr: SharedStderr,
        log: Log,
        running: Callable[[], Collection[int]],
    ) -> None:
        self._service = service
        self._stderr = stderr
        self._log = log
        self._running = running
        self._limit = LineLimit(LINES_PER_S)
        self._begun: dict[int, _Begun] = {}  # by the writers
        self._last: dict[int, str] = {}
        self._ended: dict[int, None] = {}  # programs, the last MAX_WRITERS

    def read(self, now: float, pieces: int = PIECES) -> bool:
        """Log the lines that are there, but no more than ``pieces``. False at the
        end.
        """
        for _ in range(pieces):
            if (read := self._stderr.read()) is None:
                return True
            writer, piece = read
            if not piece:
                return False
            self._take(writer, piece, now)
        return True

    def forget(self, pid: int, now: float) -> str:
        """A program has ended: log the lines that it has begun, and return its last
        one.
        """
        for writer in [writer for writer, begun in self._begun.items() if begun.owner == pid]:
            self._write(pid, self._begun.pop(writer).text, now)
        if len(self._ended) >= MAX_WRITERS:
            del self._ended[next(iter(self._ended))]
        self._ended[pid] = None
        return self._last.pop(pid, "")

    def _owner_of(self, writer: int) -> int:
        running = self._running()
        if writer in running or writer in self._ended or not writer:
            return writer
        try:
            leader = os.getsid(writer)
        except OSError:  # it is gone
            return next(iter(running)) if len(running) == 1 else writer
        return leader if leader in running else writer

    def _take(self, writer: int, piece: bytes, now: float) -> None:
        begun = self._begun.pop(writer, None)
        owner = begun.owner if begun else self._owner_of(writer)
        *whole, rest = ((begun.text if begun else b"") + piece).split(b"\n")
        for line in whole:
            for begin in range(0, len(line), MAX_LINE_BYTES):
                self._write(owner, line[begin : begin + MAX_LINE_BYTES], now)
        while len(rest) >= MAX_LINE_BYTES:
            self._write(owner, rest[:MAX_LINE_BYTES], now)
            rest = rest[MAX_LINE_BYTES:]
        if rest:
            if len(self._begun) >= MAX_WRITERS:
                oldest = self._begun.pop(next(iter(self._begun)))
                self._write(oldest.owner, oldest.text, now)
            self._begun[writer] = _Begun(owner, rest)

    def _write(self, pid: int, line: bytes, now: float) -> None:
        text = line.decode("utf-8", "replace")
        self._last.pop(pid, None)
        if len(self._last) >= MAX_WRITERS:
            del self._last[next(iter(self._last))]
        self._last[pid] = text
        suppressed = self._limit.take(now)
        if suppressed is not None:
            self._log.event(
                "program.stderr",
                service=self._service,
                session_pid=pid,
                text=text,
                suppressed=suppressed,
            )
