"""How busy the workers of each pool are: the share of time in which their loops do not
wait, over the last seconds.

Each worker writes how long its loop has been busy, together with its heartbeat
(:mod:`unpd.worker.event.turn_times`). The sweep of the master passes both in about once
a second. A worker whose heartbeat is older than LATE_S is in the midst of a long turn,
stopped or hung: it counts as busy since then.

Owns the samples. Called by :mod:`unpd.master.sampling`. Calls and raises nothing,
whatever a faulty worker wrote: a share is between 0 and 1.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

SAMPLES = 6
"""How many samples of a worker are kept: one a second, so that a share is one of the
last five seconds.
"""
LATE_S = 2.0
"""A turn waits for a second at most, and writes the heartbeat then."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one worker has written. ``beat_s``: its last heartbeat, in monotonic
    seconds. ``busy_s``: how long it had been busy by then, since its birth.
    """

    birth: int
    pool: str
    beat_s: float
    busy_s: float


@dataclass(slots=True)
class Busyness:
    """The samples of all workers that live."""

    _samples: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)

    def take(self, samples: Iterable[Sample], now: float) -> dict[str, float]:
        """Take a sample of each worker at the time ``now``; return the mean share of
        each pool that has a worker of which two samples are known.
        """
        shares: defaultdict[str, list[float]] = defaultdict(list)
        kept: dict[int, deque[tuple[float, float]]] = {}
        for one in samples:
            before = self._samples.get(one.birth) or deque(maxlen=SAMPLES)
            before.append((one.beat_s, one.busy_s))
            kept[one.birth] = before
            if (share := _share(before[0], before[-1], now)) is not None:
                shares[one.pool].append(share)
        self._samples = kept
        return {pool: sum(values) / len(values) for pool, values in shares.items()}


def _share(first: tuple[float, float], last: tuple[float, float], now: float) -> float | None:
    """The busy share between two samples; None if no time lies between them."""
    busy_s, until = last[1] - first[1], last[0]
    if now - last[0] > LATE_S:
        busy_s, until = busy_s + now - last[0], now
    if until <= first[0]:
        return None
    return min(1.0, max(0.0, busy_s / (until - first[0])))
