"""How busy the workers of each pool are: the share of time in which their loops do not
wait, over the last five seconds.

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

WINDOW_S = 5.0
"""How long a sample of a worker is kept; the last two are kept anyway."""
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

    _samples: dict[int, deque[tuple[float, Sample]]] = field(default_factory=dict)

    def take(self, samples: Iterable[Sample], now: float) -> dict[str, float]:
        """Take a sample of each worker at the time ``now``; return the mean share of
        each pool that has a worker of which two samples are known.
        """
        shares: defaultdict[str, list[float]] = defaultdict(list)
        kept: dict[int, deque[tuple[float, Sample]]] = {}
        for one in samples:
            recent = kept[one.birth] = self._samples.get(one.birth) or deque()
            recent.append((now, one))
            while len(recent) > 2 and recent[0][0] < now - WINDOW_S:
                recent.popleft()
            if (share := _share(recent[0][1], one, now)) is not None:
                shares[one.pool].append(share)
        self._samples = kept
        return {pool: sum(values) / len(values) for pool, values in shares.items()}


def _share(first: Sample, last: Sample, now: float) -> float | None:
    """The busy share between two samples; None if no time lies between them."""
    busy_s, until = last.busy_s - first.busy_s, last.beat_s
    if now - last.beat_s > LATE_S:
        busy_s, until = busy_s + now - last.beat_s, now
    if until <= first.beat_s:
        return None
    return min(1.0, max(0.0, busy_s / (until - first.beat_s)))
