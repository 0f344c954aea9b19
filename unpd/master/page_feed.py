"""What the exporters show on the status page, and only the master knows: the faults
that stand, the last reload, and the last events.

Owned by the runtime. :mod:`unpd.master.feeding` brings it the recent events, and sends
the exporters what is new. An exporter takes over the
feed of the moment of its fork. Pure; raises nothing.

Events with an address of a client are not taken: the page has no password.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unpd.json_lines import encode
from unpd.log_events.row import Field
from unpd.master.recent_events import RecentEvent
from unpd.names import ChildKind

KEPT_EVENTS = 50
MAX_FIELDS = 10
MAX_FIELD_CHARACTERS = 300
EVENT_BYTES = 24 * 1024
"""How many bytes of events a message may have: a channel limits its messages."""
_OF_CHILDREN = ("ready", "failed", "start_timed_out", "died", "hung", "crashed")
SHOWN = frozenset(
    (
        "master.started",
        "master.ready",
        "master.stopping",
        "child.spawned",
        "child.reaped",
        "fork.failed",
        "pool.resized",
        "listener.opened",
        "listener.closed",
        "listener.broken",
        "listener.mended",
        "reload.proving",
        "reload.succeeded",
        "reload.refused",
        "daemon.degraded",
        "daemon.recovered",
        "log.lines_lost",
        "watchdog.withheld",
        "watchdog.resumed",
        *(f"{kind}.{end}" for kind in ChildKind for end in _OF_CHILDREN),
    )
)
"""The log events that the page shows. None has a field with an address of a client."""


@dataclass(slots=True)
class PageFeed:
    """The feed. ``events``: the last ones, each with its number. ``seen``: the number
    of the last recent event that was looked at. ``state``: the rest.
    ``sent``: by the birth of an exporter, the number of the last event that it has got,
    and the state that it has got. ``asked``: the births of those that have not answered
    yet.
    """

    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    state: Mapping[str, Any] = field(default_factory=dict)
    sent: dict[int, tuple[int, Mapping[str, Any]]] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    seen: int = 0

    def take(self, events: Iterable[RecentEvent]) -> None:
        """Take those of some recent events that the page shows."""
        for event in events:
            self.seen = event.number
            if event.name in SHOWN:
                some = itertools.islice(event.fields.items(), MAX_FIELDS)
                self.events.append(
                    {
                        "number": event.number,
                        "at": event.wall_s,
                        "event": event.name,
                        "fields": {name: bounded(value) for name, value in some},
                    }
                )

    def message(self, birth: int) -> dict[str, Any] | None:
        """What an exporter has not got yet, as a question; None if there is nothing, or
        if it has yet to answer the last one.
        """
        number, state = self.sent.get(birth, (0, {}))
        news = self._after(number)
        if birth in self.asked or (not news and state == self.state):
            return None
        self.sent[birth] = (news[-1]["number"] if news else number, self.state)
        return {"question": "news", "events": news, "state": self.state}

    def _after(self, number: int) -> list[dict[str, Any]]:
        """The first events after a number that have room in a message."""
        news = [event for event in self.events if event["number"] > number]
        sizes = itertools.accumulate(len(encode(event)) for event in news)
        return [event for event, size in zip(news, sizes, strict=True) if size <= EVENT_BYTES]

    def keep(self, births: frozenset[int]) -> None:
        """Forget the exporters that are not among ``births``."""
        self.sent = {birth: sent for birth, sent in self.sent.items() if birth in births}
        self.asked &= births


def bounded(value: Field) -> Field:
    """A field as the page may show it: a text of at most MAX_FIELD_CHARACTERS, without
    control characters, because a part of it may come from a child.
    """
    if not isinstance(value, str):
        return value
    cut = value[:MAX_FIELD_CHARACTERS]
    return "".join(character if character.isprintable() else " " for character in cut)
