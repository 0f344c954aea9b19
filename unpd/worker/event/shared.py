"""What the streams and sessions of one engine share.

Owned and made by the engine. Streams and sessions read it; the engine sets ``now`` at
each turn, and ``finish_at`` and ``linger_s`` when the worker has to finish. Calls
nothing and raises nothing.
"""

import math
import mmap
import sys
from dataclasses import dataclass, field
from typing import Protocol

from unpd.kernel.relay import PipePool, Relay
from unpd.logs import Log
from unpd.worker.arrivals import Arrivals, ArrivalsSetup
from unpd.worker.event.deadlines import Scheduled, Wheel
from unpd.worker.event.poller import Poller
from unpd.worker.ledger import Ledger
from unpd.worker.path_quality import PathSampler
from unpd.worker.reception import Reception
from unpd.worker.refusals import RefusalLines

SMALL_READ_BYTES = 512 - sys.getsizeof(b"")
"""How many bytes a small read asks for: the largest bytes object that CPython takes
from its own allocator. That costs 0.2 us less than a read into the large buffer and a
view of it.
"""
LARGE_READ_BYTES = 512 * 1024
"""The most that a large read or one relay takes.

With 512 KiB as 1, the rate of bulk data that is copied is 0.81 with 128 KiB, 0.91 with
256 KiB, 1.07 with 1 MiB. But up to this much is kept beyond HIGH_WATER_BYTES for a
client that reads nothing. Bulk data that is relayed is no faster with 4 MiB.
"""
MAX_PIPES = 16
"""How many pipes the redirects of a worker have at a time: a flow has one while its
reader is slower than its sender. See :mod:`unpd.kernel.relay`.
"""
LINGER_S = 2.0
"""How long a session that we ended waits for the peer's FIN, so that no unread byte
turns our close into a reset.
"""


class Due(Scheduled, Protocol):
    """An item of the wheel."""

    def come_due(self) -> None:
        """Look whether the item is really due, and act."""


def _mapped() -> memoryview:
    """The buffer of the large reads. It is mapped, not allocated: only the part that
    clients ever filled becomes memory.
    """
    return memoryview(mmap.mmap(-1, LARGE_READ_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


@dataclass(slots=True)
class Shared:
    """The surroundings of a stream and of a session.

    ``now``: the time of this turn. ``finish_at``: when a graceful stop ends the last
    session; inf if no stop is under way. ``linger_s``: see LINGER_S, less in a stop.
    """

    poller: Poller
    ledger: Ledger
    log: Log
    now: float
    wheel: Wheel[Due] = field(default_factory=Wheel)
    relay: Relay = field(default_factory=lambda: Relay(LARGE_READ_BYTES))
    pipes: PipePool = field(default_factory=lambda: PipePool(MAX_PIPES))
    buffer: memoryview = field(default_factory=_mapped)
    buffers: tuple[memoryview] = field(init=False)
    after_small: tuple[memoryview] = field(init=False)
    refusals: RefusalLines = field(init=False)
    reception: Reception = field(init=False)
    arrivals: Arrivals = field(init=False)
    paths: PathSampler = field(init=False)
    logs_connections: bool = field(init=False)
    finish_at: float = math.inf
    linger_s: float = LINGER_S

    def __post_init__(self) -> None:
        """Make what is needed often: ``buffers``, the buffer as readv(2) takes it;
        ``after_small``, its part behind a small read; and ``logs_connections``, whether
        the log has lines for the start and the end of each session. And make what is
        needed rarely: ``refusals``, their lines, the ``reception``, and the
        ``arrivals``; and ``paths``, which asks for those of connections that end.
        """
        self.paths = PathSampler(self.ledger)
        self.refusals = RefusalLines(self.log)
        self.reception = Reception(self.ledger, self.refusals)
        self.arrivals = Arrivals(
            ArrivalsSetup(
                watch=self.poller.watch,
                forget=self.poller.unwatch,
                wheel=self.wheel,
                ledger=self.ledger,
                reception=self.reception,
                clock=lambda: self.now,
            )
        )
        self.buffers = (self.buffer,)
        self.after_small = (self.buffer[SMALL_READ_BYTES:],)
        self.look_at_log()

    def look_at_log(self) -> None:
        """Learn which lines the log wants: to ask it for each session would cost more
        than the rest of a short one's lines.
        """
        self.logs_connections = self.log.writes_connections
