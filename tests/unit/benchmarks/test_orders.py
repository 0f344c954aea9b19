"""The orders in which servers take turns."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.benchmarks.orders import balanced, turns

NAMES = [f"server {number}" for number in range(8)]


@pytest.mark.parametrize("count", range(2, 10))
def test_every_server_follows_every_other_equally_often(count: int) -> None:
    """Over all orders each server follows each other one equally often (twice for an
    odd number of servers) and takes each place equally often.
    """
    orders = balanced(count)
    neighbours = Counter(pair for order in orders for pair in pairwise(order))
    assert len(neighbours) == count * (count - 1)
    assert set(neighbours.values()) == {1 + count % 2}
    assert {frozenset(order) for order in orders} == {frozenset(range(count))}
    assert set(
        Counter((place, who) for order in orders for place, who in enumerate(order)).values()
    ) == {1 + count % 2}


@pytest.mark.parametrize("count", range(1, 9))
def test_rounds_begin_with_different_orders(count: int) -> None:
    """The first orders of five rounds, or of half as many as there are orders, differ,
    and so do those of the table's rows.
    """
    orders = len(balanced(count))
    for shift in range(3):
        firsts = [
            turns(NAMES[:count], lap=number * 4, shift=shift)
            for number in range(min(5, (orders + 1) // 2))
        ]
        assert len({tuple(first) for first in firsts}) == len(firsts)
    assert count < 3 or turns(NAMES[:count], lap=0, shift=0) != turns(NAMES[:count], lap=0, shift=1)


def test_twenty_laps_of_five_servers_are_balanced() -> None:
    """Five rounds of four laps go twice through the ten orders of five servers."""
    neighbours = Counter(
        pair for lap in range(20) for pair in pairwise(turns(NAMES[:5], lap=lap, shift=3))
    )
    assert set(neighbours.values()) == {4}


def test_no_server_has_no_order() -> None:
    """Zero servers have an empty order, because all servers of a row may have a
    fault.
    """
    assert balanced(0) == []
    assert turns([], lap=3, shift=1) == []
    assert turns(["one"], lap=3, shift=1) == ["one"]
