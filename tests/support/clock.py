"""A clock that stands still until it is told to go: for the core, which is told the
time.
"""


class ManualClock:
    """Monotonic seconds under the test's control."""

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now

    @property
    def now(self) -> float:
        """The present, in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Go forward by ``seconds`` (never back) and return the new present."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back")
        self._now += seconds
        return self._now

    def advance_to(self, moment: float) -> float:
        """Go forward to ``moment``; stay where it is already past. Returns the new
        present.
        """
        self._now = max(self._now, moment)
        return self._now
