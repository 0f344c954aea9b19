"""Decides whether the machine was quiet enough for a measurement, and repeats it
otherwise while patience lasts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.benchmarks.machine import Cpus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """A measurement that counts: its value, whether it was ``disturbed`` all the same,
    and how many were repeated before it.
    """

    value: T
    disturbed: bool
    thrown_away: int


@dataclass(slots=True)
class Quiet:
    """The limit for other programs: ``disturbed``, a share of our two processors' time.
    A measurement above it is repeated, for ``patience_s`` seconds in total.

    ``thrown_away`` counts the measurements that did not count, ``put_up_with`` the
    disturbed ones that did.
    """

    cpus: Cpus
    disturbed: float
    patience_s: float
    thrown_away: int = 0
    put_up_with: int = 0
    kept_s: float = 0.0
    """The part of the patience that is kept for later rows."""
    clock: Callable[[], float] = time.monotonic

    def share(self, rows: int) -> None:
        """Give the next row its share of the patience. ``rows`` more rows follow, the
        next one included; what it leaves is theirs.
        """
        self.kept_s = self.patience_s * (rows - 1) / rows

    def take(
        self, measure: Callable[[], tuple[T, float]], *, allowed: float | None = None
    ) -> Taken[T]:
        """Measure until others use no more than ``allowed`` (None: ``disturbed``), or
        until patience ends. Then the least disturbed measurement counts.

        ``measure`` returns its result and the share of our processors' time that others
        used meanwhile.
        """
        limit = self.disturbed if allowed is None else allowed
        least: tuple[T, float] | None = None
        tries = 0
        while True:
            began = self.clock()
            found = measure()
            if found[1] <= limit:
                return Taken(found[0], disturbed=False, thrown_away=tries)
            if least is None or found[1] < least[1]:
                least = found
            if self.patience_s <= self.kept_s:
                self.put_up_with += 1
                return Taken(least[0], disturbed=True, thrown_away=tries)
            self.patience_s -= self.clock() - began
            self.thrown_away += 1
            tries += 1
