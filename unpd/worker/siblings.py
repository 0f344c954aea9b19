"""The siblings of a worker: the ready workers of the same pool and generation.

Reads their rows of the scoreboard, to tell whether this worker holds clearly more
connections than they do. Called by the intake after an accept. Owns nothing. Raises
nothing, whatever a faulty sibling wrote into its row. A forged number of used rows
costs little: this process keeps its own bound of the rows to read
(:func:`unpd.board.memory.rows_bound`).
"""

from dataclasses import dataclass

from unpd.board.layout import Row
from unpd.board.memory import Scoreboard
from unpd.names import ChildKind, ChildPhase

REFRESH_S = 1.0
"""How old the list of siblings may be."""
SEARCH_S = 0.1
"""How often an empty list is looked at again: at the start, siblings become ready one
after the other.
"""
SAMPLE = 32
"""How many siblings are asked at most: enough for a mean, in 5 us for each wake-up."""
SHARE = 1.125
"""A worker with more than this times the mean holds clearly more."""
SANE_OPEN = 1 << 24
"""No worker has more open connections: a process cannot have more descriptors than
fs.nr_open, which is a sixteenth of this by default.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's own place: its birth, the column of its pool, its generation."""

    birth: int
    pool: int
    generation: int


class Siblings:
    """The siblings of the worker at ``place``."""

    def __init__(self, board: Scoreboard, place: Place) -> None:
        self._board = board
        self._place = place
        self._rows: tuple[memoryview, ...] = ()
        self._refresh_at = 0.0

    def have_clearly_fewer(self, own: int, now: float) -> bool:
        """Whether the siblings hold clearly fewer connections, on the average, than
        ``own``. False without siblings.
        """
        if own < 2:
            return False
        if now >= self._refresh_at:
            self._rows = self._find()
            self._refresh_at = now + (REFRESH_S if self._rows else SEARCH_S)
        if not self._rows:
            return False
        counts = [row[Row.OPEN] for row in self._rows]
        total = sum(count if count <= SANE_OPEN else own for count in counts)
        return own > SHARE * total / len(counts) + 1

    def _find(self) -> tuple[memoryview, ...]:
        """The rows of the siblings, at most SAMPLE, evenly chosen."""
        place = self._place
        rows = [
            entry.row
            for entry in self._board.entries()
            if entry.kind is ChildKind.WORKER
            and entry.phase is ChildPhase.READY
            and (entry.pool, entry.generation) == (place.pool, place.generation)
            and entry.birth != place.birth
        ]
        step = -(-len(rows) // SAMPLE) or 1
        return tuple(self._board.row(row) for row in rows[::step])
