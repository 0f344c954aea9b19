"""How many sessions a service has with the other dispatchers of the pool: those of
earlier generations that drain, and at a reload the next one.

Reads their rows of the scoreboard. Called by the dispatcher before it accepts. Owns
nothing. Raises nothing, whatever a faulty dispatcher wrote.

Known gap: a list is up to REFRESH_S old, so that two dispatchers that accept at the
same moment, during a reload, may have more sessions than ``max_connections`` together.
"""

from unpd.board import layout
from unpd.board.active import count_in_row
from unpd.board.memory import Scoreboard
from unpd.names import ChildKind
from unpd.worker.siblings import Place

REFRESH_S = 0.1


class Others:
    """The dispatchers that share the pool with the one at ``place``."""

    def __init__(self, board: Scoreboard, place: Place) -> None:
        self._board = board
        self._place = place
        self._rows: tuple[int, ...] = ()
        self._refresh_at = 0.0

    @property
    def present(self) -> bool:
        """Whether there was one when they were last looked for."""
        return bool(self._rows)

    def sessions(self, column: int, now: float) -> int:
        """How many sessions they have of the service in ``column``."""
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_S
            self._rows = tuple(
                entry.row
                for entry in self._board.entries()
                if entry.kind is ChildKind.DISPATCHER
                and entry.pool == self._place.pool
                and entry.birth != self._place.birth
            )
        counts = (count_in_row(self._board, row, column) for row in self._rows)
        return sum(count for count in counts if count < layout.SANE_COUNT)
