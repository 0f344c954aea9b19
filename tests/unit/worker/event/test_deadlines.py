"""The wheel of deadlines: never early, at most an eighth of a second late, and nothing
left of what is gone.
"""

import math
import tracemalloc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.worker.event.deadlines import SLOTS_PER_S, Wheel

TURN_S = 1 / SLOTS_PER_S


class Item:
    """Something with a deadline."""

    def __init__(self) -> None:
        self.wheel_slot: set[Any] | None = None


def test_an_empty_wheel_waits_for_nothing() -> None:
    """One whose last item was taken out waits for that one's slot at most, and looks
    once.
    """
    wheel: Wheel[Item] = Wheel()
    assert (wheel.next_at, wheel.due(10.0**9)) == (math.inf, [])
    item = Item()
    wheel.put(item, 5.0)
    wheel.remove(item)
    assert (wheel.due(wheel.next_at), wheel.next_at) == ([], math.inf)


def test_slots_that_became_empty_are_looked_at_once_for_all() -> None:
    """Of connections that came and went: the first of their slots takes the others with
    it, up to one where somebody stands.
    """
    wheel: Wheel[Item] = Wheel()
    items = [Item() for _ in range(100)]
    for number, item in enumerate(items):
        wheel.put(item, float(number))
    for item in items[:99]:
        wheel.remove(item)
    assert wheel.due(wheel.next_at) == []
    assert 99.0 <= wheel.next_at <= 99.0 + TURN_S


@pytest.mark.parametrize("at", [0.0, 0.1, 7.0, 7.124, 7.125, 7.126, 123456789.99])
def test_an_item_is_due_at_its_time_or_an_eighth_of_a_second_later(at: float) -> None:
    """And when it is due the wheel says beforehand."""
    wheel: Wheel[Item] = Wheel()
    item = Item()
    wheel.put(item, at)
    next_at = wheel.next_at
    assert at <= next_at <= at + TURN_S
    assert wheel.due(at - 0.001) == []
    assert wheel.due(next_at) == [item]
    assert item.wheel_slot is None
    assert wheel.next_at == math.inf


def test_an_item_stands_in_one_slot() -> None:
    """What was said last counts, sooner or later."""
    wheel: Wheel[Item] = Wheel()
    item = Item()
    for at in (50.0, 10.0, 30.0):
        wheel.put(item, at)
    assert wheel.due(29.9) == []
    assert wheel.due(30.2) == [item]
    assert wheel.due(60.0) == []


def test_what_is_removed_is_not_due() -> None:
    """Not even twice removed; its neighbours are."""
    wheel: Wheel[Item] = Wheel()
    gone, stays = Item(), Item()
    wheel.put(gone, 5.0)
    wheel.put(stays, 5.0)
    wheel.remove(gone)
    wheel.remove(gone)
    assert wheel.due(6.0) == [stays]


def test_everything_that_is_late_is_due_at_once() -> None:
    """After a long pause the wheel does not turn slot by slot; the earliest
    come first.
    """
    wheel: Wheel[Item] = Wheel()
    items = [Item() for _ in range(100)]
    for number, item in enumerate(items):
        wheel.put(item, float(number))
    assert wheel.due(1000.0) == items


def _come_and_go(wheel: Wheel[Item], at: float) -> weakref.ref[Item]:
    item = Item()
    wheel.put(item, at)
    wheel.remove(item)
    return weakref.ref(item)


def test_a_closed_session_leaves_nothing_behind() -> None:
    """Of 10,000 sessions that came and went within one timeout none is kept, and the
    wheel has not grown by more than their slots.
    """
    wheel: Wheel[Item] = Wheel()
    gone: list[weakref.ref[Item]] = []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(10_000):
        gone.append(_come_and_go(wheel, 600.0 + number * 0.0001))
        gone = gone[-10:]
    assert [ref() for ref in gone] == [None] * 10
    assert tracemalloc.get_traced_memory()[0] - before < 20_000
    tracemalloc.stop()


moves = st.lists(
    st.tuples(st.integers(0, 5), st.none() | st.floats(0, 30)) | st.floats(0, 5), max_size=60
)


@given(moves)
def test_no_move_makes_it_forget_or_hurry(script: list[tuple[int, float | None] | float]) -> None:
    """Whatever is put, moved and removed while time goes on: what is handed out was
    due, and what stays is not, but for an eighth of a second.
    """
    wheel: Wheel[Item] = Wheel()
    items = [Item() for _ in range(6)]
    wanted: dict[Item, float] = {}
    now = 0.0
    for move in script:
        if isinstance(move, float):
            now += move
            for item in wheel.due(now):
                assert wanted.pop(item) <= now
            assert all(at > now - TURN_S for at in wanted.values())
        elif move[1] is None:
            wheel.remove(items[move[0]])
            wanted.pop(items[move[0]], None)
        else:
            wheel.put(items[move[0]], now + move[1])
            wanted[items[move[0]]] = now + move[1]
        assert wheel.next_at <= min(wanted.values(), default=math.inf) + TURN_S
    assert {item for item in items if item.wheel_slot is not None} == set(wanted)
