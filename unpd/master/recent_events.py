"""The recent events of the master: a ring of the last ones that it logged.

Owns the events. :class:`unpd.logs.Log` calls :meth:`RecentEvents.note` with each event
that its row of the table calls recent, of any level. Whoever shows them asks for those
after the last one that it has seen (:meth:`RecentEvents.after`), and loses some if it
asks too late: no reader can make the ring longer, or hold the master up.

The numbers begin at 1 with each master. Raises nothing.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from unpd.log_events.row import Field, Level
from unpd.logs import FIELD_LIMITS, stamp

KEPT = 1000
"""How many events are kept."""


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """One event. ``number``: how many there were before it, and one more. ``wall_s``:
    seconds since the epoch.
    """

    number: int
    wall_s: float
    level: Level
    name: str
    fields: Mapping[str, Field]

    @property
    def message(self) -> dict[str, Any]:
        """The event as :data:`unpd.control.view_fields.EVENT` has it."""
        return {
            "number": self.number,
            "time": stamp(self.wall_s),
            "level": self.level,
            "event": self.name,
            "fields": dict(self.fields),
        }


class RecentEvents:
    """The ring. ``last``: the number of the last event, 0 before the first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._events: deque[RecentEvent] = deque(maxlen=kept)
        self.last = 0

    @property
    def dropped(self) -> int:
        """The number of the last event that is no longer kept."""
        return self.last - len(self._events)

    def note(self, wall_s: float, level: Level, name: str, fields: Mapping[str, Field]) -> None:
        """Keep an event. A text in its fields is cut as in the log."""
        self.last += 1
        bounded = {
            key: value[: FIELD_LIMITS[0]] if isinstance(value, str) else value
            for key, value in fields.items()
        }
        self._events.append(RecentEvent(self.last, wall_s, level, name, bounded))

    def after(self, number: int, limit: int = KEPT) -> list[RecentEvent]:
        """The events after the one with this number, at most ``limit``, the oldest
        first.
        """
        skipped = max(0, number - self.dropped)
        return list(islice(self._events, skipped, skipped + limit))
