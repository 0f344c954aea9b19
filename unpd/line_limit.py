"""A limit for log lines about acts that any number of strangers can do: each act would
cost the master a line, and the lines would bury all others.

Used by boot for refusals of the control socket, by the exporter for its clients, and by
workers for failures of a service. Calls and raises nothing.
"""

PAUSE_S = 1.0
"""At most so many lines as are allowed are logged in this time."""


class LineLimit:
    """The limit of the lines about one event. ``lines``: how many are allowed."""

    def __init__(self, lines: int = 1) -> None:
        self._lines = lines
        self._left = lines
        self._next_at = 0.0
        self._suppressed = 0

    def take(self, at: float) -> int | None:
        """Ask for a line at the time ``at``. Return how many lines were left out since
        the last one, or None if this one has to be left out too.
        """
        if at >= self._next_at:
            self._next_at, self._left = at + PAUSE_S, self._lines
        if not self._left:
            self._suppressed += 1
            return None
        self._left -= 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
