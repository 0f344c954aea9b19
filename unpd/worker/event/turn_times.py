"""The times of an engine's turns: how long the loop was busy, and its longest turns.

Each turn adds to two figures; they are written to the row with the heartbeat, in whose
interval they were taken. The master makes the busy share of a pool out of them
(:mod:`unpd.master.busyness`), and the exporter shows the lag
(:mod:`unpd.board.loop_lag`).

Owned by the engine, which calls it at each turn. Raises nothing.
"""

from unpd.board import layout
from unpd.board.layout import Row
from unpd.board.loop_lag import LoopLag

_BUSY_NS = Row.BUSY_NS
_LAG = slice(Row.LAG_BUCKETS, Row.LAG_SUM_NS + 1)


class TurnTimes:
    """``row``: the words of a worker; None for a session process, whose entry has no
    words for this, and of which nobody asks.

    ``busy_s``: how long the loop has not waited, since it began. ``longest_s``: its
    longest turn since the last booking. The engine itself adds to them: a call would
    cost a turn as much as both.
    """

    __slots__ = ("_lag", "_row", "busy_s", "longest_s")

    def __init__(self, row: memoryview | None) -> None:
        self.busy_s = self.longest_s = 0.0
        self._row = row
        self._lag = None if row is None else LoopLag(row[_LAG])

    def book(self) -> None:
        """Write the figures: a heartbeat is written, too."""
        if self._row is not None and self._lag is not None:
            self._row[_BUSY_NS] = int(self.busy_s * layout.NS)
            self._lag.book(self.longest_s)
            self.longest_s = 0.0
