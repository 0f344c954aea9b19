"""Prints the targets of two runs side by side (``python -m tests.benchmarks.compare
A.json B.json``). It exits with 1 if the runs contradict each other: a target is met in
one and missed in the other.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.build import PLACES
from tests.benchmarks.targets import Verdict

MISSING = "-"
"""Stands for a target that one of the runs did not measure."""


def main() -> int:
    """Print all targets of the named runs; without arguments those of the last two
    whole runs.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.compare",
        description="The targets of two runs side by side.",
    )
    parser.add_argument("first", type=Path, nargs="?", default=PLACES.previous)
    parser.add_argument("second", type=Path, nargs="?", default=PLACES.last)
    asked = parser.parse_args()
    for path in (asked.first, asked.second):
        if not path.exists():
            parser.error(
                f"there is no {path}: a whole run writes {PLACES.last.name}, the next one keeps it"
                f" as {PLACES.previous.name}"
            )
    first, second = (json.loads(path.read_text()) for path in (asked.first, asked.second))
    print("\n".join(lines(first, second)))
    return int(bool(contradictions(first, second)))


def lines(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """Return a line for each target, with both medians and verdicts."""
    opposed = contradictions(first, second)
    for key, one, other in _pairs(first, second):
        yield (
            (
                f"{key:<28}{_said(one):<44}{_said(other):<44}"
                f"{'CONTRADICTION' if key in opposed else ''}"
            ).rstrip()
        )
    yield f"{len(opposed)} of the targets contradict each other"


def contradictions(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the keys of the targets that are met in one run and missed in the
    other.
    """
    return [
        key
        for key, one, other in _pairs(first, second)
        if one and other and {one["verdict"], other["verdict"]} == {Verdict.MET, Verdict.MISSED}
    ]


def _pairs(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any] | None, Mapping[str, Any] | None]]:
    ones, others = ({target["key"]: target for target in run["targets"]} for run in (first, second))
    for key in dict.fromkeys((*ones, *others)):
        yield key, ones.get(key), others.get(key)


def _said(target: Mapping[str, Any] | None) -> str:
    if target is None:
        return MISSING
    return (
        target["verdict"]
        if target["median"] is None
        else f"{target['median']:.2f} {target['verdict']}"
    )


if __name__ == "__main__":
    sys.exit(main())
