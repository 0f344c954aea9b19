"""The surroundings of a stream and of a session without a kernel: an epoll that only
remembers what it was told, a row of words, a log in memory.
"""

import json
from dataclasses import dataclass, field
from typing import Any, cast

from tests.support.memory_sink import MemorySink
from unpd.board import layout
from unpd.kernel.batches import PlainBatch
from unpd.logs import Log
from unpd.worker.event.poller import Poller
from unpd.worker.event.shared import Shared
from unpd.worker.ledger import Ledger
from unpd.worker.terms import Terms


@dataclass(slots=True)
class FakeEpoll:
    """``masks``: what is watched. ``modified``: how often a mask was changed. ``full``:
    an error that every registration raises.
    """

    masks: dict[int, int] = field(default_factory=dict)
    modified: int = 0
    full: OSError | None = None

    def register(self, fd: int, mask: int) -> None:
        """Watch ``fd``."""
        if self.full is not None:
            raise self.full
        self.masks[fd] = mask

    def modify(self, fd: int, mask: int) -> None:
        """Watch ``fd`` for other events."""
        self.masks[fd] = mask
        self.modified += 1

    def unregister(self, fd: int) -> None:
        """Watch ``fd`` no more."""
        del self.masks[fd]


@dataclass(slots=True)
class Surroundings:
    """``shared`` as sessions get it, and what they did with it."""

    shared: Shared
    epoll: FakeEpoll
    row: memoryview
    sink: MemorySink

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log with that event."""
        return [row for row in map(json.loads, self.sink.lines) if row["event"] == name]

    def changed(self, column: int = 0) -> dict[int, int]:
        """The words of a service that are not 0."""
        start = layout.service_cells(column)
        words = self.row[start : start + layout.Service.size]
        return {index: word for index, word in enumerate(words) if word}


def surroundings(terms: Terms, now: float) -> Surroundings:
    """Surroundings at the time ``now``, with one service."""
    row = memoryview(bytearray(layout.Row.size * layout.WORD_BYTES)).cast("Q")
    sink, epoll, poller = MemorySink(), FakeEpoll(), Poller()
    poller.epoll.close()
    poller.epoll = cast(Any, epoll)
    shared = Shared(
        poller=poller,
        ledger=Ledger(row, [terms]),
        log=Log(sink.sink, "debug", "json"),
        now=now,
        batch=PlainBatch(),
    )
    return Surroundings(shared, epoll, row, sink)
