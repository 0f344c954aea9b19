"""What the exporter has heard from the master for the status page: the faults that
stand, the last reload, and the last events.

Owns the memory of it. The exporter calls :meth:`News.take` with each message of the
master (:mod:`unpd.master.feeding`). Calls and raises nothing.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

KEPT_EVENTS = 50


class News:
    """The news. ``events``: the last ones, the oldest first. ``state``: the rest; empty
    before the first message.
    """

    def __init__(
        self, events: Iterable[Mapping[str, Any]] = (), state: Mapping[str, Any] | None = None
    ) -> None:
        self.events: deque[Mapping[str, Any]] = deque(events, maxlen=KEPT_EVENTS)
        self.state: Mapping[str, Any] = state or {}

    def take(self, events: Iterable[Mapping[str, Any]], state: Mapping[str, Any]) -> None:
        """Take a message. Events that are known already may come again."""
        last = self.events[-1]["number"] if self.events else 0
        self.events.extend(event for event in events if event["number"] > last)
        self.state = state
