"""The deadlines of a worker's connections, in a wheel.

A connection stands in exactly one slot of an eighth of a second. Activity does not
touch the wheel: when the slot comes up, the connection says when it is really due and
moves there. So a deadline costs two set operations a connection and nothing a byte, and
a closed connection leaves nothing behind (a heap would keep its entry for the whole of
the timeout).
"""

import heapq
import math
from typing import Generic, Protocol, TypeVar

SLOTS_PER_S = 8


class Scheduled(Protocol):
    """What can stand in the wheel. ``wheel_slot`` is the wheel's own mark: -1 while it
    does not stand in it.
    """

    wheel_slot: int


Item = TypeVar("Item", bound=Scheduled)


class Wheel(Generic[Item]):
    """Items by the time at which they want to be looked at; at most an eighth of a
    second late, never early.

    ``next_at``: when :meth:`due` wants to be called next, inf if nothing stands in the
    wheel. It is a number and not a method because a loop asks at every turn; so it may
    be the time of a slot whose last item was removed, and that call finds nothing.
    """

    def __init__(self) -> None:
        self.next_at = math.inf
        self._slots: dict[int, set[Item]] = {}
        self._order: list[int] = []

    def put(self, item: Item, at: float) -> None:
        """Look at ``item`` at the monotonic time ``at`` (seconds), and no longer when
        it was said before.
        """
        if item.wheel_slot >= 0:
            self._slots[item.wheel_slot].discard(item)
        slot = int(at * SLOTS_PER_S) + 1
        members = self._slots.get(slot)
        if members is None:
            members = self._slots[slot] = set()
            heapq.heappush(self._order, slot)
            self.next_at = self._order[0] / SLOTS_PER_S
        members.add(item)
        item.wheel_slot = slot

    def remove(self, item: Item) -> None:
        """Look at ``item`` no more."""
        if item.wheel_slot >= 0:
            self._slots[item.wheel_slot].discard(item)
            item.wheel_slot = -1

    def due(self, now: float) -> list[Item]:
        """Take out everything whose slot has come up."""
        found: list[Item] = []
        while self._order and (
            self._order[0] / SLOTS_PER_S <= now or not self._slots[self._order[0]]
        ):
            members = self._slots.pop(heapq.heappop(self._order))
            for item in members:
                item.wheel_slot = -1
            found.extend(members)
        self.next_at = self._order[0] / SLOTS_PER_S if self._order else math.inf
        return found
