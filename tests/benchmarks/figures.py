"""Turns rounds into figures: medians, spreads, and ratios within rounds."""

import http.client
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LEAST_ROUNDS = 3
"""Three undisturbed rounds are enough to leave the others out. Fewer rounds give no
verdict.
"""


class Faulty(Exception):
    """The generator counted errors. This server has no figure in this row."""


FAILURES = (
    Faulty,
    AssertionError,
    RuntimeError,
    OSError,
    ValueError,
    LookupError,
    subprocess.SubprocessError,
    http.client.HTTPException,
)
"""A failure of a server, or of the talk with it, is a fault in its place in the table.
The run goes on.
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """A median with the smallest and the largest of its rounds."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """The distance between the rounds, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def figure(values: Sequence[float]) -> Figure:
    """Return the figure of these rounds. There has to be at least one."""
    return Figure(statistics.median(values), min(values), max(values))


Sample = Mapping[str, float]
"""The results of one round, by name: rate, cpu_us, user_us, system_us, busy;
memory_bytes, p50_us, p99_us, p50_alone_us, p99_alone_us; the daemon's own figures.
"""


@dataclass(slots=True)
class Cell:
    """One server in one row: its rounds by number, or the reason why it has no figure.
    ``disturbed`` holds the rounds that were disturbed when patience had ended.
    ``thrown_away`` counts the repeated turns (rounds where there are no turns).
    """

    rounds: dict[int, Sample] = field(default_factory=dict)
    disturbed: set[int] = field(default_factory=set)
    fault: str = ""
    thrown_away: int = 0

    def blame(self, failure: BaseException) -> None:
        """Mark the server as faulty. It has no figure."""
        self.fault = str(failure) or repr(failure)

    def add(self, number: int, sample: Sample, *, disturbed: bool, thrown_away: int = 0) -> None:
        """Add a round and the number of measurements repeated for it."""
        self.rounds[number] = sample
        if disturbed:
            self.disturbed.add(number)
        self.thrown_away += thrown_away

    @property
    def why_none(self) -> str:
        """Why there is no figure; "" if there is one."""
        return self.fault or ("" if self.rounds else "it was not measured")

    def counted(self, beside: "Cell | None" = None) -> list[int]:
        """Return the rounds that count; with ``beside`` those that both servers have.
        These are the undisturbed ones if there are LEAST_ROUNDS of them, else all.
        """
        other = beside or self
        both = self.rounds.keys() & other.rounds.keys()
        quiet = both - self.disturbed - other.disturbed
        return sorted(quiet if len(quiet) >= LEAST_ROUNDS else both)

    def is_disturbed(self, beside: "Cell | None" = None) -> bool:
        """Whether disturbed rounds are among those that count."""
        return not (self.disturbed | (beside or self).disturbed).isdisjoint(self.counted(beside))

    def values(self, measure: str) -> list[float]:
        """Return ``measure`` of every round that counts."""
        return [self.rounds[number][measure] for number in self.counted()]

    def figure(self, measure: str) -> Figure:
        """Return the figure of ``measure``."""
        return figure(self.values(measure))

    def ratios(self, measure: str, to: "Cell") -> list[float]:
        """Return the ratios of ``measure`` to that of ``to``, for the rounds that both
        have. Rounds of one number ran on the machine in the same state.
        """
        return [
            self.rounds[number][measure] / to.rounds[number][measure]
            for number in self.counted(to)
            if to.rounds[number][measure]
        ]


Table = dict[str, dict[str, Cell]]
"""Cells by row and server. The rows OWN have figures of unpd alone."""

DAEMON = "daemon"
ACCESS = "access"
BALANCED = "balanced"
TURNS = "turns"
OWN = (DAEMON, ACCESS, TURNS, BALANCED)
"""Four rows without a peer: the daemon's own figures, the times of its access rules and
limits, the longest turns of its master, and its rates behind a load balancer.
"""
