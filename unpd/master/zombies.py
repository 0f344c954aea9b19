"""The number of zombies that the answer to ``status`` has.

To look for them takes about 10 us for each child of the master and of a dispatcher, and
two dozen commands may ask at a time. So a count is shared by the answers of the next
moment, as the counts of the scoreboard are (:mod:`unpd.master.counts`). The master
gives up at the parent with which there are more than MAX_SEARCHED processes, of which
it only lists the pids: the exporter counts them all (``unpd_zombies``), and no client
waits for it.

Owned by the runtime; asked by :mod:`unpd.master.status`. Calls
:mod:`unpd.metrics.reading`. Raises nothing.
"""

import math
from time import thread_time

from unpd.board.memory import Scoreboard
from unpd.loop import now
from unpd.metrics.reading import zombies
from unpd.names import MAX_SEARCHED

SHARED = 10
"""A count is shared for so many times as much processor time as it took."""


class Zombies:
    """The last count. ``master_pid``: of this process."""

    def __init__(self, board: Scoreboard, master_pid: int) -> None:
        self._board = board
        self._master_pid = master_pid
        self._until = -math.inf
        self._found: int | None = None

    def count(self) -> int | None:
        """How many there are now or were shortly before. None where /proc hides them,
        where there are too many processes, or where no descriptor is left.
        """
        if now() >= self._until:
            began = thread_time()
            self._found = zombies(self._board, self._master_pid, MAX_SEARCHED)
            self._until = now() + SHARED * (thread_time() - began)
        return self._found
