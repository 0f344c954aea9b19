"""Two runs side by side."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.benchmarks import compare
from tests.benchmarks.targets import Verdict


def run(**verdicts: Verdict) -> Mapping[str, object]:
    """Build the JSON of a run with these targets."""
    return {
        "targets": [
            {"key": key, "verdict": verdict, "median": None if verdict is Verdict.NONE else 1.25}
            for key, verdict in verdicts.items()
        ]
    }


def test_a_target_met_in_one_run_and_missed_in_the_other_is_a_contradiction() -> None:
    """A target that is met in one run and missed in the other is a contradiction. A
    target within noise or without a figure is not.
    """
    first = run(
        a=Verdict.MET,
        b=Verdict.MISSED,
        c=Verdict.MET,
        d=Verdict.NOISE_HOLDS,
        e=Verdict.MET,
        f=Verdict.MET,
    )
    second = run(a=Verdict.MISSED, b=Verdict.MET, c=Verdict.MET, d=Verdict.MISSED, e=Verdict.NONE)
    assert compare.contradictions(first, second) == ["a", "b"]
    assert [
        line.split()[0] for line in compare.lines(first, second) if "CONTRADICTION" in line
    ] == ["a", "b"]


def test_every_target_of_either_run_has_a_line() -> None:
    """Every target of either run has a line, also one that the other run did not
    measure.
    """
    lines = list(compare.lines(run(a=Verdict.MET), run(b=Verdict.NONE)))
    assert [line.split() for line in lines[:2]] == [
        ["a", "1.25", "met", "-"],
        ["b", "-", "no", "figure"],
    ]


@pytest.mark.parametrize(("other", "code"), [(Verdict.MET, 0), (Verdict.MISSED, 1)])
def test_a_contradiction_sets_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Verdict, code: int
) -> None:
    """The exit code is 1 for a contradiction."""
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(json.dumps(run(a=Verdict.MET)))
    second.write_text(json.dumps(run(a=other)))
    monkeypatch.setattr(sys, "argv", ["compare", str(first), str(second)])
    assert compare.main() == code
