"""A limit for log lines about acts that any number of strangers can do: each act would
cost the master a line, and the lines would bury all others.

Used by boot for refusals of the control socket, by the exporter for its clients, and by
workers for failures of a service. Calls and raises nothing.
"""

PAUSE_S = 1.0
"""At most one line is logged in this time."""


class LineLimit:
    """The limit of the lines about one event."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._suppressed = 0

    def take(self, at: float) -> int | None:
        """Ask for a line at the time ``at``. Return how many lines were left out since
        the last one, or None if this one has to be left out too.
        """
        if at < self._next_at:
            self._suppressed += 1
            return None
        self._next_at = at + PAUSE_S
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
