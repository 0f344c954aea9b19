"""The counts of the scoreboard that several answers share.

A count of 64 services in 16 workers takes some milliseconds, and two dozen commands may
ask at a time. So a count is shared by the answers of the next moment: for SHARED times
as much processor time as it took, and LONGEST_S at most. The master spends a tenth of
its time at most on counting, and the answer of a small daemon is never older than some
milliseconds.

Owned by the runtime; asked by :mod:`unpd.master.status`. Calls unpd.board.tally. Raises
nothing.
"""

import math
from collections.abc import Mapping
from time import thread_time

from unpd.board import tally
from unpd.board.memory import Scoreboard
from unpd.board.tally import Tally
from unpd.loop import now

SHARED = 10
LONGEST_S = 0.25


class Counts:
    """The last count, and how long it is shared."""

    def __init__(self) -> None:
        self._columns: Mapping[str, int] = {}
        self._last = Tally({}, {})
        self._until = -math.inf

    def of(self, board: Scoreboard, columns: Mapping[str, int]) -> Tally:
        """A count of this moment, or of shortly before. ``columns``: those of the
        services, by name; with others it is counted anew.
        """
        if now() >= self._until or columns != self._columns:
            began = thread_time()
            self._last, self._columns = tally.take(board, columns), dict(columns)
            self._until = now() + min(LONGEST_S, SHARED * (thread_time() - began))
        return self._last
