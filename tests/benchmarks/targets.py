"""Owns the targets, as a table, and the verdict on each.

A target is *met* or *missed* where all rounds agree, and *within noise* where it lies
inside their spread, with the side of the median. The spread is at least NOISE of the
median each way, because two runs differ even where the rounds of one do not. Targets
with fewer than LEAST_ROUNDS rounds, as in a quick run, and those with disturbed rounds
are within noise whatever they show.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.benchmarks.figures import ACCESS, DAEMON, LEAST_ROUNDS, OWN, TURNS, Cell, Table
from tests.benchmarks.rows import EVERY
from tests.benchmarks.servers import GUARDED, KINDS, OTHER, UNPD

PEERS = frozenset(KINDS) - {UNPD, OTHER}
NOISE = 0.03
"""Half of the medians of the targets lie more than 1.6 % apart in two whole runs of one
tree on a quiet machine, a quarter more than 3.3 %.
"""
BEST = "best"


class Verdict(StrEnum):
    """The verdict on a target."""

    MET = "met"
    MISSED = "missed"
    NOISE_HOLDS = "within noise (median holds)"
    NOISE_MISSES = "within noise (median misses)"
    NONE = "no figure"


@dataclass(frozen=True, slots=True)
class Ratio:
    """unpd's ``measure`` in ``row`` over that of the peer ``to`` (BEST: the one that is
    best beside unpd). It has to be at least, or at most, ``goal``. ``of``: the server
    that is measured, if it is another unpd.
    """

    row: str
    measure: str
    to: str
    goal: float
    stretch: float | None = None
    of: str = UNPD

    @property
    def at_least(self) -> bool:
        """More is better."""
        return self.measure == "rate"


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure of unpd alone, at most ``goal``. ``row`` is where it is measured.
    ``timed``: it is a time, which a disturbed machine lengthens; memory is not.
    """

    row: str
    measure: str
    title: str
    unit: str
    goal: float
    stretch: float | None = None
    timed: bool = True


RATIOS = (
    *(
        ratio
        for row in ("echo-64-50", "echo-64-500")
        for ratio in (
            Ratio(row, "rate", "epoll", 0.87, 0.95),
            Ratio(row, "rate", "uvloop", 1.0, 1.05),
            Ratio(row, "rate", "go", 1.05),
        )
    ),
    Ratio("echo-16k-50", "rate", "epoll", 0.85, 0.95),
    Ratio("echo-16k-50", "rate", "uvloop", 1.0),
    Ratio("echo-16k-50", "rate", "go", 1.0),
    Ratio("bulk-4", "rate", BEST, 1.0, 1.2),
    *(
        ratio
        for row in ("turnover-50", "daytime-50")
        for ratio in (Ratio(row, "cpu_us", "epoll", 1.25, 1.1), Ratio(row, "cpu_us", "go", 1.0))
    ),
    *(Ratio(row, "cpu_us", UNPD, 1.2, of=GUARDED) for row in ("turnover-50", "daytime-50")),
    Ratio("echo-64-50", "cpu_us", "epoll", 1.15, 1.05),
    Ratio("echo-64-50", "cpu_us", "uvloop", 1.0),
    Ratio("udp-64-50", "cpu_us", "epoll", 1.43),
    Ratio("udp-64-50", "cpu_us", "go", 1.0),
    Ratio("udp-64-50", "cpu_us", "asyncio", 1.0),
    Ratio("chargen-4", "rate", "epoll", 0.9),
    Ratio("relay-64-50", "rate", "haproxy", 0.7),
    Ratio("relay-bulk-4", "rate", "haproxy", 0.9),
    *(
        Ratio(row, "rate", peer, 1.0)
        for row in ("relay-64-50", "relay-bulk-4")
        for peer in ("socat", "proxyd")
    ),
    Ratio("fork-50", "rate", "fork", 0.25),
    Ratio("fork-50", "rate", "pyfork", 1.0),
    *(
        ratio
        for row in ("program-50", "program-user-50")
        for ratio in (Ratio(row, "rate", "xinetd", 0.5), Ratio(row, "rate", "pyexec", 1.0))
    ),
)

