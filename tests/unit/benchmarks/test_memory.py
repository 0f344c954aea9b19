"""Memory counted as if nobody else ran the interpreter."""

from collections import Counter

import pytest

from tests.benchmarks.memory import PAGE_BYTES, shared_bytes


def test_a_page_is_shared_by_those_who_count() -> None:
    """A private page is whole, of a shared one a process has its part; who is not to
    count has none.
    """
    mapped = Counter({1: 1, 2: 4, 3: 3})
    assert shared_bytes([1, 2, 3], mapped, Counter()) == pytest.approx(
        PAGE_BYTES * (1 + 1 / 4 + 1 / 3)
    )
    assert shared_bytes([1, 2, 3], mapped, Counter({2: 1, 3: 2})) == pytest.approx(
        PAGE_BYTES * (1 + 1 / 3 + 1)
    )


def test_the_zero_page_is_nobodys() -> None:
    """The kernel maps it without counting, and so do we."""
    assert shared_bytes([7], Counter(), Counter()) == 0


def test_a_page_that_lost_a_mapping_meanwhile_is_ours_alone() -> None:
    """The two counts are not of the same moment: no page is divided by nothing."""
    assert shared_bytes([1], Counter({1: 1}), Counter({1: 1})) == PAGE_BYTES
