"""A clock that stands still until a test moves it. Tests of the core use it, because
the core receives the time as a parameter.
"""


class ManualClock:
    """Monotonic seconds under the test's control."""

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now

    @property
    def now(self) -> float:
        """The present time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move forward by ``seconds`` (never back) and return the new time."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back")
        self._now += seconds
        return self._now

    def advance_to(self, moment: float) -> float:
        """Move forward to ``moment``, or stay if it is past. Return the new time."""
        self._now = max(self._now, moment)
        return self._now
