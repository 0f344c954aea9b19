"""Runs the whole comparison (``python -m tests.benchmarks``), or unpd alone
(``--quick``). ``make bench`` and ``make bench-quick`` call it. README.md describes it.
"""

import argparse
import functools
import math
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, MappingProxyType

from tests.benchmarks import (
    access,
    balancing,
    daemon,
    machine,
    network,
    report,
    slow_scrapes,
    targets,
    turns,
)
from tests.benchmarks.build import PLACES, build
from tests.benchmarks.figures import ACCESS, BALANCED, DAEMON, OWN, TURNS, Sample
from tests.benchmarks.proof import prove
from tests.benchmarks.quiet import Quiet
from tests.benchmarks.rounds import Plan, run_rows
from tests.benchmarks.rows import EVERY
from tests.benchmarks.servers import OTHER, UNPD
from tests.support import procs

ROUNDS, SECONDS, WARM_UP_S = 5, 1.0, 0.25
TURN_S = 0.25
"""The length of one turn. A processor that is slow because of its neighbours on the
host stays slow for seconds, so turns this short share it.
"""
TRIES, QUICK_TRIES = 3, 1
"""How often exec to ready, respawn, reload, and the times of limits are measured in one
round.
"""
QUICK_ROUNDS, QUICK_SECONDS, QUICK_WARM_UP_S = 1, 0.8, 0.15
DISTURBED = 0.02
"""The share of our two processors' time that others may use. A measurement above it is
repeated.
"""
PATIENCE_S = 600.0
QUICK_DISTURBED = math.inf
"""A quick run repeats nothing."""


def _round_of_daemon(tries: int) -> Sample:
    """Measure one round of the daemon's own figures."""
    return daemon.round_of_daemon(tries) | slow_scrapes.measure()


OWN_ROWS: Mapping[str, tuple[str, Callable[[int], Sample]]] = MappingProxyType(
    {
        DAEMON: ("the daemon's own figures", _round_of_daemon),
        ACCESS: ("access rules and limits", access.round_of_access),
        TURNS: ("the master's longest turns", turns.round_of_turns),
        BALANCED: ("behind HAProxy", balancing.round_of_balanced),
    }
)
"""The rows without a peer: what is printed, and one round of so many tries."""


def main() -> int:
    """Measure, print and write. Return 1 if unpd has a fault, or if a whole run lacks
    the figure of a target.
    """
    asked = _parse()
    _end_in_order()
    cpus = machine.choose_cpus()
    machine.raise_file_limit()
    programs = build(peers=not asked.quick, other=asked.other)
    congestion = network.enter()  # after the programs are built: Go may need the machine's network
    prove(programs, cpus)
    began = time.monotonic()
    quiet = Quiet(cpus, asked.disturbed, PATIENCE_S)
    laps = max(1, round(asked.seconds / TURN_S))
    facts = machine.facts(
        cpus, congestion, versions=not asked.quick, other=asked.other
    )  # of the tree as it is measured; it may change during the run
    plan = Plan(
        programs,
        cpus,
        quiet,
        asked.rounds,
        laps,
        asked.seconds / laps,
        QUICK_WARM_UP_S if asked.quick else WARM_UP_S,
    )
    scope = targets.scope(asked.rows, asked.servers)
    results = _measure(plan, facts, scope, asked.quick)
    page = report.markdown(results)
    print(f"\n{page}\n{time.monotonic() - began:.0f} s")
    faults = report.keep(results, page, PLACES, whole=not asked.quick and _is_whole(asked))
    for fault in faults:
        print(f"no figure: {fault}", file=sys.stderr)
    return int(bool(faults))


def _end_in_order() -> None:
    """Clean up servers and directories, however this process is asked to end. Adopt
    orphans of servers, and reap them where PID 1 does not.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) expects
            signal.signal(number, _exit)
    procs.become_subreaper()


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _measure(
    plan: Plan, facts: Mapping[str, str], scope: targets.Scope, quick: bool
) -> report.Results:
    table = run_rows(plan, [row for row in EVERY if row.name in scope.rows], scope.servers)
    for number, (name, (title, one_round)) in enumerate(OWN_ROWS.items()):
        # A quick run need not have HAProxy.
        if name in scope.rows and not (quick and name == BALANCED):
            print(title, flush=True)
            plan.quiet.share(len(OWN_ROWS) - number)
            measure = functools.partial(one_round, QUICK_TRIES if quick else TRIES)
            table[name] = {UNPD: daemon.run_rounds(plan.rounds, measure, plan.quiet)}
    found = targets.outcomes(table, scope)
    return report.Results(
        facts,
        plan.rounds,
        plan.seconds,
        table,
        plan.quiet.thrown_away,
        plan.quiet.put_up_with,
        found,
    )


def _is_whole(asked: argparse.Namespace) -> bool:
    return (asked.rows, asked.servers, asked.rounds, asked.seconds, asked.disturbed) == (
        [],
        [],
        ROUNDS,
        SECONDS,
        DISTURBED,
    )


def _parse() -> argparse.Namespace:
    rows, servers = [*(row.name for row in EVERY), *OWN], [UNPD, *sorted(targets.PEERS)]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="unpd beside its peers on the same work."
    )
    parser.add_argument("--quick", action="store_true", help="unpd alone, one short round")
    parser.add_argument("--rounds", type=int, help=f"alternating rounds (default {ROUNDS})")
    parser.add_argument(
        "--seconds", type=float, help=f"of one server in one round (default {SECONDS})"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="ROW",
        choices=rows,
        help=f"only these rows, of {', '.join(rows)}",
    )
    parser.add_argument(
        "--servers",
        nargs="+",
        default=[],
        metavar="SERVER",
        choices=servers,
        help=f"only these servers, of {', '.join(servers)}",
    )
    parser.add_argument(
        "--other",
        type=lambda text: Path(text).resolve(),
        metavar="TREE",
        help="beside our unpd, or these servers, that of another tree",
    )
    parser.add_argument(
        "--disturbed",
        type=float,
        help=(
            f"the part of the processors that others may use (default {DISTURBED}; in a quick run"
            " whatever they use)"
        ),
    )
    asked = parser.parse_args()
    if asked.quick:
        asked.servers = [UNPD]
    if asked.other:
        if not (asked.other / "unpd" / "__main__.py").is_file():
            parser.error(f"{asked.other} is no tree of unpd: it has no unpd/__main__.py")
        asked.servers = [*(asked.servers or [UNPD]), OTHER]
    asked.rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    asked.seconds = asked.seconds or (QUICK_SECONDS if asked.quick else SECONDS)
    if asked.disturbed is None:
        asked.disturbed = QUICK_DISTURBED if asked.quick else DISTURBED
    return asked


if __name__ == "__main__":
    sys.exit(main())