BOUNDS = (
    Bound(
        "idle-10000", "memory_bytes", "memory per idle connection", "bytes", 450, 300, timed=False
    ),
    Bound(
        "idle-10000", "p99_over_alone", "p99 beside 10,000 idle over p99 alone", "times", 1.2, 1.05
    ),
    Bound(DAEMON, "ready_ms", "exec to ready", "ms", 300, 200),
    Bound(DAEMON, "version_ms", "unpd --version", "ms", 100, 50),
    Bound(DAEMON, "respawn_ms", "kill -9 of a worker to its successor's readiness", "ms", 20, 10),
    Bound(DAEMON, "reload_ms", "HUP to the new generation serving", "ms", 250, 100),
    Bound(DAEMON, "scrape_16_ms", "a scrape with 16 workers", "ms", 5, 3),
    Bound(DAEMON, "scrape_16_64_ms", "a scrape with 16 workers and 64 services", "ms", 30),
    Bound(DAEMON, "p99_slow_over_alone", "p99 of echo beside 300 slow scrapers", "times", 1.1),
    Bound(DAEMON, "scrape_slow_ms", "the slowest scrape beside them", "ms", 1000),
    Bound(DAEMON, "pss_all_mb", "PSS of master, two workers, exporter", "MB", 45, 38, timed=False),
    Bound(ACCESS, "place_ms", "a place of max_connections to the next client", "ms", 100),
    Bound(ACCESS, "place_other_ms", "a place freed by another worker, likewise", "ms", 100),
    Bound(ACCESS, "flood_ms", "the slowest session beside a flood", "ms", 100),
    Bound(ACCESS, "deny_ms", "a live denial to the refusal by the last worker", "ms", 100),
    Bound(ACCESS, "list_ms", "processor time for a list of 100,000 entries", "ms", 1000),
    Bound(ACCESS, "killed_ms", "kill -9 of a worker to its source's next session", "ms", 1000),
    Bound(TURNS, "asking_ms", "the master's longest turn with 1,000 control clients", "ms", 20),
    Bound(TURNS, "listing_ms", "the same while 10,000 connections are listed", "ms", 20),
)


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows and servers that a run was asked for."""

    rows: frozenset[str] = frozenset((*(row.name for row in EVERY), *OWN))
    servers: frozenset[str] = PEERS | {UNPD}

    def has(self, target: Ratio | Bound) -> bool:
        """Whether this target is part of it."""
        ours = target.of if isinstance(target, Ratio) else UNPD
        if target.row not in self.rows or not {UNPD, ours} <= self.servers:
            return False
        return isinstance(target, Bound) or bool(
            self.servers & (PEERS if target.to == BEST else {target.to})
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target and its verdict. ``key`` is the same in all runs. ``stretch`` is the
    verdict on its stretch goal, "" where it has none. ``disturbed``: disturbed rounds
    are among the values. A rate also has ``load_busy``, the load of the generator with
    unpd and with the peer, and ``cpu``, the median ratio of the processor time per
    operation, which is the reliable figure where the generator is the limit.
    """

    key: str
    what: str
    wanted: str
    values: Sequence[float]
    verdict: Verdict
    stretch: str
    disturbed: bool = False
    load_busy: Sequence[float] = ()
    cpu: float | None = None

    @property
    def median(self) -> float:
        """The median of the rounds. There has to be at least one."""
        return statistics.median(self.values)


EVERYTHING = Scope()


def scope(rows: Sequence[str], servers: Sequence[str]) -> Scope:
    """Return the scope for these rows and servers, everything where none is named."""
    return Scope(frozenset(rows) or EVERYTHING.rows, frozenset(servers) or EVERYTHING.servers)


