"""The verdict on a target."""

import pytest

from tests.benchmarks.figures import ACCESS, OWN, Cell, Sample
from tests.benchmarks.report import ACCESS_TITLES
from tests.benchmarks.servers import KINDS, OTHER, UNPD
from tests.benchmarks.targets import (
    BEST,
    BOUNDS,
    RATIOS,
    Ratio,
    Verdict,
    best_peer,
    judge,
    outcomes,
    scope,
)

ROUNDS = 5
BULK = Ratio("bulk-4", "rate", BEST, 1.0)


def rates(*values: float) -> Cell:
    """Build a server with these rates in its rounds."""
    return Cell(
        {
            number: {"rate": value, "load_busy": 0.9, "cpu_us": 1 / value}
            for number, value in enumerate(values)
        }
    )


@pytest.mark.parametrize(
    ("values", "at_least", "verdict"),
    [
        ([1.05, 1.1, 1.06], True, Verdict.MET),
        ([1.05, 1.1, 1.06], False, Verdict.MISSED),
        ([0.94, 0.9, 0.95], True, Verdict.MISSED),
        ([0.94, 0.9, 0.95], False, Verdict.MET),
        ([0.9, 1.05, 1.02], True, Verdict.NOISE_HOLDS),
        ([0.9, 1.05, 1.02], False, Verdict.NOISE_MISSES),
        ([0.9, 1.05, 0.98], True, Verdict.NOISE_MISSES),
        ([0.9, 1.05, 0.98], False, Verdict.NOISE_HOLDS),
        ([], True, Verdict.NONE),
    ],
)
def test_a_verdict_needs_all_rounds(
    values: list[float], *, at_least: bool, verdict: Verdict
) -> None:
    """When all rounds are on one side, the target is met or missed. With the goal
    between them it is within noise, with the side of the median. Without a round it has
    no figure.
    """
    assert judge(values, 1.0, at_least) is verdict


@pytest.mark.parametrize(
    ("middle", "verdict"),
    [
        (1.04, Verdict.MET),
        (1.02, Verdict.NOISE_HOLDS),
        (1.0, Verdict.NOISE_HOLDS),
        (0.98, Verdict.NOISE_MISSES),
        (0.96, Verdict.MISSED),
    ],
)
def test_equal_rounds_still_have_a_spread(middle: float, verdict: Verdict) -> None:
    """The spread is at least 3 % of the median each way, because two runs differ by
    that much.
    """
    assert judge([middle] * ROUNDS, 1.0, at_least=True) is verdict


def test_fewer_than_three_rounds_are_no_verdict() -> None:
    """Fewer than three rounds, as in a quick run, give no verdict."""
    assert judge([2.0, 2.0], 1.0, at_least=True) is Verdict.NOISE_HOLDS
    assert judge([2.0], 1.0, at_least=False) is Verdict.NOISE_MISSES


def test_a_goal_at_the_edge_of_the_rounds() -> None:
    """When the lowest round equals the goal, the target is met where more is better and
    missed where less is better.
    """
    assert judge([1.0, 1.1, 1.2], 1.0, at_least=True) is Verdict.MET
    assert judge([1.0, 1.1, 1.2], 1.0, at_least=False) is Verdict.MISSED


def test_every_target_is_listed_without_measurements() -> None:
    """A target without a figure is listed as such."""
    found = outcomes({})
    assert [outcome.verdict for outcome in found] == [Verdict.NONE] * (len(RATIOS) + len(BOUNDS))
    assert len({outcome.key for outcome in found}) == len(found)


def test_a_peer_with_a_fault_leaves_the_target_without_a_figure() -> None:
    """A peer that has a fault or was not measured leaves the target without a
    figure.
    """
    table = {
        "echo-16k-50": {
            UNPD: rates(1, 1, 1, 1, 1),
            "epoll": Cell(fault="1 errors"),
            "uvloop": Cell(),
            "go": rates(1, 1, 1),
        }
    }
    found = {
        outcome.key: outcome.verdict
        for outcome in outcomes(table)
        if outcome.key.startswith("echo-16k-50")
    }
    assert found == {
        "echo-16k-50 rate epoll": Verdict.NONE,
        "echo-16k-50 rate uvloop": Verdict.NONE,
        "echo-16k-50 rate go": Verdict.NOISE_HOLDS,
    }


def test_disturbed_rounds_are_left_out_if_enough_others_exist() -> None:
    """Three quiet rounds decide. With fewer, all rounds count and the target is within
    noise.
    """
    ours, theirs = rates(1, 1.2, 1.2, 1.2, 0.5), rates(*[1] * ROUNDS)
    ours.disturbed |= {4}
    theirs.disturbed |= {0}
    assert ours.ratios("rate", theirs) == pytest.approx([1.2] * 3)
    table = {"echo-16k-50": {UNPD: ours, "go": theirs}}
    (found,) = (outcome for outcome in outcomes(table) if outcome.key == "echo-16k-50 rate go")
    assert (found.verdict, found.disturbed) == (Verdict.MET, False)
    theirs.disturbed |= {1}
    (found,) = (outcome for outcome in outcomes(table) if outcome.key == "echo-16k-50 rate go")
    assert found.values == pytest.approx([1, 1.2, 1.2, 1.2, 0.5])
    assert (found.verdict, found.disturbed) == (Verdict.NOISE_HOLDS, True)
    assert judge([1.2] * ROUNDS, 1.0, at_least=True, disturbed=True) is Verdict.NOISE_HOLDS
    assert ours.values("rate") == pytest.approx([1, 1.2, 1.2, 1.2])


