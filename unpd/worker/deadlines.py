"""The deadlines of a worker's connections, in a wheel.

A connection stands in exactly one slot of an eighth of a second. Activity does not touch the wheel: when the slot comes up, the connection says when it is really
due and moves there. So a deadline costs two set operations a connection and nothing a byte, and a closed connection leaves nothing behind (a heap would keep its
entry for the whole of the timeout).
"""

import heapq
from typing import Generic, Protocol, TypeVar

SLOTS_PER_S = 8


class Standing(Protocol):
    """What can stand in the wheel. ``wheel_slot`` is the wheel's own mark: -1 while it does not stand in it."""

    wheel_slot: int


Item = TypeVar("Item", bound=Standing)


class Wheel(Generic[Item]):
    """Items by the time at which they want to be looked at; at most an eighth of a second late, never early."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Item]] = {}
        self._order: list[int] = []

    def put(self, item: Item, at: float) -> None:
        """Look at ``item`` at the monotonic time ``at`` (seconds), and no longer when it was said before."""
        self.remove(item)
        slot = int(at * SLOTS_PER_S) + 1
        members = self._slots.get(slot)
        if members is None:
            members = self._slots[slot] = set()
            heapq.heappush(self._order, slot)
        members.add(item)
        item.wheel_slot = slot

    def remove(self, item: Item) -> None:
        """Look at ``item`` no more."""
        if item.wheel_slot >= 0:
            self._slots[item.wheel_slot].discard(item)
            item.wheel_slot = -1

    def next_at(self) -> float | None:
        """When the next slot comes up; None if there is none."""
        while self._order and not self._slots[self._order[0]]:
            del self._slots[heapq.heappop(self._order)]
        return self._order[0] / SLOTS_PER_S if self._order else None

    def due(self, now: float) -> list[Item]:
        """Take out everything whose slot has come up."""
        found: list[Item] = []
        while self._order and self._order[0] / SLOTS_PER_S <= now:
            members = self._slots.pop(heapq.heappop(self._order))
            for item in members:
                item.wheel_slot = -1
            found.extend(members)
        return found
