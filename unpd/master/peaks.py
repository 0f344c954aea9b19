"""The peaks of services: the most connections that each had open at one of the samples
of the last minute.

Owns the samples. Called by :mod:`unpd.master.recording` about once a second; several
samples of one second are one, the highest. The caller passes the time in. Calls and
raises nothing.

The samples are the master's own: the next master begins without any.
"""

from collections import deque
from collections.abc import Mapping

WINDOW_S = 60
"""For how long a sample counts."""


class Peak:
    """The samples of one service: at most one for each second of the window."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque()

    def take(self, count: int, now: float) -> int:
        """Take a sample at the time ``now``; return the highest of the window."""
        second = int(now)
        if self._samples and self._samples[-1][0] == second:
            count = max(count, self._samples.pop()[1])
        self._samples.append((second, count))
        while self._samples[0][0] <= second - WINDOW_S:
            self._samples.popleft()
        return max(highest for _, highest in self._samples)


class Peaks:
    """The peaks of all services, by name."""

    def __init__(self) -> None:
        self._services: dict[str, Peak] = {}

    def take(self, counts: Mapping[str, int], now: float) -> dict[str, int]:
        """Take the open connections of every service at the time ``now`` (monotonic
        seconds); return the peak of each. A service that is not there is forgotten.
        """
        self._services = {name: self._services.get(name) or Peak() for name in counts}
        return {name: self._services[name].take(count, now) for name, count in counts.items()}
