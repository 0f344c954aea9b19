"""The open connections of services, as the master samples them."""

import os
from collections.abc import Iterator

import pytest

from unpd.board import layout, memory
from unpd.board.active import active_by_service
from unpd.board.memory import Scoreboard

SERVICES = {"echo": 1, "daytime": 0}


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """An empty board."""
    fd = memory.create()
    yield Scoreboard(fd)
    os.close(fd)


def accept(board: Scoreboard, row: int, column: int, count: int) -> None:
    """Write ``count`` open connections of a service into a row."""
    cells = board.row(row)
    cells[layout.service_cells(column) + layout.Service.ACCEPTED] += count
    cells[layout.Row.OPEN] += count


def test_each_service_is_counted_over_the_rows(board: Scoreboard) -> None:
    """Connections of all given rows count, for their own service; an ended one does
    not.
    """
    for row in range(3):
        accept(board, row, SERVICES["echo"], 4)
    accept(board, 2, SERVICES["daytime"], 1)
    accept(board, 7, SERVICES["echo"], 9)
    board.row(0)[layout.service_cells(SERVICES["echo"]) + layout.Service.ENDED] = 1
    assert active_by_service(board, SERVICES, range(3)) == {"echo": 11, "daytime": 1}


def test_a_sum_that_no_honest_count_reaches_is_0(board: Scoreboard) -> None:
    """It would not fit into a word."""
    for row in range(5):
        accept(board, row, SERVICES["echo"], layout.SANE_COUNT - 1)
    accept(board, 0, SERVICES["daytime"], 2)
    assert active_by_service(board, SERVICES, range(5)) == {"echo": 0, "daytime": 2}
