"""What a decision about a client reads: the counts of a service and of its sources,
the live denials, and the samples of the master.

All of it is memory that processes share: limits hold over all of them. A worker and a
dispatcher look at the counts for each client and datagram
(:mod:`unpd.worker.admission`), the master for ``unpd explain``.

Known gap: the pressure and the load are words of the board, which a hostile child can
write.

Calls :mod:`unpd.board.sources`. Raises nothing.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from unpd.access.decide import LiveDenial
from unpd.access.network import WIDTHS, Network
from unpd.access.peer import UNIX, Peer
from unpd.access.rate import Rate
from unpd.access.rules import Entry
from unpd.access.terms import AccessTerms
from unpd.board import layout
from unpd.board.denied import Denied
from unpd.board.halted import Halted
from unpd.board.layout import Master
from unpd.board.sources import SourceCounts, Sources, Window, admitted, window_at
from unpd.names import Resource

STALE_S = 5.0
"""After so long without a heartbeat of the master, its samples do not count: there is
one of each a second.
"""
_HUNDREDTHS = 100
_PRESSURE = {resource: Master.PRESSURE + index for index, resource in enumerate(layout.RESOURCES)}
_DATAGRAMS = b"datagrams"
_NO_WINDOW: Window = (0, 1, 0)


@dataclass(frozen=True, slots=True)
class Shown:
    """The shared memory that decisions read. ``counts``: the sums over all lanes.
    ``denied`` and ``halted``: what operators have ordered. ``master``: the master's
    words of the board.
    """

    sources: Sources
    counts: SourceCounts
    denied: Denied
    halted: Halted
    master: Sequence[int]


class Counted:
    """The counts that a decision reads (:class:`unpd.access.decide.Counts`), of one
    service. It is about one time and one peer: those of the last :meth:`turn_to` and
    :meth:`be_about`. ``now`` and ``wall_s``: the clocks of a decision, of which the one
    on the wall is only read if ``access_times`` ask.
    """

    _suffix = b""
    """Follows the source of a peer in the key under which it is counted."""

    def __init__(self, terms: AccessTerms, column: int, shown: Shown) -> None:
        self.peer = Peer(UNIX)
        self.key = 0
        self.service_window = self.source_window = _NO_WINDOW
        self.now = -1.0
        self._service_window_ns = _window_ns(terms.accept_rate)
        self._source_window_ns = _window_ns(terms.accept_rate_per_source)
        self._terms = terms
        self._column = column
        self._shown = shown
        self._key_of = shown.sources.key
        self._source = shown.counts.source
        self._service_rate = shown.counts.service_rate
        self._has_fewer = shown.counts.has_fewer
        self._limit = terms.max_per_source or sys.maxsize
        rate = terms.accept_rate_per_source
        self._burst = math.inf if rate is None else rate.burst
        self._found: tuple[int, Sequence[Sequence[int]]] | None = None

    def turn_to(self, now: float) -> None:
        """Be about a time from now on, and about the windows of rates that it is in."""
        if now == self.now:
            return
        self.now = now
        now_ns = int(now * layout.NS)
        if self._service_window_ns:
            self.service_window = window_at(now_ns, self._service_window_ns)
        if self._source_window_ns:
            self.source_window = window_at(now_ns, self._source_window_ns)

    @property
    def wall_s(self) -> float:
        """The present time in seconds since the epoch."""
        return time.time()

    def be_about(self, peer: Peer, key: int = 0) -> None:
        """Be about a peer from now on. ``key``: that of its source, if it is known."""
        self.peer = peer
        self.key = key or self.key_of(peer)
        self._found = None

    def key_of(self, peer: Peer) -> int:
        """The key of the source of a peer."""
        return self._key_of(self._column, self._terms.source_of(peer) + self._suffix)

    def denial(self, peer: Peer) -> LiveDenial | None:
        """The live denial of a peer. Only the master knows its end; and where denied
        networks lie in another one, a worker sees the widest.
        """
        found = self._shown.denied.find(peer.family, peer.number)
        if found is None:
            return None
        first, last = found
        bits = WIDTHS[peer.family] - (last ^ first).bit_length()
        return LiveDenial(Entry(str(Network(peer.family, first, bits))))

    def pressure(self, resource: Resource) -> float | None:
        """How long processes wait for a resource, in per cent."""
        return self._sampled(_PRESSURE[resource])

    def load(self) -> float | None:
        """The load average of the last minute."""
        return self._sampled(Master.LOAD)

    def _sampled(self, word: int) -> float | None:
        """A figure that the master samples. None if the master is stopped or hung: an
        old figure could close a service for good.
        """
        master = self._shown.master
        if self.now - master[Master.BEAT_NS] / layout.NS > STALE_S:
            return None
        return master[word] / _HUNDREDTHS

    @property
    def processes(self) -> int:
        """How many processes may count clients of the service at the same moment."""
        return self._shown.counts.processes

    def service_open(self) -> int:
        """How many connections the service has open."""
        return self._shown.counts.service_open(self._column)

    def source_open(self) -> int:
        """How many of them its source has open."""
        found = self._found
        if found is None:
            found = self._found = self._source(self.key)
        return found[0]

    def source_passes(self) -> bool:
        """Whether no limit of its source refuses it. False also if that is not sure."""
        return self._has_fewer(self.key, self._limit, self._burst, self.source_window)

    def service_rate(self) -> tuple[int, int, float]:
        """How many were admitted lately."""
        return self._service_rate(self._column, self.service_window)

    def source_rate(self) -> tuple[int, int, float]:
        """How many of its source were admitted lately."""
        found = self._found
        if found is None:
            found = self._found = self._source(self.key)
        return admitted(found[1], self.source_window)


class DatagramCounts(Counted):
    """The same for datagrams, which have rates of their own: with forged addresses, a
    flood of datagrams must not use up the rates of connections.
    """

    _suffix = _DATAGRAMS

    @property
    def service_key(self) -> int:
        """The key under which all datagrams of the service are counted."""
        return self._key_of(self._column, _DATAGRAMS)

    def service_rate(self) -> tuple[int, int, float]:
        """How many were admitted lately."""
        _, counted = self._source(self.service_key)
        return admitted(counted, self.service_window)


def _window_ns(rate: Rate | None) -> int:
    """The length of its windows; 0 without a rate."""
    return 0 if rate is None else int(rate.window_s * layout.NS)
