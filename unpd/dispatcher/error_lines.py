"""The standard error of programs, line by line, as lines of our log.

All programs of a service, and the processes that they start, write to one socket
(:mod:`unpd.kernel.shared_stderr`). What is written is always read, so that a program
that writes without end keeps no other one waiting; what is logged of it is bounded.

Owns the beginnings of lines, and the last line of each process. Called by
:mod:`unpd.dispatcher.programs`. Raises OSError if the socket is broken for good.

Known gap: a launcher that dies takes the beginnings of lines with it.
"""

from unpd.kernel.shared_stderr import SharedStderr
from unpd.line_limit import LineLimit
from unpd.logs import Log

MAX_LINE_BYTES = 1000
"""A longer line is cut into lines of this length: the log would cut it anyway."""
MAX_WRITERS = 1024
"""Of how many processes something is kept; the oldest is forgotten first."""
PIECES = 16
"""How many pieces are read in one turn."""
LINES_PER_S = 100


class ErrorLines:
    """The standard error of the programs of one service."""

    def __init__(self, service: str, stderr: SharedStderr, log: Log) -> None:
        self._service = service
        self._stderr = stderr
        self._log = log
        self._limit = LineLimit(LINES_PER_S)
        self._begun: dict[int, bytes] = {}
        self._last: dict[int, str] = {}

    def read(self, now: float) -> bool:
        """Log the lines that are there, those of one turn at most. False at the end."""
        for _ in range(PIECES):
            if (read := self._stderr.read()) is None:
                return True
            pid, piece = read
            if not piece:
                return False
            self._take(pid, piece, now)
        return True

    def forget(self, pid: int, now: float) -> str:
        """A process has ended: log the line that it has begun, and return its last
        one.
        """
        if rest := self._begun.pop(pid, b""):
            self._write(pid, rest, now)
        return self._last.pop(pid, "")

    def _take(self, pid: int, piece: bytes, now: float) -> None:
        *whole, rest = (self._begun.pop(pid, b"") + piece).split(b"\n")
        for line in whole:
            for begin in range(0, len(line), MAX_LINE_BYTES):
                self._write(pid, line[begin : begin + MAX_LINE_BYTES], now)
        while len(rest) >= MAX_LINE_BYTES:
            self._write(pid, rest[:MAX_LINE_BYTES], now)
            rest = rest[MAX_LINE_BYTES:]
        if rest:
            if len(self._begun) >= MAX_WRITERS:
                oldest = next(iter(self._begun))
                self._write(oldest, self._begun.pop(oldest), now)
            self._begun[pid] = rest

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
