"""The bookkeeping of a measurement: which request was sent when, and what its answer
means: in time, late, a duplicate.

Called by ``ping``; calls ``figures``. Pure: the time is a parameter, in nanoseconds
of the monotonic clock. Raises nothing.

Every first answer counts as received, a late one also as late, as in ping(8). The rest
of what was sent is lost. Memory is bounded: only the last ``KEPT`` requests are known,
and the percentile is that of the last ``RECENT`` round trips.

Known gap: the answer to a request that is no longer known counts as a duplicate.
"""

import enum
from collections import deque
from dataclasses import dataclass

from unpd.cli.client import figures

KEPT = 1 << 16
RECENT = 100_000


class Verdict(enum.Enum):
    """What an answer is; the value is the word of a live line."""

    IN_TIME = ""
    LATE = "late"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a measurement. ``strange``: what came and is no answer.
    ``troubled``: errors that single requests met, such as those of ICMP.
    """

    sent: int
    received: int
    late: int
    duplicates: int
    strange: int
    troubled: int

    @property
    def lost(self) -> int:
        """How many requests got no answer."""
        return self.sent - self.received


class Tally:
    """The requests of one measurement. Each request has the next number, from 1 on."""

    def __init__(self, timeout_ns: int | None) -> None:
        """``timeout_ns``: after this time an answer is late; None: never."""
        self._timeout_ns = timeout_ns
        self._sent_ns: dict[int, int] = {}
        self._answered: set[int] = set()
        self._settled: set[int] = set()  # nobody waits for these any more
        self._recent_ns: deque[int] = deque(maxlen=RECENT)
        self._overdue = 0  # up to this one, every request is settled or its time is over
        self.sums = figures.Sums()
        self.sent = 0
        self.late = 0
        self.duplicates = 0
        self.strange = 0
        self.troubled = 0

    @property
    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(
            sent=self.sent,
            received=self.sums.count,
            late=self.late,
            duplicates=self.duplicates,
            strange=self.strange,
            troubled=self.troubled,
        )

    @property
    def spread(self) -> figures.Spread | None:
        """The spread of the round trips so far; None before the first answer."""
        return figures.spread_of(self.sums, self._recent_ns)

    @property
    def complete(self) -> bool:
        """Whether every request has its answer, or met an error in its place."""
        return self.sums.count + self.troubled >= self.sent

    def send(self, now_ns: int) -> int:
        """Note that the next request was sent; return its number."""
        self.sent += 1
        self._sent_ns[self.sent] = now_ns
        if self.sent > KEPT:
            forgotten = self.sent - KEPT
            self._sent_ns.pop(forgotten, None)
            self._answered.discard(forgotten)
            self._settled.discard(forgotten)
            self._overdue = max(self._overdue, forgotten)
        return self.sent

    def answer(self, number: int, now_ns: int) -> tuple[Verdict, int | None]:
        """Note an answer to a request that was sent. Return what it is, and its round
        trip in nanoseconds (None if the request is no longer known).
        """
        sent_ns = self._sent_ns.get(number)
        round_trip_ns = None if sent_ns is None else now_ns - sent_ns
        if round_trip_ns is None or number in self._answered:
            self.duplicates += 1
            return Verdict.DUPLICATE, round_trip_ns
        self._answered.add(number)
        self._settled.add(number)
        self.sums = figures.added(self.sums, round_trip_ns)
        self._recent_ns.append(round_trip_ns)
        if self._timeout_ns is None or round_trip_ns <= self._timeout_ns:
            return Verdict.IN_TIME, round_trip_ns
        self.late += 1
        return Verdict.LATE, round_trip_ns

    def suffer(self) -> int:
        """Note an error of the network; return the number of the request that has most
        likely met it, which is the last one.
        """
        self.troubled += 1
        self._settled.add(self.sent)
        return self.sent

    def expire(self, now_ns: int) -> list[int]:
        """Return the requests whose time has passed without an answer since the last
        call.
        """
        expired = []
        while (due_ns := self.due_ns()) is not None and due_ns < now_ns:
            self._overdue += 1
            expired.append(self._overdue)
        return expired

    def due_ns(self) -> int | None:
        """Return when the time of the oldest open request is over; None if there is no
        such request.
        """
        if self._timeout_ns is None:
            return None
        while self._overdue < self.sent and self._overdue + 1 in self._settled:
            self._overdue += 1
        if self._overdue == self.sent:
            return None
        return self._sent_ns[self._overdue + 1] + self._timeout_ns

    def linger_ns(self, interval_ns: int) -> int | None:
        """Return how long to wait after the last request; None: no limit."""
        return figures.linger_ns(self.sums, interval_ns, self._timeout_ns)
