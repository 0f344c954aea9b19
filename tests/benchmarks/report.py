"""Writes the results as a Markdown page and as JSON."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.access import ENTRIES, HELD, SESSIONS, WORKERS
from tests.benchmarks.balancing import BYTES, CONNECTIONS, INSTANCES
from tests.benchmarks.build import Places
from tests.benchmarks.figures import ACCESS, BALANCED, DAEMON, TURNS, Cell, Figure, Table, figure
from tests.benchmarks.rows import EVERY, IDLE, Row
from tests.benchmarks.servers import KINDS, UNPD
from tests.benchmarks.slow_scrapes import SLOW
from tests.benchmarks.targets import Outcome, Verdict
from tests.benchmarks.turns import ASKING, LISTED
from tests.benchmarks.turns import WORKERS as LISTED_WORKERS

DAEMON_TITLES = {
    "nothing_ms": "an interpreter that does nothing, ms",
    "ready_ms": "exec to ready, ms",
    "version_ms": "`unpd --version`, ms",
    "respawn_ms": "`kill -9` of a worker to its successor's readiness, ms",
    "reload_ms": "HUP to the new generation serving, ms",
    "scrape_2_ms": "a scrape with 2 workers, ms",
    "scrape_16_ms": "a scrape with 16 workers, ms",
    "scrape_64_ms": "a scrape with 64 workers, ms",
    "scrape_16_64_ms": "a scrape with 16 workers and 64 services, ms",
    "echo_p99_us": "p99 of echo, at a slow pace, µs",
    "echo_p99_slow_us": f"the same beside {SLOW} slow clients of the metrics port, µs",
    "p99_slow_over_alone": "the one over the other",
    "scrape_slow_ms": "the slowest scrape beside them, ms",
    "pss_master_mb": "PSS of the master, MB",
    "pss_worker_mb": "PSS of a worker, MB",
    "pss_exporter_mb": "PSS of the exporter, MB",
    "pss_all_mb": "PSS of master, two workers, exporter, MB",
}
ACCESS_TITLES = {
    "place_ms": "a place of `max_connections` to the next client's answer, ms",
    "place_other_ms": "the same, where a draining worker frees it for another one, ms",
    "flood_ms": f"the slowest of {SESSIONS} sessions beside a flood of one source, ms",
    "flood_rate": "connections per s of that flood",
    "deny_ms": f"asking for a denial to the refusal by the last of {WORKERS} workers, ms",
    "list_ms": f"processor time of `unpd check` for a list of {ENTRIES:,} entries, ms",
    "killed_ms": f"`kill -9` of a worker to the next session of its {HELD} clients' source, ms",
}
TURNS_TITLES = {
    "asking_ms": f"within, while {ASKING:,} clients of the control socket ask for the status, ms",
    "listing_ms": (
        f"within, while {LISTED:,} connections of {LISTED_WORKERS} workers are listed, ms"
    ),
}
BALANCED_TITLES = {
    f"{name}_{instances}": f"{what} per s, {where}"
    for name, what in (
        ("trips", f"round trips of {BYTES} bytes on {CONNECTIONS} connections"),
        ("visits", f"connections with one each, {CONNECTIONS} at a time"),
    )
    for instances, where in (
        ("direct", "without HAProxy"),
        *((str(count), f"through HAProxy to {count} unpd") for count in INSTANCES),
    )
}
OWN_TITLES = {
    DAEMON: ("The daemon", DAEMON_TITLES),
    ACCESS: ("Access", ACCESS_TITLES),
    TURNS: ("The longest turn of the master", TURNS_TITLES),
    BALANCED: ("Behind HAProxy, all on the same two processors", BALANCED_TITLES),
}

LIMITED = 0.93
"""A generator that is busier than this limits the rate."""
LIMIT_SAYS = (
    f"Where the load generator was busier than {LIMITED:.0%} beside either server, it is the limit:"
    " the rate then says little about the server, and the ratio of the processor time per"
    " operation (CPU ratio: unpd's over the peer's, less is better) is the firm figure."
)
STAR_SAYS = (
    rf"\* The load generator was busier than {LIMITED:.0%} beside one of the two: it is the limit"
    r" then, the rate says little about the server, and the ratio of the processor time "
    "per operation (CPU, less is better) is the firm figure."
)
RATIOS_HEAD = "## Ratios"
COMPARED = ("epoll", "uvloop", "go")
"""The peers of the short table."""
CORKED = "corked"
"""The peer that sends daytime's line as unpd does."""
NO_SPLIT = "—"
"""Stands for user and system time where each operation is a process. A process that
ends before the first tick has all its time counted as user time.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Results:
    """All results of a run. ``thrown_away`` counts the disturbed turns and rounds that
    were repeated, ``put_up_with`` those that count all the same.
    """

    facts: Mapping[str, str]
    rounds: int
    seconds: float
    table: Table
    thrown_away: int
    put_up_with: int
    outcomes: Sequence[Outcome]

    @property
    def faults(self) -> Mapping[str, str]:
        """The faults of unpd, by row."""
        return {
            row: cells[UNPD].fault
            for row, cells in self.table.items()
            if UNPD in cells and cells[UNPD].fault
        }


def markdown(results: Results) -> str:
    """Return the page."""
    parts = [
        "# Results",
        "",
        "Written by `make bench`; [README.md](README.md) tells how it measures and how to read it.",
        "",
    ]
    parts += [f"- {name}: {value}" for name, value in results.facts.items()]
    parts += [
        (
            f"- {results.rounds} rounds of {results.seconds:g} s each; {results.thrown_away}"
            f" disturbed turns or rounds were repeated, {results.put_up_with} were put up with"
        )
    ]
    if results.outcomes:
        parts += ["", "## Targets", "", LIMIT_SAYS, "", *_targets_grid(results)]
    if ratios := _ratios(results):
        parts += ["", RATIOS_HEAD, "", *ratios]
    for row in EVERY:
        if row.name in results.table:
            parts += ["", f"## {row.title[0].upper()}{row.title[1:]}", ""]
            parts += (
                _idle_grid(results.table[row.name], results.rounds)
                if row is IDLE
                else _work_grid(row, results.table[row.name], results.rounds)
            )
    for name, (title, titles) in OWN_TITLES.items():
        if name in results.table:
            grid = _own_grid(titles, results.table[name][UNPD], results.rounds)
            parts += ["", f"## {title}", "", *grid]
    return "\n".join(parts) + "\n"


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [
        heads,
        ["---", *("---:" if head not in ("verdict", "stretch") else "---" for head in heads[1:])],
        *rows,
    ]
    return [f"| {' | '.join(line)} |" for line in lines]


def _ratios(results: Results) -> list[str]:
    """Return the short table with the verdicts on the targets. The project's README has
    it too.
    """
    grid = [
        line
        for row in EVERY
        if row is not IDLE and (line := _ratios_row(row, results.table.get(row.name, {})))
    ]
    if not grid or not results.outcomes:
        return []
    titles = [KINDS[name].title for name in COMPARED]
    heads = ("work", f"rate over {titles[0]}", *titles[1:], f"CPU over {titles[0]}", *titles[1:])
    return [
        *_grid(heads, grid),
        "",
        STAR_SAYS,
        *_corked_says(results.table),
        "",
        _summary(results.outcomes),
    ]


def _corked_says(table: Table) -> list[str]:
    """Return the sentence on the peers that do not do the same work in the short table,
    with daytime's ratios to the peer that does.
    """
    for cells in table.values():
        if all(name in cells and not cells[name].why_none for name in (UNPD, *COMPARED, CORKED)):
            rate = _ratio_words(cells[UNPD], cells[CORKED], "rate")
            cpu, spread = _figure_words(figure(cells[UNPD].ratios("cpu_us", cells[CORKED])), 2)
            return [
                "",
                (
                    "Daytime: unpd sends the line and its FIN in one segment, these peers in two."
                    f" Over a C server that does so too, the rate is {rate} and the CPU {cpu}"
                    f" ({spread} in the rounds)."
                ),
            ]
    return []


def _ratios_row(row: Row, cells: Mapping[str, Cell]) -> tuple[str, ...]:
    """Return a row of the short table; empty if unpd or one of these peers has no
    figure.
    """
    if any(name not in cells or cells[name].why_none for name in (UNPD, *COMPARED)):
        return ()
    ours = cells[UNPD]
    return (
        row.title,
        *(
            _ratio_words(ours, cells[name], measure)
            for measure in ("rate", "cpu_us")
            for name in COMPARED
        ),
    )


def _ratio_words(ours: Cell, theirs: Cell, measure: str) -> str:
    limited = measure == "rate" and any(
        cell.figure("load_busy").median > LIMITED for cell in (ours, theirs)
    )
    return _number(figure(ours.ratios(measure, theirs)).median, 2) + (r"\*" if limited else "")


def _summary(outcomes: Sequence[Outcome]) -> str:
    """Return the number of targets of each verdict, and the missed ones."""
    count = Counter(outcome.verdict for outcome in outcomes)
    counted = ", ".join(f"{count[verdict]} {verdict}" for verdict in Verdict if count[verdict])
    missed = "; ".join(
        f"{outcome.what} ({_number(outcome.median, 2)}, {outcome.wanted})"
        for outcome in outcomes
        if outcome.verdict is Verdict.MISSED
    )
    return f"Of {len(outcomes)} targets: {counted}.{f' Missed: {missed}.' if missed else ''}"


def _targets_grid(results: Results) -> list[str]:
    heads = (
        "target",
        "wanted",
        "found",
        "of the rounds",
        "load busy",
        "CPU ratio",
        "verdict",
        "stretch",
    )
    return _grid(heads, [_outcome_row(outcome, results.rounds) for outcome in results.outcomes])


def _outcome_row(outcome: Outcome, rounds: int) -> tuple[str, ...]:
    median, spread = _figure_words(figure(outcome.values), 2) if outcome.values else ("", "")
    cpu = "" if outcome.cpu is None else _number(outcome.cpu, 2)
    return (
        outcome.what,
        outcome.wanted,
        median,
        spread + _marks(len(outcome.values), rounds, outcome.disturbed),
        _busy_words(outcome.load_busy),
        cpu,
        f"**{outcome.verdict}**",
        outcome.stretch,
    )


def _marks(counted: int, rounds: int, disturbed: bool) -> str:
    """Return a note on the number of rounds behind a figure if not all count, and on
    disturbed ones among them.
    """
    fewer = f" ({counted} rounds)" if 0 < counted < rounds else ""
    return fewer + (" (disturbed)" if disturbed else "")


def _cell_marks(cell: Cell, rounds: int) -> str:
    return _marks(len(cell.counted()), rounds, cell.is_disturbed())


def _busy_words(shares: Sequence[float]) -> str:
    limited = " (generator-limited)" if any(share > LIMITED for share in shares) else ""
    return " / ".join(f"{share:.0%}" for share in shares) + limited


def _number(value: float, digits: int) -> str:
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 and digits > 1 else digits}f}"


def _figure_words(found: Figure, digits: int) -> tuple[str, str]:
    return (
        _number(found.median, digits),
        f"{_number(found.low, digits)} to {_number(found.high, digits)}",
    )


def _work_grid(row: Row, cells: Mapping[str, Cell], rounds: int) -> list[str]:
    each = f"per {row.unit}, µs"
    heads = (
        "server",
        f"{'MiB' if row.unit == 'MiB' else row.unit + 's'} per s",
        "spread",
        "over unpd's",
        f"CPU {each}",
        "user",
        "system",
        "spread",
        "over unpd's",
        "load busy",
        *(("lost",) if row.loses else ()),
    )
    return _grid(heads, [_work_row(row, cells, name, rounds) for name in cells])


def _no_figure(fault: str) -> str:
    return f"no figure: {fault}".replace("\n", " ").replace("|", "/")[:160]


def _work_row(row: Row, cells: Mapping[str, Cell], name: str, rounds: int) -> tuple[str, ...]:
    cell, title = cells[name], KINDS[name].title_in(row.service)
    if fault := cell.why_none:
        return (title, _no_figure(fault), *[""] * (9 if row.loses else 8))
    rate, cpu = cell.figure("rate"), cell.figure("cpu_us")
    forks = row.service.forks or row.mode in KINDS[name].forks_in
    parts = [
        NO_SPLIT if forks else _number(cell.figure(part).median, 2)
        for part in ("user_us", "system_us")
    ]
    busy = cell.figure("load_busy").median
    return (
        f"**{title}**" if name == UNPD else title,
        _number(rate.median, 1),
        f"{rate.spread:.0%}{_cell_marks(cell, rounds)}",
        _over(cell, cells, "rate"),
        _number(cpu.median, 2),
        *parts,
        f"{cpu.spread:.0%}",
        _over(cell, cells, "cpu_us"),
        f"{busy:.0%}{' (the limit)' if busy > LIMITED else ''}",
        *((f"{cell.figure('lost').high:.2%}",) if row.loses else ()),
    )


def _over(cell: Cell, cells: Mapping[str, Cell], measure: str) -> str:
    ours = cells.get(UNPD)
    if ours is None or ours is cell or ours.why_none:
        return ""
    ratios = cell.ratios(measure, ours)
    return _number(figure(ratios).median, 2) if ratios else ""


def _idle_grid(cells: Mapping[str, Cell], rounds: int) -> list[str]:
    heads = (
        "server",
        "bytes per connection",
        "of the rounds",
        "p50 alone, µs",
        "p50 beside, µs",
        "p99 alone, µs",
        "p99 beside, µs",
        "p99 beside over alone",
        "of the rounds",
    )
    return _grid(
        heads, [_idle_row(KINDS[name].title, cell, rounds) for name, cell in cells.items()]
    )


def _idle_row(title: str, cell: Cell, rounds: int) -> tuple[str, ...]:
    if fault := cell.why_none:
        return (title, _no_figure(fault), *[""] * 7)
    memory, ratio = cell.figure("memory_bytes"), cell.figure("p99_over_alone")
    times = [
        _number(cell.figure(name).median, 1)
        for name in ("p50_alone_us", "p50_us", "p99_alone_us", "p99_us")
    ]
    marks = _cell_marks(cell, rounds)
    return (
        title,
        *_figure_words(memory, 0),
        *times,
        _figure_words(ratio, 2)[0],
        _figure_words(ratio, 2)[1] + marks,
    )


def _own_grid(titles: Mapping[str, str], cell: Cell, rounds: int) -> list[str]:
    if fault := cell.why_none:
        return [_no_figure(fault)]
    return _grid(
        ("figure", "median", f"of the rounds{_cell_marks(cell, rounds)}"),
        [(title, *_figure_words(cell.figure(name), 1)) for name, title in titles.items()],
    )


def as_json(results: Results) -> str:
    """Return everything as JSON, with each round."""
    whole: dict[str, Any] = {
        "facts": dict(results.facts),
        "rounds": results.rounds,
        "seconds": results.seconds,
        "rows": {
            row: {name: _cell(cell) for name, cell in cells.items()}
            for row, cells in results.table.items()
        },
        "thrown_away": results.thrown_away,
        "put_up_with": results.put_up_with,
        "targets": [
            dataclasses.asdict(outcome) | {"median": outcome.median if outcome.values else None}
            for outcome in results.outcomes
        ],
    }
    return json.dumps(whole, indent=1) + "\n"


def _cell(cell: Cell) -> dict[str, Any]:
    fault = cell.why_none
    medians = (
        {}
        if fault
        else {name: cell.figure(name).median for name in next(iter(cell.rounds.values()))}
    )
    return {
        "fault": fault,
        "median": medians,
        "rounds": cell.rounds,
        "disturbed": sorted(cell.disturbed),
        "thrown_away": cell.thrown_away,
    }


def keep(results: Results, page: str, places: Places, *, whole: bool) -> Sequence[str]:
    """Write the results to their files. Return what is missing: unpd's own faults, and
    in a whole run the targets without a figure.

    A complete whole run becomes the page and the last run, and the last run becomes the
    previous one. Any other run is written to its own file.
    """
    missing = [
        outcome.what for outcome in results.outcomes if whole and outcome.verdict is Verdict.NONE
    ]
    faults = [*(f"{row}: {fault}" for row, fault in results.faults.items()), *missing]
    complete = whole and not faults
    places.last.parent.mkdir(parents=True, exist_ok=True)
    if complete:
        places.page.write_text(page)
        if places.last.exists():
            places.last.replace(places.previous)
    (places.last if complete else places.partial).write_text(as_json(results))
    return faults
