"""The rates of services over the last seconds: connections, bytes and datagrams.

Owns the samples of their totals, so that an answer needs no waiting. Called by
:mod:`unpd.master.sampling` about once a second, and by :mod:`unpd.master.status`. The
caller passes the time in. Calls and raises nothing.

The samples are the master's own: the next master begins without any.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from unpd.board.totals import Totals

SAMPLES = 6
"""How many samples are kept: those of the last five seconds."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a service does in a second."""

    accepted: float
    received: float
    sent: float
    datagrams: float


class Rates:
    """The samples of all services."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[str, Totals]]] = deque(maxlen=SAMPLES)

    def take(self, totals: Mapping[str, Totals], at: float) -> None:
        """Keep the totals of every service at the time ``at`` (monotonic seconds)."""
        self._samples.append((at, totals))

    def of(self, service: str) -> Rate | None:
        """The rate of a service; None before its second sample."""
        samples = [(at, totals[service]) for at, totals in self._samples if service in totals]
        if len(samples) < 2:
            return None
        (before_at, before), (at, now) = samples[0], samples[-1]
        span_s = at - before_at
        if span_s <= 0:
            return None
        # Only damage, or a name that lost its column, makes a total smaller.
        return Rate(
            accepted=max(0, now.accepted - before.accepted) / span_s,
            received=max(0, now.received - before.received) / span_s,
            sent=max(0, now.sent - before.sent) / span_s,
            datagrams=max(0, now.datagrams - before.datagrams) / span_s,
        )
