"""The open connections of services, as the master samples them."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from unpd.board import active, layout, memory
from unpd.board.active import Active, count_all
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
    found = count_all(board, SERVICES, range(3))
    assert found == Active({"echo": 11, "daytime": 1}, {0: 3, 1: 4, 2: 5})
    assert found.total == 12


def test_a_sum_that_no_honest_count_reaches_is_0(board: Scoreboard) -> None:
    """It would not fit into a word."""
    for row in range(5):
        accept(board, row, SERVICES["echo"], layout.SANE_COUNT - 1)
    accept(board, 0, SERVICES["daytime"], 2)
    assert count_all(board, SERVICES, range(5)).by_service == {"echo": 0, "daytime": 2}


def test_a_damaged_count_makes_none_negative(board: Scoreboard) -> None:
    """More ends than connections count as none."""
    accept(board, 1, SERVICES["echo"], 1)
    board.row(1)[layout.service_cells(SERVICES["echo"]) + layout.Service.ENDED] = 4
    assert count_all(board, SERVICES, range(2)) == Active({"echo": 0, "daytime": 0}, {})


def test_a_daemon_without_services_counts_nothing(board: Scoreboard) -> None:
    """It has no column to look at."""
    accept(board, 0, SERVICES["echo"], 1)
    assert count_all(board, {}, range(2)) == Active({}, {})


def test_connections_that_end_meanwhile_are_not_open(
    board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ends are read first. Connections that came and went after that would count as
    open; so the service is counted again, and the others are not.
    """
    accept(board, 0, SERVICES["echo"], 4)
    accept(board, 0, SERVICES["daytime"], 2)
    read = active._ended_in_row  # noqa: SLF001

    def busy(*arguments: Any) -> list[int]:
        found = read(*arguments)
        cells = layout.service_cells(SERVICES["echo"])
        board.row(0)[cells + layout.Service.ACCEPTED] += 100
        board.row(0)[cells + layout.Service.ENDED] += 100
        return found

    monkeypatch.setattr(active, "_ended_in_row", busy)
    assert count_all(board, SERVICES, range(1)).by_service == {"echo": 4, "daytime": 2}
