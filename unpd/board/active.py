"""Counts the open connections on the scoreboard: those accepted and not ended.

Called by the metrics, the status, the master's samples and the dispatchers. Owns
nothing; raises nothing, whatever a faulty child wrote: a cell that no honest counter
reaches counts as 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import add

from unpd.board import layout
from unpd.board.layout import Board, Row, Service
from unpd.board.memory import Scoreboard, sane

# A word that is asked of its table costs 0.1 us, because a call answers.
_FIRST_CELLS = Board.ROWS + layout.service_cells(0)
_ACCEPTED, _ENDS = Service.ACCEPTED, len(layout.END_CAUSES)
COPIES = 5
"""How often a service's cells of one row are read, at most. A worker that ends 30,000
connections a second ends one every 33 us; a copy and its check take 2 or 3 us.
"""


def count_active(board: Scoreboard, column: int, rows: Iterable[int]) -> int:
    """Count the open connections of a service over ``rows``."""
    return sum(count_in_row(board, row, column) for row in rows)


@dataclass(frozen=True, slots=True)
class Active:
    """The open connections at one time. ``by_service``: of every service; ``by_row``:
    of each row that has any.
    """

    by_service: Mapping[str, int]
    by_row: Mapping[int, int]

    @property
    def total(self) -> int:
        """How many connections are open."""
        return sum(self.by_service.values())


def count_all(board: Scoreboard, columns: Mapping[str, int], rows: Iterable[int]) -> Active:
    """Count the open connections of every service over ``rows``. A row says in one word
    whether it has any, and most have not. A sum that no honest count reaches is 0.
    ``columns``: those of the services, by name.
    """
    width = max(columns.values(), default=-1) + 1
    totals = [0] * width
    by_row = {}
    for row in rows:
        if not board.words[layout.row_start(row) + Row.OPEN]:
            continue
        opened = _active_in_row(board, row, width)
        totals = list(map(add, totals, opened))
        if count := sum(opened[column] for column in columns.values()):
            by_row[row] = count
    return Active({name: sane(totals[column]) for name, column in columns.items()}, by_row)


def _active_in_row(board: Scoreboard, row: int, width: int) -> list[int]:
    """Count the open connections in one row, for each of the first ``width`` columns of
    services. The words of one kind are copied at once: 64 services in 16 busy rows take
    3 ms. Where connections ended meanwhile the column is counted alone, as
    :func:`copied` explains.
    """
    before = _ended_in_row(board, row, width)
    accepted = _words_in_row(board, row, Service.ACCEPTED, width)
    after = _ended_in_row(board, row, width)
    return [
        max(0, accepted[column] - before[column])
        if before[column] == after[column]
        else count_in_row(board, row, column)
        for column in range(width)
    ]


def _ended_in_row(board: Scoreboard, row: int, width: int) -> list[int]:
    ended = [0] * width
    for word in range(Service.ENDED, Service.ENDED + _ENDS):
        cells = _words_in_row(board, row, word, width)
        if any(cells):
            ended = list(map(add, ended, cells))
    return ended


def _words_in_row(board: Scoreboard, row: int, word: int, width: int) -> list[int]:
    """One word of each of the first ``width`` columns of services."""
    start = _FIRST_CELLS + row * Row.size + word
    return sane_cells(board.words[start : start + width * Service.size : Service.size].tolist())


def count_in_row(board: Scoreboard, row: int, column: int) -> int:
    """Count the open connections of a service in one row: those of its child. Like
    :func:`copied`, it looks again if connections have ended meanwhile.
    """
    start = _FIRST_CELLS + row * Row.size + column * Service.size
    words, stop = board.words, start + _ENDS
    accepted, ends = words[start + _ACCEPTED], list[int]()
    if not accepted:  # a service of another pool: most are
        return 0
    for _ in range(COPIES):
        ends = words[start:stop].tolist()
        accepted = words[start + _ACCEPTED]
        if words[start:stop].tolist() == ends:
            break
    return max(0, sane(accepted) - sum(sane_cells(ends)))


def accepted_in_row(board: Scoreboard, row: int) -> int:
    """Count the connections that the children of one row have accepted, one after the
    other, of all services.
    """
    start = layout.row_start(row) + Row.SERVICES
    end = start + layout.MAX_SERVICES * Service.size
    counts = board.words[start + Service.ACCEPTED : end : Service.size].tolist()
    return sane(sum(map(sane, counts)))


def active_of(cells: Sequence[int]) -> int:
    """The open connections in a service's cells of one row. Only damage makes their
    number negative: then it counts as 0.
    """
    return max(
        0,
        cells[Service.ACCEPTED]
        - sum(cells[Service.ENDED : Service.ENDED + len(layout.END_CAUSES)]),
    )


def copied(board: Scoreboard, row: int, column: int) -> list[int]:
    """Copy one service's cells of a row. The copy goes upwards, so it reads the ends
    before the accepts. If more connections ended meanwhile it is made again: a reader
    that the scheduler interrupts in the middle would count connections that came and
    went as open (191 for a single one, with both processors busy).
    """
    start = Board.ROWS + row * Row.size + layout.service_cells(column)
    cells: list[int] = []
    for _ in range(COPIES):
        cells = board.words[start : start + Service.size].tolist()
        if (
            board.words[start : start + len(layout.END_CAUSES)].tolist()
            == cells[: len(layout.END_CAUSES)]
        ):
            break
    return cells


def sane_cells(cells: list[int]) -> list[int]:
    """The cells, with 0 in place of each that no honest counter reaches."""
    if max(cells, default=0) < layout.SANE_COUNT:
        return cells
    return [cell if cell < layout.SANE_COUNT else 0 for cell in cells]