def test_memory_is_the_same_on_a_disturbed_machine() -> None:
    """On a disturbed machine only times are uncertain, not memory."""
    rounds: dict[int, Sample] = {
        number: {"memory_bytes": 350.0, "p99_over_alone": 1.0} for number in range(ROUNDS)
    }
    found = {
        outcome.key: outcome.verdict
        for outcome in outcomes({"idle-10000": {UNPD: Cell(rounds, disturbed=set(rounds))}})
    }
    assert found["idle-10000 memory_bytes"] is Verdict.MET
    assert found["idle-10000 p99_over_alone"] is Verdict.NOISE_HOLDS


def test_the_best_peer_needs_figures_of_all_peers() -> None:
    """When the best peer has a fault, the target has no figure. A weaker peer could
    make it look met.
    """
    table = {
        "bulk-4": {
            UNPD: rates(*[95] * ROUNDS),
            "epoll": rates(*[110] * ROUNDS),
            "uvloop": rates(*[90] * ROUNDS),
        }
    }
    (found,) = (outcome for outcome in outcomes(table) if outcome.key == "bulk-4 rate best")
    assert found.verdict is Verdict.MISSED
    table["bulk-4"]["epoll"].fault = "1 errors"
    (found,) = (outcome for outcome in outcomes(table) if outcome.key == "bulk-4 rate best")
    assert found.verdict is Verdict.NONE


def test_another_unpd_is_not_a_peer() -> None:
    """A run beside another unpd has no target ratios to it, and it is never the best
    peer.
    """
    assert outcomes({}, scope(["bulk-4"], [UNPD, OTHER])) == []
    table = {
        "bulk-4": {
            UNPD: rates(*[95] * ROUNDS),
            OTHER: rates(*[110] * ROUNDS),
            "uvloop": rates(*[90] * ROUNDS),
        }
    }
    (found,) = outcomes(table, scope(["bulk-4"], [UNPD, OTHER, "uvloop"]))
    assert KINDS["uvloop"].title in found.what
    assert found.verdict is Verdict.MET
    assert OTHER not in scope([], []).servers


def test_a_bound_need_not_have_a_further_goal() -> None:
    """A time that is promised is met or missed, and nothing beyond."""
    assert {bound.stretch for bound in BOUNDS if bound.row == ACCESS} == {None}
    for took_ms, verdict in ((50.0, Verdict.MET), (110.0, Verdict.MISSED)):
        rounds: dict[int, Sample] = {
            number: dict.fromkeys(ACCESS_TITLES, took_ms) for number in range(ROUNDS)
        }
        table = {ACCESS: {UNPD: Cell(rounds)}}
        assert [
            (outcome.verdict, outcome.stretch, outcome.wanted)
            for outcome in outcomes(table, scope([ACCESS], [UNPD]))
            if outcome.key == f"{ACCESS} deny_ms"
        ] == [(verdict, "", "at most 100 ms")]


def test_a_partial_run_has_only_the_requested_targets() -> None:
    """With rows and servers named, only their targets are listed, measured or not."""
    keys = [outcome.key for outcome in outcomes({}, scope(["bulk-4", "echo-64-50"], [UNPD, "go"]))]
    assert keys == ["echo-64-50 rate go", "bulk-4 rate best"]
    for row in OWN:
        assert [outcome.key for outcome in outcomes({}, scope([row], [UNPD]))] == [
            f"{row} {bound.measure}" for bound in BOUNDS if bound.row == row
        ]
    assert outcomes({}, scope([], ["go", "epoll"])) == []
    assert not [
        key for key in (outcome.key for outcome in outcomes({}, scope([], [UNPD]))) if BEST in key
    ]


def test_the_best_peer_is_the_one_that_is_best_beside_unpd() -> None:
    """The best peer is chosen by the ratios within rounds, not by its own median. A
    machine that was fast while unpd was not measured proves nothing.
    """
    ours = rates(100, 100, 200, 200, 200)
    steady = rates(110, 110, 220, 220, 220)
    lucky = Cell(
        {
            4: {"rate": 240.0},
            3: {"rate": 190.0},
            2: {"rate": 190.0},
            1: {"rate": 250.0},
            0: {"rate": 95.0},
        }
    )
    cells = {
        UNPD: ours,
        "go": steady,
        "uvloop": rates(90, 90, 190, 180, 230),
        "fork": rates(230, 230, 230, 80, 80),
    }
    assert best_peer(cells, BULK) == "fork"
    assert best_peer({UNPD: ours, "go": steady, "uvloop": lucky}, BULK) == "go"
    assert best_peer({UNPD: ours}, BULK) == ""
    assert best_peer({"go": steady}, BULK) == ""


def test_a_rate_shows_the_generators_load_and_the_cpu_ratio() -> None:
    """Where the generator is the limit a rate says little. The generator's load and the
    ratio of the processor time stand beside the verdict.
    """
    busy = Cell(
        {number: {"rate": 1.0, "load_busy": 0.99, "cpu_us": 0.8} for number in range(ROUNDS)}
    )
    (found,) = (
        outcome
        for outcome in outcomes({"bulk-4": {UNPD: rates(*[1.0] * ROUNDS), "epoll": busy}})
        if outcome.key == "bulk-4 rate best"
    )
    assert found.load_busy == [0.9, 0.99]
    assert found.cpu == pytest.approx(1.25)
    assert KINDS["epoll"].title in found.what
