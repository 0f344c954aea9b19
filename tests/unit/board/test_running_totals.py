"""The totals of the services over all rows, as the master keeps them."""

import os
from collections.abc import Iterator

import pytest

from unpd.board import layout, memory
from unpd.board.layout import Row, Service
from unpd.board.memory import Entry, Scoreboard
from unpd.board.running_totals import RunningTotals
from unpd.names import ChildKind, ChildPhase

SERVICES = {"daytime": 0, "echo": 1}


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """An empty board."""
    fd = memory.create()
    yield Scoreboard(fd)
    os.close(fd)


def born(board: Scoreboard, row: int) -> None:
    """A child gets a row."""
    board.prepare(row)
    board.enter(Entry(row, 7, 4711, ChildKind.WORKER, 0, ChildPhase.READY, 1))


def count(board: Scoreboard, row: int, name: str = "echo", **words: int) -> None:
    """A child counts."""
    for word, number in words.items():
        board.words[
            layout.row_start(row) + layout.service_cells(SERVICES[name]) + getattr(Service, word)
        ] += number


def read(totals: RunningTotals, figure: str, name: str = "echo") -> int:
    """A total, read anew."""
    totals.read(SERVICES)
    return totals.services[figure][SERVICES[name]]


def test_the_totals_are_those_of_all_rows(board: Scoreboard) -> None:
    """Of the living and the dead, each kind of word for its figure, and no count twice,
    also where a row has another child.
    """
    totals = RunningTotals(board)
    for row in range(3):
        born(board, row)
        count(board, row, ACCEPTED=1, RECEIVED=10, DATAGRAM_BYTES_RECEIVED=5, REFUSED=2)
    assert [read(totals, name) for name in ("accepted", "received", "refused")] == [3, 45, 6]
    board.leave(1)
    count(board, 1, ACCEPTED=1)  # the rest, which the master books after the reap
    count(board, 2, ACCEPTED=1)
    assert read(totals, "accepted") == 5
    born(board, 1)
    count(board, 1, "daytime", ACCEPTED=4)
    assert (read(totals, "accepted"), read(totals, "accepted", "daytime")) == (5, 4)


def test_a_child_that_lived_between_two_readings_counts(board: Scoreboard) -> None:
    """However short its life was."""
    totals = RunningTotals(board)
    assert read(totals, "accepted") == 0
    born(board, 4)
    count(board, 4, ACCEPTED=2)
    board.leave(4)
    assert read(totals, "accepted") == 2


def test_rows_without_a_child_cost_nothing(board: Scoreboard) -> None:
    """They are not read again: a count that only a faulty child writes there is not
    seen.
    """
    totals = RunningTotals(board)
    born(board, 0)
    board.leave(0)
    assert read(totals, "accepted") == 0
    count(board, 0, ACCEPTED=9)
    assert read(totals, "accepted") == 0


def test_the_counts_of_an_earlier_master_are_there(board: Scoreboard) -> None:
    """And those of a service that a reload adds."""
    for row in range(2):
        born(board, row)
        count(board, row, ACCEPTED=3)
        board.leave(row)
    board.rows_to_read()  # as in another process
    totals = RunningTotals(board)
    totals.read({"daytime": 0})
    assert read(totals, "accepted") == 6


def test_a_forged_cell_counts_as_0(board: Scoreboard) -> None:
    """Also when the next birth repairs it."""
    totals = RunningTotals(board)
    born(board, 0)
    born(board, 1)
    count(board, 0, ACCEPTED=layout.SANE_COUNT)
    count(board, 1, ACCEPTED=1)
    assert read(totals, "accepted") == 1
    board.leave(0)
    born(board, 0)
    count(board, 0, ACCEPTED=2)
    assert read(totals, "accepted") == 3


def test_lags_are_of_the_daemon(board: Scoreboard) -> None:
    """Their number, and their sum."""
    totals = RunningTotals(board)
    for row in range(2):
        born(board, row)
        cells = board.row(row)
        cells[Row.LAG_BUCKETS] = cells[Row.LAG_BUCKETS + 3] = 1
        cells[Row.LAG_SUM_NS] = 50
    totals.read(SERVICES)
    assert totals.rows == {"lag_count": [4], "lag_sum_ns": [100]}