def judge(values: Sequence[float], goal: float, at_least: bool, disturbed: bool = False) -> Verdict:
    """Compare the rounds' values with a goal. ``disturbed``: some rounds were
    disturbed.
    """
    if not values:
        return Verdict.NONE
    middle = statistics.median(values)
    low, high = min(*values, middle * (1 - NOISE)), max(*values, middle * (1 + NOISE))
    holds = middle >= goal if at_least else middle <= goal
    if low < goal < high or len(values) < LEAST_ROUNDS or disturbed:
        return Verdict.NOISE_HOLDS if holds else Verdict.NOISE_MISSES
    return Verdict.MET if holds else Verdict.MISSED


def outcomes(table: Table, scope: Scope = EVERYTHING) -> list[Outcome]:
    """Return the outcomes of all requested targets: "no figure" where nothing was
    measured.
    """
    ratios = [_of_ratio(ratio, table.get(ratio.row, {})) for ratio in RATIOS if scope.has(ratio)]
    return ratios + [
        _of_bound(bound, table.get(bound.row, {})) for bound in BOUNDS if scope.has(bound)
    ]


def _of_ratio(ratio: Ratio, cells: Mapping[str, Cell]) -> Outcome:
    cells = {name: cell for name, cell in cells.items() if name != OTHER}
    usable = {name: cell for name, cell in cells.items() if not cell.why_none}
    # When one peer has no figure, the best of the others could be a weaker one, so "the
    # best" has none.
    peer = (
        ratio.to
        if ratio.to != BEST
        else best_peer(usable, ratio)
        if usable.keys() == cells.keys()
        else ""
    )
    title = next(row.title for row in EVERY if row.name == ratio.row)
    of = "rate" if ratio.at_least else "CPU per operation"
    whose = (
        f"the best peer{f', {KINDS[peer].title}' if peer else ''}"
        if ratio.to == BEST
        else KINDS[peer].title
    )
    ours_too = "" if ratio.of == UNPD else f" of {KINDS[ratio.of].title}"
    key = f"{ratio.row} {ratio.measure} {ratio.to}"
    what = f"{title}: {of}{ours_too} over that of {whose}"
    if ratio.of not in usable or peer not in usable:
        return _outcome(key, what, [], ratio)
    ours, theirs = usable[ratio.of], usable[peer]
    outcome = _outcome(
        key, what, ours.ratios(ratio.measure, theirs), ratio, ours.is_disturbed(theirs)
    )
    if not ratio.at_least or not outcome.values:
        return outcome
    busy = [cell.figure("load_busy").median for cell in (ours, theirs)]
    return dataclasses.replace(
        outcome, load_busy=busy, cpu=statistics.median(ours.ratios("cpu_us", theirs))
    )


def best_peer(cells: Mapping[str, Cell], ratio: Ratio) -> str:
    """Return the peer beside which unpd is worst, by the median of the ratios within
    rounds; "" if there is none. The peer with the highest median of its own would only
    be the one with the luckiest rounds.
    """
    if UNPD not in cells:
        return ""
    found = {
        name: values
        for name, cell in cells.items()
        if name != UNPD and (values := cells[UNPD].ratios(ratio.measure, cell))
    }
    worst = min if ratio.at_least else max
    return worst(found, key=lambda name: statistics.median(found[name]), default="")


def _of_bound(bound: Bound, cells: Mapping[str, Cell]) -> Outcome:
    cell = cells.get(UNPD, Cell())
    values = [] if cell.why_none else cell.values(bound.measure)
    return _outcome(
        f"{bound.row} {bound.measure}",
        bound.title,
        values,
        bound,
        bound.timed and cell.is_disturbed(),
    )


def _outcome(
    key: str, what: str, values: Sequence[float], target: Ratio | Bound, disturbed: bool = False
) -> Outcome:
    at_least = isinstance(target, Ratio) and target.at_least
    unit = f" {target.unit}" if isinstance(target, Bound) else ""
    further = (
        f"{target.stretch:g} {judge(values, target.stretch, at_least, disturbed)}"
        if target.stretch is not None
        else ""
    )
    wanted = f"at {'least' if at_least else 'most'} {target.goal:g}{unit}"
    return Outcome(
        key,
        what,
        wanted,
        values,
        judge(values, target.goal, at_least, disturbed),
        further,
        disturbed,
    )
