"""A sink of the log that keeps in memory what it is given."""

from unpd.sinks import Sink

PLENTY = 10**9


class MemorySink:
    """Takes at most ``at_a_time`` bytes of a write, and refuses like a full pipe while
    that is 0. ``sink`` is what a log is given.
    """

    def __init__(self, at_a_time: int = PLENTY) -> None:
        self.at_a_time = at_a_time
        self.written = b""
        self.sink = Sink(-1, self._write)

    def _write(self, _fd: int, line: bytes) -> int:
        if not self.at_a_time:
            raise BlockingIOError
        taken = line[: self.at_a_time]
        self.written += taken
        return len(taken)

    @property
    def lines(self) -> list[str]:
        """The lines that were written. Only a line feed ends a line."""
        return self.written.decode().split("\n")[:-1]
