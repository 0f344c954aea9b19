"""The targets, as a table, and what became of them.

A target is *met* or *missed* where all rounds agree on it, and *within noise* where it lies inside their spread. The spread is at least NOISE of the median each way,
because two runs differ by a little even where the rounds of one do not.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.benchmarks.figures import Cell, Table
from tests.benchmarks.rows import EVERY
from tests.benchmarks.servers import KINDS, UNPD

NOISE = 0.01


class Verdict(StrEnum):
    """What became of a target."""

    MET = "met"
    MISSED = "missed"
    NOISE = "within noise"
    NONE = "no figure"


@dataclass(frozen=True, slots=True)
class Ratio:
    """unpd's ``measure`` in ``row`` over that of the peer ``to`` ("best": of the best peer there is): at least, or at most, ``goal``."""

    row: str
    measure: str
    to: str
    goal: float
    stretch: float | None = None

    @property
    def at_least(self) -> bool:
        """More is better."""
        return self.measure == "rate"


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure of unpd alone: at most ``goal``. ``row``: where it is measured, "daemon" for the daemon's own."""

    row: str
    measure: str
    title: str
    unit: str
    goal: float
    stretch: float


RATIOS = (
    *(
        ratio
        for row in ("echo-64-50", "echo-64-500")
        for ratio in (Ratio(row, "rate", "epoll", 0.87, 0.95), Ratio(row, "rate", "uvloop", 1.0, 1.05), Ratio(row, "rate", "go", 1.05))
    ),
    Ratio("echo-16k-50", "rate", "epoll", 0.85, 0.95),
    Ratio("echo-16k-50", "rate", "uvloop", 1.0),
    Ratio("echo-16k-50", "rate", "go", 1.0),
    Ratio("bulk-4", "rate", "best", 1.0, 1.2),
    *(ratio for row in ("turnover-50", "daytime-50") for ratio in (Ratio(row, "cpu_us", "epoll", 1.25, 1.1), Ratio(row, "cpu_us", "go", 1.0))),
    Ratio("echo-64-50", "cpu_us", "epoll", 1.15, 1.05),
    Ratio("echo-64-50", "cpu_us", "uvloop", 1.0),
)

BOUNDS = (
    Bound("idle-10000", "memory_bytes", "memory per idle connection", "bytes", 450, 300),
    Bound("idle-10000", "p99_over_alone", "p99 beside 10,000 idle over p99 alone", "times", 1.2, 1.05),
    Bound("daemon", "ready_ms", "exec to ready", "ms", 300, 200),
    Bound("daemon", "version_ms", "unpd --version", "ms", 100, 50),
    Bound("daemon", "respawn_ms", "kill -9 of a worker to its successor's readiness", "ms", 20, 10),
    Bound("daemon", "reload_ms", "HUP to the new generation serving", "ms", 250, 100),
    Bound("daemon", "scrape_16_ms", "a scrape with 16 workers", "ms", 5, 3),
    Bound("daemon", "pss_all_mb", "PSS of master, two workers, exporter", "MB", 45, 38),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target and what became of it. ``stretch``: the same of its stretch, "" where it has none."""

    what: str
    wanted: str
    median: float
    low: float
    high: float
    verdict: Verdict
    stretch: str


def judge(values: Sequence[float], goal: float, at_least: bool) -> Verdict:
    """Compare the rounds' values with a goal."""
    if not values:
        return Verdict.NONE
    middle = statistics.median(values)
    low, high = min(*values, middle * (1 - NOISE)), max(*values, middle * (1 + NOISE))
    if low < goal < high:
        return Verdict.NOISE
    return Verdict.MET if (low >= goal if at_least else high <= goal) else Verdict.MISSED


def outcomes(table: Table, daemon: Mapping[str, Sequence[float]], rounds: int) -> list[Outcome]:
    """All targets for which something was measured."""
    found = [_of_ratio(ratio, table[ratio.row], rounds) for ratio in RATIOS if set(table.get(ratio.row, ())) > {UNPD}]
    for bound in BOUNDS:
        if bound.row == "daemon":
            found += [_of_bound(bound, daemon[bound.measure])] if bound.measure in daemon else []
        elif UNPD in table.get(bound.row, {}):
            cell = table[bound.row][UNPD]
            found.append(_of_bound(bound, [] if cell.why_none(rounds) else cell.values(bound.measure)))
    return found


def _of_ratio(ratio: Ratio, cells: Mapping[str, Cell], rounds: int) -> Outcome:
    peer = _best(cells, ratio.measure, rounds) if ratio.to == "best" else ratio.to
    both = [cells[name] for name in (UNPD, peer) if name in cells and not cells[name].why_none(rounds)]
    values = both[0].ratios(ratio.measure, both[1]) if len(both) == 2 else []
    title = next(row.title for row in EVERY if row.name == ratio.row)
    of = "rate" if ratio.at_least else "CPU per operation"
    word = "the best peer, " if ratio.to == "best" else ""
    what = f"{title}: {of} over that of {word}{KINDS[peer].title if peer else 'none'}"
    return _outcome(what, f"at {'least' if ratio.at_least else 'most'} {ratio.goal:g}", values, (ratio.goal, ratio.stretch), at_least=ratio.at_least)


def _best(cells: Mapping[str, Cell], measure: str, rounds: int) -> str:
    rates = {name: cell.figure(measure).median for name, cell in cells.items() if name != UNPD and not cell.why_none(rounds)}
    return max(rates, key=lambda name: rates[name], default="")


def _of_bound(bound: Bound, values: Sequence[float]) -> Outcome:
    return _outcome(bound.title, f"at most {bound.goal:g} {bound.unit}", values, (bound.goal, bound.stretch), at_least=False)


def _outcome(what: str, wanted: str, values: Sequence[float], goals: tuple[float, float | None], *, at_least: bool) -> Outcome:
    goal, stretch = goals
    middle, low, high = (statistics.median(values), min(values), max(values)) if values else (0.0, 0.0, 0.0)
    further = f"{stretch:g} {judge(values, stretch, at_least)}" if stretch is not None else ""
    return Outcome(what, wanted, middle, low, high, judge(values, goal, at_least), further)
