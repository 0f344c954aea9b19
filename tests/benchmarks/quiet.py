"""How quiet the machine has to be, and how long it is asked to be so."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.benchmarks.machine import Cpus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """A measurement that counts: its value, whether it was ``disturbed`` all the same,
    and how many were thrown away for it.
    """

    value: T
    disturbed: bool
    thrown_away: int


@dataclass(slots=True)
class Quiet:
    """What others may use: ``disturbed``, a part of our two processors' time. What was
    measured while they used more is repeated, for ``patience_s`` seconds in all.

    ``thrown_away``: how many measurements did not count; ``put_up_with``: how many did
    although they were disturbed.
    """

    cpus: Cpus
    disturbed: float
    patience_s: float
    thrown_away: int = 0
    put_up_with: int = 0
    kept_s: float = 0.0
    """Of the patience: for the rows that are still to come."""
    clock: Callable[[], float] = time.monotonic

    def share(self, rows: int) -> None:
        """So many rows are still to come, the next one counted: it gets its part of the
        patience, and what it leaves is theirs.
        """
        self.kept_s = self.patience_s * (rows - 1) / rows

    def take(
        self, measure: Callable[[], tuple[T, float]], *, allowed: float | None = None
    ) -> Taken[T]:
        """Measure until others used no more than ``allowed`` (None: ``disturbed``), or
        until patience ends: then the least disturbed one counts.

        ``measure`` returns what it measured and the part of our processors' time that
        others used meanwhile.
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
