"""The generator of pairs of rules and visits."""

import random
from collections import Counter

import pytest

from tests.support.xinetd.model import UNPD, XINETD
from tests.support.xinetd.pairs import LAST_BURST, generate_day, predicted


def test_a_seed_repeats_a_day() -> None:
    """The same random numbers make the same day."""
    assert generate_day(random.Random(7), 60) == generate_day(random.Random(7), 60)
    assert generate_day(random.Random(7), 60) != generate_day(random.Random(8), 60)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_neither_all_served_nor_all_refused(seed: int) -> None:
    """Of the arrivals of 300 pairs, a third at least is served, and a third is refused.
    Few pairs are served otherwise by unpd than by xinetd.
    """
    day = generate_day(random.Random(seed), 300)
    outcomes = [predicted(pair, day, XINETD) for pair in day.pairs]
    counts = Counter(outcome for pair in outcomes for outcome in pair)
    assert min(counts[True], counts[False]) * 3 >= counts.total()
    excepted = sum(
        served != predicted(pair, day, UNPD)
        for pair, served in zip(day.pairs, outcomes, strict=True)
    )
    assert excepted < 40


def test_a_burst_is_over_before_the_rest() -> None:
    """No pair has several arrivals in a round after the last burst."""
    day = generate_day(random.Random(1), 300)
    assert all(
        len(visits.arrivals) <= 1 for pair in day.pairs for visits in pair.rounds[LAST_BURST:]
    )
    assert any(len(visits.arrivals) > 4 for pair in day.pairs for visits in pair.rounds)
