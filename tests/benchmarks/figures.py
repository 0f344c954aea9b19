"""From rounds to figures: medians, spreads, and ratios of the same round."""

import http.client
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LEAST_ROUNDS = 3
"""Fewer undisturbed rounds give no figure, unless fewer were asked for."""


class Faulty(Exception):
    """The generator counted errors: this server has no figure in this row."""


FAILURES = (Faulty, AssertionError, RuntimeError, OSError, ValueError, LookupError, subprocess.SubprocessError, http.client.HTTPException)
"""What goes wrong with a server, or with our talk with it, is a fault in its place in the table; the run goes on."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A median with the smallest and the largest of its rounds."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """How far the rounds lie apart, as a part of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def figure(values: Sequence[float]) -> Figure:
    """The figure of these rounds, of which there is at least one."""
    return Figure(statistics.median(values), min(values), max(values))


Sample = Mapping[str, float]
"""What one round measured, by name: rate, cpu_us, user_us, system_us, busy; memory_bytes, p50_us, p99_us, p50_alone_us, p99_alone_us; the daemon's
own."""


@dataclass(slots=True)
class Cell:
    """One server in one row: its rounds by number, or why it has none. ``thrown_away``: turns that were disturbed (rounds where they have none)."""

    rounds: dict[int, Sample] = field(default_factory=dict)
    fault: str = ""
    thrown_away: int = 0

    def blame(self, failure: BaseException) -> None:
        """It has no figure because of this."""
        self.fault = str(failure) or repr(failure)

    def why_none(self, rounds_asked: int) -> str:
        """Why there is no figure; "" if there is one."""
        if self.fault:
            return self.fault
        if len(self.rounds) < min(LEAST_ROUNDS, rounds_asked):
            return f"only {len(self.rounds)} undisturbed rounds"
        return ""

    def values(self, measure: str) -> list[float]:
        """``measure`` in every round."""
        return [sample[measure] for sample in self.rounds.values()]

    def figure(self, measure: str) -> Figure:
        """The figure of ``measure``."""
        return figure(self.values(measure))

    def ratios(self, measure: str, to: "Cell") -> list[float]:
        """``measure`` over that of ``to``, of the rounds that both have: neighbours in time saw the same machine."""
        return [
            self.rounds[number][measure] / to.rounds[number][measure] for number in sorted(self.rounds.keys() & to.rounds.keys()) if to.rounds[number][measure]
        ]


Table = dict[str, dict[str, Cell]]
"""Cells by row and server. Row DAEMON has the daemon's own figures, of unpd alone."""

DAEMON = "daemon"
