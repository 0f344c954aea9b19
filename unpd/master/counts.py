"""The counts of the scoreboard that the master asks for: the open connections, and what
the services have done in all.

A count of 64 services in 16 workers takes some milliseconds, and two dozen commands may
ask at a time. So a count is shared by the answers of the next moment: for SHARED times
as much processor time as it took, and LONGEST_S at most. The master spends a tenth of
its time at most on counting, and the answer of a small daemon is never older than some
milliseconds.

Owned by the runtime; asked by :mod:`unpd.master.status` and its like, and once a second
by :mod:`unpd.master.recording`. Calls unpd.board. Raises nothing.
"""

import math
from time import thread_time

from unpd.board.active import Active, count_all
from unpd.board.columns import Columns
from unpd.board.memory import Scoreboard
from unpd.board.running_totals import RunningTotals
from unpd.loop import now

SHARED = 10
LONGEST_S = 0.25


class Counts:
    """``active``: the open connections of the last count; ``totals``: what the services
    had done in all. Renew them before you read them.
    """

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._until = -math.inf
        self._changes = -1
        self.active = Active({}, {})
        self.totals = RunningTotals(board)

    def take(self, services: Columns) -> None:
        """Count now. ``services``: their columns."""
        began = thread_time()
        self.active = count_all(self._board, services.by_name, self._board.rows_held)
        self.totals.read(services)
        self._changes = services.changes
        self._until = now() + min(LONGEST_S, SHARED * (thread_time() - began))

    def renew(self, services: Columns) -> None:
        """Count, unless the last count is shared and no column has changed since."""
        if now() >= self._until or services.changes != self._changes:
            self.take(services)
