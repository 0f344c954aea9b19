"""Memory counted as if no other program ran the interpreter."""

from collections import Counter

import pytest

from tests.benchmarks.memory import PAGE_BYTES, shared_bytes


def test_a_shared_page_is_divided() -> None:
    """A private page counts whole, a shared one by its share. Excluded processes do not
    share.
    """
    mapped = Counter({1: 1, 2: 4, 3: 3})
    assert shared_bytes([1, 2, 3], mapped, Counter()) == pytest.approx(
        PAGE_BYTES * (1 + 1 / 4 + 1 / 3)
    )
    assert shared_bytes([1, 2, 3], mapped, Counter({2: 1, 3: 2})) == pytest.approx(
        PAGE_BYTES * (1 + 1 / 3 + 1)
    )


def test_the_zero_page_does_not_count() -> None:
    """The kernel does not count mappings of the zero page, and neither does the
    benchmark.
    """
    assert shared_bytes([7], Counter(), Counter()) == 0


def test_a_page_that_lost_a_mapping_is_not_shared() -> None:
    """The two counts are not simultaneous. A page whose last foreign mapping has gone
    counts whole, and no division by zero occurs.
    """
    assert shared_bytes([1], Counter({1: 1}), Counter({1: 1})) == PAGE_BYTES
