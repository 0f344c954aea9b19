"""What the exporter has heard from the master for the status page: its faults, the last
reload, the live changes, the retired generations, the last events, and how the last
child of each slot ended.

Owns the memory of it. The exporter calls :meth:`News.take` with each message of the
master (:mod:`unpd.master.feeding`). Calls and raises nothing.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

KEPT_EVENTS = 50
KEPT_ENDS = 512
"""Of how many slots the last end is kept."""

Record = Mapping[str, Any]


class News:
    """The news. ``events``: the last ones, the oldest first. ``ends``: the last one of
    each slot, by kind and slot. ``state``: the rest; empty before the first message.
    """

    def __init__(
        self,
        events: Iterable[Record] = (),
        ends: Iterable[Record] = (),
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.events: deque[Record] = deque(events, maxlen=KEPT_EVENTS)
        self.ends: dict[tuple[Any, Any], Record] = {}
        self.state: Mapping[str, Any] = state or {}
        self._take_ends(ends)

    def take(
        self, events: Iterable[Record], ends: Iterable[Record], state: Mapping[str, Any]
    ) -> None:
        """Take a message. Events that are known already may come again."""
        last = self.events[-1]["number"] if self.events else 0
        self.events.extend(event for event in events if event["number"] > last)
        self._take_ends(ends)
        self.state = state

    def _take_ends(self, ends: Iterable[Record]) -> None:
        for end in ends:
            slot = end["kind"], end["slot"]
            self.ends.pop(slot, None)
            self.ends[slot] = end
            if len(self.ends) > KEPT_ENDS:
                del self.ends[next(iter(self.ends))]
