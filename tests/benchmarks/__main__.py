"""``python -m tests.benchmarks``: the whole comparison; ``--quick``: unpd alone. README.md tells more."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

from tests.benchmarks import daemon, machine, report, targets
from tests.benchmarks.accounts import Quiet
from tests.benchmarks.build import OUT, SOURCES, build
from tests.benchmarks.figures import LEAST_ROUNDS
from tests.benchmarks.proof import prove
from tests.benchmarks.rounds import Plan, run_rows
from tests.benchmarks.rows import EVERY
from tests.benchmarks.servers import KINDS, UNPD

ROUNDS, SECONDS, WARM_UP_S = 5, 1.0, 0.25
TURN_S = 0.25
"""A processor that is slow for a while, because of its neighbours in the host, is so for seconds: then turns of the same round share it."""
TRIES, QUICK_TRIES = 3, 1
"""Of exec to ready, respawn and reload in one round."""
QUICK_ROUNDS, QUICK_SECONDS, QUICK_WARM_UP_S = 1, 0.8, 0.15
DISTURBED = 0.02
"""The part of our two processors' time that others may use before what was measured is thrown away."""
PATIENCE_S = 480.0
QUICK_PATIENCE_S = 3.0


def main() -> int:
    """Measure, print, write."""
    asked = _parse()
    cpus = machine.choose_cpus()
    machine.raise_file_limit()
    programs = build(peers=not asked.quick)
    prove(programs, cpus)
    began = time.monotonic()
    quiet = Quiet(cpus, asked.disturbed, QUICK_PATIENCE_S if asked.quick else PATIENCE_S)
    laps = max(1, round(asked.seconds / TURN_S))
    plan = Plan(programs, cpus, quiet, asked.rounds, laps, asked.seconds / laps, QUICK_WARM_UP_S if asked.quick else WARM_UP_S)
    rows = [row for row in EVERY if not asked.rows or row.name in asked.rows]
    table = run_rows(plan, rows, [UNPD] if asked.quick else asked.servers)
    own = _daemon_rounds(plan, QUICK_TRIES if asked.quick else TRIES) if not asked.rows or "daemon" in asked.rows else {}
    results = report.Results(machine.facts(versions=not asked.quick), plan.rounds, plan.seconds, table, own, targets.outcomes(table, own, plan.rounds))
    page = report.markdown(results)
    whole = (asked.rows, asked.servers, asked.rounds, asked.seconds, asked.disturbed) == ([], [], ROUNDS, SECONDS, DISTURBED)
    if whole:
        report.write(SOURCES / "RESULTS.md", page)
    report.write(OUT / ("results.json" if whole else "partial.json"), report.as_json(results))
    print(f"\n{page}\n{time.monotonic() - began:.0f} s")
    return 0


def _daemon_rounds(plan: Plan, tries: int) -> Mapping[str, Sequence[float]]:
    print("the daemon's own figures", flush=True)
    found = daemon.run_rounds(plan.rounds, tries, plan.quiet)
    return found if len(next(iter(found.values()), ())) >= min(LEAST_ROUNDS, plan.rounds) else {}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="unpd beside its peers on the same work.")
    parser.add_argument("--quick", action="store_true", help="unpd alone, one short round")
    parser.add_argument("--rounds", type=int, help=f"alternating rounds (default {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"of one server in one round (default {SECONDS})")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", choices=[*(row.name for row in EVERY), "daemon"], help="only these rows")
    parser.add_argument("--servers", nargs="+", default=[], metavar="SERVER", choices=list(KINDS), help="only these servers")
    parser.add_argument("--disturbed", type=float, default=DISTURBED, help=f"the part of the processors that others may use (default {DISTURBED})")
    asked = parser.parse_args()
    asked.rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    asked.seconds = asked.seconds or (QUICK_SECONDS if asked.quick else SECONDS)
    return asked


if __name__ == "__main__":
    sys.exit(main())
