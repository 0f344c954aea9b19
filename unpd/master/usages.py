"""What the children use: processor time and memory, sampled by the master's sweep.

Owns the last samples of each child, so that an answer has the load of the last seconds
and reads nothing of /proc. Called by :mod:`unpd.master.sampling` about once a second,
and by :mod:`unpd.master.status`. Calls :func:`unpd.kernel.procfs.usage`. Raises
nothing.

A sweep looks at AT_A_TIME children, which takes about a millisecond; of more, each has
its turn.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unpd.kernel import procfs
from unpd.kernel.procfs import Usage

AT_A_TIME = 64
WINDOW_S = 5.0
"""How long a sample of a child is kept; the last two are kept anyway."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a child uses. ``cpu_s``: since its start. ``cpu_percent``: of one processor,
    in the last seconds; None before the second sample.
    """

    cpu_s: float
    cpu_percent: float | None
    resident_bytes: int


class Usages:
    """The samples, by birth."""

    def __init__(self, read: Callable[[int], Usage | None] = procfs.usage) -> None:
        self._read = read
        self._samples: dict[int, deque[tuple[float, Usage]]] = {}
        self._last = 0

    def take(self, pids: Mapping[int, int], at: float) -> list[int]:
        """Sample the next of the living children, by their births, at the time ``at``
        (monotonic seconds); return which these were. Forget the children that do not
        live. A child that /proc hides has no sample.
        """
        self._samples = {birth: self._samples.get(birth) or deque() for birth in pids}
        births = self._next(sorted(pids))
        for birth in births:
            used = self._read(pids[birth])
            if used is not None:
                samples = self._samples[birth]
                samples.append((at, used))
                while len(samples) > 2 and samples[0][0] < at - WINDOW_S:
                    samples.popleft()
            self._last = birth
        return births

    def _next(self, births: list[int]) -> list[int]:
        """Those after the last one that was sampled, then the first ones."""
        later = [birth for birth in births if birth > self._last]
        return (later + births)[: min(AT_A_TIME, len(births))]

    def of(self, birth: int) -> Used | None:
        """What the child uses; None before its first sample."""
        samples = self._samples.get(birth)
        if not samples:
            return None
        (before_at, before), (at, used) = samples[0], samples[-1]
        spent_s = used.cpu_s - before.cpu_s
        percent = 100 * spent_s / (at - before_at) if at > before_at else None
        return Used(used.cpu_s, percent, used.resident_bytes)
