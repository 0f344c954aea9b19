"""What the exporters show on the status page, and only the master knows: its faults,
the last reload, the live changes, the retired generations, the last events, and how the
last child of each slot ended.

Owned by the runtime. :mod:`unpd.master.feeding` brings it the recent events and the
state, and sends the exporters what is new. An exporter takes over the feed of the
moment of its fork. Pure; raises nothing.

The page has no password. So an event with an address of a client is not taken, and
those of users and processes that asked for something are left out of the others.

A message fits into a line of the channel: each text is bounded by its bytes in JSON,
where a character may have 12, and events that have no room come with the next message.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from unpd.channel import MAX_LINE_BYTES
from unpd.json_lines import encode
from unpd.log_events.row import Field
from unpd.master.recent_events import RecentEvent
from unpd.metrics.page.news import KEPT_ENDS, KEPT_EVENTS
from unpd.names import ReapReason

MAX_FIELDS = 10
MAX_TEXT_BYTES = 1000
"""The longest text, in bytes of JSON without its quotes."""
CUT = "..."
"""Stands at the end of a text that was cut."""
GRAVE = frozenset(("warning", "error"))
"""The levels whose events are shown: a reload logs dozens of others, and each one that
is shown takes the place of an older one.
"""
SHOWN = frozenset(
    (
        "master.started",
        "master.ready",
        "master.lame",
        "master.stopping",
        "reload.proving",
        "reload.succeeded",
        "daemon.recovered",
        "watchdog.resumed",
        "pool.resized",
        "pool.scaled",
        "pool.scale_ended",
        "service.halted",
        "service.resumed",
    )
)
"""The other events that are shown. So is the end of a child that did not go well."""
ADDRESSES = frozenset(("peer", "network"))
"""The fields that have an address of a client."""
ASKING = frozenset(("by", "by_uid", "by_pid"))
"""The fields that say which user and process asked for something."""
REAPED = "child.reaped"


@dataclass(slots=True)
class PageFeed:
    """The feed. ``events``: the last ones, each with its number. ``ends``: the last one
    of each slot, with the number of its event. ``seen``: the number of the last recent
    event that was looked at. ``state``: the rest. ``sent``: by the birth of an
    exporter, the number of the last event that it has got, and the state that it has
    got. ``asked``: the births of those that have not answered yet.
    """

    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    ends: dict[tuple[Field, Field], dict[str, Any]] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    sent: dict[int, tuple[int, Mapping[str, Any]]] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    seen: int = 0

    def take(self, events: Iterable[RecentEvent]) -> None:
        """Take those of some recent events that the page shows."""
        for event in events:
            self.seen = event.number
            if event.name == REAPED:
                self._take_end(event)
            if is_shown(event):
                self.events.append(record_of(event))

    def _take_end(self, event: RecentEvent) -> None:
        slot = event.fields.get("kind"), event.fields.get("slot")
        self.ends.pop(slot, None)
        self.ends[slot] = {
            "number": event.number,
            "at": event.wall_s,
            **{name: bounded(event.fields.get(name)) for name in ("kind", "slot", "pid", "ended")},
        }
        if len(self.ends) > KEPT_ENDS:
            del self.ends[next(iter(self.ends))]

    def message(self, birth: int) -> dict[str, Any] | None:
        """What an exporter has not got yet, as a question; None if there is nothing, or
        if it has yet to answer the last one.
        """
        number, state = self.sent.get(birth, (0, {}))
        if birth in self.asked or (not self._after(number) and state == self.state):
            return None
        message: dict[str, Any] = {
            "question": "news",
            "events": [],
            "ends": [],
            "state": self.state,
        }
        room = MAX_LINE_BYTES - len(encode(message)) - 1
        for item_number, name, item in self._after(number):
            room -= len(encode(item))  # its newline counts for a comma
            if room < 0:
                number = item_number - 1  # an event and an end may have one number
                break
            message[name].append(item)
            number = item_number
        self.sent[birth] = number, self.state
        return message

    def _after(self, number: int) -> list[tuple[int, str, dict[str, Any]]]:
        """What came after a number, in the order of the numbers."""
        parts = {"events": self.events, "ends": self.ends.values()}
        found = [
            (item["number"], name, item)
            for name, items in parts.items()
            for item in items
            if item["number"] > number
        ]
        return sorted(found, key=itemgetter(0))

    def keep(self, births: frozenset[int]) -> None:
        """Forget the exporters that are not among ``births``."""
        self.sent = {birth: sent for birth, sent in self.sent.items() if birth in births}
        self.asked &= births


def is_shown(event: RecentEvent) -> bool:
    """Whether the page shows an event."""
    if ADDRESSES & event.fields.keys():
        return False
    if event.name == REAPED:
        return event.fields.get("reason") != ReapReason.CLEAN
    return event.level in GRAVE or event.name in SHOWN


def record_of(event: RecentEvent) -> dict[str, Any]:
    """An event as the page shows it."""
    public = [each for each in event.fields.items() if each[0] not in ASKING]
    return {
        "number": event.number,
        "at": event.wall_s,
        "level": event.level,
        "event": event.name,
        "fields": {name: bounded(value) for name, value in public[:MAX_FIELDS]},
    }


def bounded(value: Field) -> Field:
    """A field as the page may show it: a text of at most MAX_TEXT_BYTES on one line,
    without control characters, because a part of it may come from a child.
    """
    if not isinstance(value, str):
        return value
    line = "; ".join(filter(None, map(str.strip, value[:MAX_TEXT_BYTES].split("\n"))))
    shown = "".join(character if character.isprintable() else " " for character in line)
    if len(value) <= MAX_TEXT_BYTES and _fitting(shown, MAX_TEXT_BYTES) == len(shown):
        return shown
    return shown[: _fitting(shown, MAX_TEXT_BYTES - len(CUT))] + CUT


def _fitting(text: str, size: int) -> int:
    """How many characters of a text have at most ``size`` bytes in JSON."""
    return sum(each <= size for each in itertools.accumulate(map(_json_bytes, text)))


def _json_bytes(character: str) -> int:
    """The length of a printable character in JSON."""
    if character in '"\\':
        return 2
    if character.isascii():
        return 1
    return 6 if character <= "\uffff" else 12
