"""The lag of a loop: its longest turns, counted by their length."""

import pytest

from unpd.board.layout import LAG_BOUNDS_S, NS
from unpd.board.loop_lag import LoopLag

WORDS = len(LAG_BOUNDS_S) + 2


@pytest.fixture
def words() -> memoryview:
    """The words of one loop."""
    return memoryview(bytearray(8 * WORDS)).cast("Q")


def test_the_longest_turn_counts_once(words: memoryview) -> None:
    """In its bucket. The sum is the last word."""
    lag = LoopLag(words)
    lag.book(0.015)
    lag.book(0.0)
    assert words[LAG_BOUNDS_S.index(0.02)] == 1
    assert words[0] == 1
    assert words[WORDS - 1] == 15_000_000


def test_a_turn_above_all_bounds_has_its_bucket(words: memoryview) -> None:
    """It stands behind the others."""
    lag = LoopLag(words)
    lag.book(60.0)
    assert list(words) == [0] * len(LAG_BOUNDS_S) + [1, 60 * NS]


def test_the_counts_go_on(words: memoryview) -> None:
    """Those of the loop before are kept; what no honest loop counts is not."""
    words[0], words[1] = 5, 2**63
    lag = LoopLag(words)
    words[0] = 99  # another process writes there
    lag.book(0.0)
    lag.book(0.0005)
    assert list(words[:2]) == [6, 1]
