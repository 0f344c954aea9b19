"""The ways to the clients of connections: as the list of open connections shows them,
and as they were when connections ended, for the metrics.

Called by what describes itself to an operator (:mod:`unpd.worker.questions`), and by
sessions at their end. Calls the ledger. Raises nothing.

The question at the end costs 1.4 us, where a connection of one echo takes 40 us. So it
is asked of every connection that lasted LONG_S. Of the others it is asked as long as
fewer than one in APART_S end, and else of one in SHARE at least; that one counts for
those left out before it. So both metrics have the weight of all connections, and the
retransmits of the short ones are an estimate.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from unpd.kernel.connections import borrowed
from unpd.kernel.tcp_info import PeerWays, Way, way_to
from unpd.worker.ledger import Account, Ledger

LONG_S = 1.0
APART_S = 0.001
SHARE = 8


def way_of(fd: int) -> dict[str, Any]:
    """``rtt_s`` and ``retransmits`` of a connection over TCP
    (:class:`unpd.kernel.tcp_info.Way`); nothing of another, or for -1.
    """
    if fd < 0:
        return {}
    try:
        with borrowed(fd) as sock:
            way = way_to(sock)
    except OSError:
        return {}
    return asdict(way) if way else {}


class LastWays:
    """Asks for the ways of the connections of one process when they end.
    ``ask_kernel``: tells the way of a descriptor.
    """

    def __init__(
        self, ledger: Ledger, ask_kernel: Callable[[int], Way | None] | None = None
    ) -> None:
        self._ledger = ledger
        self._ask_kernel = ask_kernel
        self._next_at = -math.inf

    def ask(self, account: Account, fd: int, duration_s: float, now: float) -> Way | None:
        """The way to the client of a connection that ends now, and count it; None if it
        is not asked for, or not known. ``now``: monotonic seconds.
        """
        totals, stands_for = account.totals, 1
        if duration_s < LONG_S:
            if now < self._next_at and totals.unasked < SHARE - 1:
                totals.unasked += 1
                return None
            stands_for += totals.unasked
            totals.unasked = 0
            self._next_at = now + APART_S
        if self._ask_kernel is None:  # a session process needs it once, at its end
            self._ask_kernel = PeerWays().ask
        way = self._ask_kernel(fd)
        if way is not None:
            self._ledger.last_way(account, way, stands_for)
        return way
