"""How good the paths to the clients of connections are: as the list of open connections
shows them, and as they were when connections ended, for the metrics.

Called by what describes itself to an operator (:mod:`unpd.worker.questions`), and by
sessions at their end. Calls the ledger. Raises nothing.

The question at the end costs 1.4 us, where a connection of one echo takes 40 us. So it
is asked of every connection over TCP that lasted LONG_S. Of the others it is asked as
long as fewer than one in APART_S end, and else of one in SHARE at least; that one
counts for those left out before it. So both metrics have the weight of all connections,
and the retransmits of the short ones are an estimate. Clients of UNIX sockets have no
path: they are not asked for, and no other stands for them.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from unpd.kernel.tcp_info import PathQuality, PeerPaths
from unpd.worker.ledger import Ledger
from unpd.worker.terms import Terms

LONG_S = 1.0
APART_S = 0.001
SHARE = 8


def path_fields(fd: int) -> dict[str, Any]:
    """``rtt_s`` and ``retransmits`` of a connection over TCP
    (:class:`unpd.kernel.tcp_info.PathQuality`); nothing of another, or for -1.
    """
    path = PeerPaths().ask(fd)
    return asdict(path) if path else {}


class PathSampler:
    """Asks for the paths of the connections of one process when they end.
    ``ask_kernel``: tells the quality of the path of a descriptor.
    """

    def __init__(
        self, ledger: Ledger, ask_kernel: Callable[[int], PathQuality | None] | None = None
    ) -> None:
        self._ledger = ledger
        self._ask_kernel = ask_kernel
        self._next_at = -math.inf
        self._unasked: dict[int, int] = {}  # since the last question, by service

    def ask(self, terms: Terms, fd: int, duration_s: float, now: float) -> PathQuality | None:
        """The quality of the path of a connection that ends now, and count it; None if
        it is not asked for, or not known. ``now``: monotonic seconds.
        """
        if not terms.over_tcp:
            return None
        stands_for = 1
        if duration_s < LONG_S:
            unasked = self._unasked.get(terms.words, 0)
            if now < self._next_at and unasked < SHARE - 1:
                self._unasked[terms.words] = unasked + 1
                return None
            stands_for += unasked
            self._unasked[terms.words] = 0
            self._next_at = now + APART_S
        if self._ask_kernel is None:  # a session process needs it once, at its end
            self._ask_kernel = PeerPaths().ask
        path = self._ask_kernel(fd)
        if path is not None:
            self._ledger.path_measured(terms, path, stands_for)
        return path
