"""The wheel: which of a worker's sessions are due, without a cost for each byte.

A session stands in exactly one slot of an eighth of a second. Activity does not touch
the wheel: when the slot comes up, the session computes when it is really due and moves
there. So a deadline costs two set operations for a whole session, and a closed session
leaves nothing behind. (A heap would keep its entry until the timeout is over.)

Owns the slots. Called by the engine and its sessions. Calls nothing.
"""

import heapq
import math
from typing import Any, Generic, Protocol, TypeVar

SLOTS_PER_S = 8


class Scheduled(Protocol):
    """An item that can stand in the wheel. ``wheel_slot`` belongs to the wheel: the
    slot in which the item stands, or None. It is the slot itself and not its number,
    because an integer would cost each of ten thousand idle sessions 32 bytes.
    """

    wheel_slot: set[Any] | None


Item = TypeVar("Item", bound=Scheduled)


class Wheel(Generic[Item]):
    """Items by the time at which they are due: up to an eighth of a second late, never
    early.

    ``next_at``: when to call :meth:`due` next; inf if the wheel is empty. It is an
    attribute because the engine reads it at every turn. It may be the time of a slot
    whose last item was removed: that call finds nothing.
    """

    def __init__(self) -> None:
        self.next_at = math.inf
        self._slots: dict[int, set[Item]] = {}
        self._order: list[int] = []

    def put(self, item: Item, at: float) -> None:
        """Make ``item`` due at ``at`` (monotonic seconds), and no longer at the time of
        an earlier call.
        """
        if item.wheel_slot is not None:
            item.wheel_slot.discard(item)
        number = int(at * SLOTS_PER_S) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
            heapq.heappush(self._order, number)
            self.next_at = self._order[0] / SLOTS_PER_S
        slot.add(item)
        item.wheel_slot = slot

    def remove(self, item: Item) -> None:
        """Take ``item`` out, if it is in."""
        if item.wheel_slot is not None:
            item.wheel_slot.discard(item)
            item.wheel_slot = None

    def due(self, now: float) -> list[Item]:
        """Take out and return every item whose slot has come up."""
        found: list[Item] = []
        while self._order and (
            self._order[0] / SLOTS_PER_S <= now or not self._slots[self._order[0]]
        ):
            slot = self._slots.pop(heapq.heappop(self._order))
            for item in slot:
                item.wheel_slot = None
            found.extend(slot)
        self.next_at = self._order[0] / SLOTS_PER_S if self._order else math.inf
        return found
