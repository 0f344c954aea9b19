"""Floods of connections, as many a second as a test asks for, if this machine can. No
test passes with a flood that is more than SLOWER times as slow. Chaos tests use it.
"""

import contextlib
import time
from collections.abc import Iterator

from tests.support import loads
from tests.support.load_generator import SOURCES
from tests.support.loads import LoadResult
from tests.support.waiting import until

ONE_SOURCE = "source_prefix_v4 = 24"
"""With it, the addresses of a load generator are one source."""
FLOODING = SOURCES[0]
"""One of them."""
SLOWER = 10
"""A flood that is so many times slower exceeds every limit of the tests by far. The
benchmark of the access rules demands 2,000 connections a second.
"""


class Flood:
    """Connections that come at a rate from the addresses of one source, if the service
    has ONE_SOURCE: two processes make them.
    """

    def __init__(self, port: int, rate: float) -> None:
        self._wanted = rate
        self._loads = [loads.start(("127.0.0.1", port), rate=rate / 2) for _ in range(2)]
        self._results: list[LoadResult] = []
        self._counted = 0
        self._counted_at = 0.0

    def begin(self) -> None:
        """Measure the rate from now on, when the flood has begun."""
        until(lambda: all(load.attempts() > 100 for load in self._loads), 20.0, "a flood of two")
        self._counted, self._counted_at = self.came(), time.monotonic()

    def came(self) -> int:
        """How many clients it has had so far."""
        return sum(load.attempts() for load in self._loads)

    def stop(self) -> None:
        """Stop the flood, and wait until each of its clients has its outcome.
        AssertionError if its rate since :meth:`begin` was too low for a verdict.
        """
        lasted_s = time.monotonic() - self._counted_at
        rate = (self.came() - self._counted) / lasted_s
        self._results = [load.stop() for load in self._loads]
        assert rate >= self._wanted / SLOWER, f"a flood of {rate:.0f} connections a second only"

    def abandon(self) -> None:
        """End it at once. Harmless after :meth:`stop`."""
        for load in self._loads:
            load.abandon()

    def count(self, *outcomes: str) -> int:
        """How many clients ended so."""
        return sum(result.outcomes[each] for result in self._results for each in outcomes)


@contextlib.contextmanager
def flood_of(port: int, rate: float) -> Iterator[Flood]:
    """A flood that has begun. The test itself stops it."""
    flood = Flood(port, rate)
    try:
        flood.begin()
        yield flood
    finally:
        flood.abandon()
