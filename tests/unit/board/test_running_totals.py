"""The totals of the services over all rows, as the master keeps them."""

import os
from collections.abc import Iterator

import pytest

from unpd.board import layout, memory
from unpd.board.layout import Row, Service
from unpd.board.memory import Entry, Scoreboard
from unpd.board.running_totals import RunningTotals
from unpd.master.columns import BoardColumns
from unpd.names import ChildKind, ChildPhase


class Scene:
    """A board with two services, whose rows the test writes, and its totals."""

    def __init__(self, board: Scoreboard) -> None:
        self.board = board
        self.services = BoardColumns(board).services
        self.services.keep(["daytime", "echo"])
        self.totals = RunningTotals(board)

    def born(self, row: int) -> None:
        """A child gets a row."""
        self.board.prepare(row)
        self.board.enter(Entry(row, 7, 4711, ChildKind.WORKER, 0, ChildPhase.READY, 1))

    def count(self, row: int, name: str = "echo", **words: int) -> None:
        """A child counts."""
        cells = self.board.row(row)
        start = layout.service_cells(self.services.by_name[name])
        for word, number in words.items():
            cells[start + getattr(Service, word)] += number

    def read(self, figure: str = "accepted", name: str = "echo") -> int:
        """A total, read anew."""
        self.totals.read(self.services)
        return self.totals.services[figure][self.services.by_name[name]]


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A board without children."""
    fd = memory.create()
    yield Scene(Scoreboard(fd))
    os.close(fd)


def test_the_totals_are_those_of_all_rows(scene: Scene) -> None:
    """Of the living and the dead, each kind of word for its figure, and no count twice,
    also where a row has another child.
    """
    for row in range(3):
        scene.born(row)
        scene.count(row, ACCEPTED=1, RECEIVED=10, DATAGRAM_BYTES_RECEIVED=5, REFUSED=2)
    assert [scene.read(name) for name in ("accepted", "received", "refused")] == [3, 45, 6]
    scene.board.row(0)[layout.service_cells(1) + Service.REFUSED + 4] = 5
    assert scene.read("refused") == 11
    by_reason = {reason: echo for reason, (_, echo) in scene.totals.refused.items() if echo}
    assert by_reason == {layout.REFUSAL_REASONS[0]: 6, layout.REFUSAL_REASONS[4]: 5}
    scene.board.leave(1)
    scene.count(1, ACCEPTED=1)  # the rest, which the master books after the reap
    scene.count(2, ACCEPTED=1)
    assert scene.read() == 5
    scene.born(1)
    scene.count(1, "daytime", ACCEPTED=4)
    assert (scene.read(), scene.read(name="daytime")) == (5, 4)


def test_a_child_that_lived_between_two_readings_counts(scene: Scene) -> None:
    """However short its life was."""
    assert scene.read() == 0
    scene.born(4)
    scene.count(4, ACCEPTED=2)
    scene.board.leave(4)
    assert scene.read() == 2


def test_rows_without_a_child_cost_nothing(scene: Scene) -> None:
    """They are not read again: a count that only a faulty child writes there is not
    seen.
    """
    scene.born(0)
    scene.board.leave(0)
    assert scene.read() == 0
    scene.count(0, ACCEPTED=9)
    assert scene.read() == 0


def test_the_counts_of_an_earlier_master_are_there(scene: Scene) -> None:
    """In rows that no child of this one has held."""
    for row in range(2):
        scene.born(row)
        scene.count(row, ACCEPTED=3)
        scene.board.leave(row)
    scene.board.rows_to_read()  # as in another process
    assert scene.read() == 6


def test_counts_that_are_moved_count_once(scene: Scene) -> None:
    """A name that only a refused configuration had loses its column, with its counts in
    the rows of the dead, and gets them again in the first row.
    """
    scene.services.try_out(["new"])
    for row in range(3):
        scene.born(row)
    scene.count(2, "new", ACCEPTED=5)
    scene.board.leave(2)
    assert scene.read(name="new") == 5
    scene.services.refuse(["new"], [])
    scene.services.give_back([])
    scene.services.keep(["new"])
    assert scene.read(name="new") == 5


def test_a_forged_cell_counts_as_0(scene: Scene) -> None:
    """Also when the next birth repairs it."""
    scene.born(0)
    scene.born(1)
    scene.count(0, ACCEPTED=layout.SANE_COUNT)
    scene.count(1, ACCEPTED=1)
    assert scene.read() == 1
    scene.board.leave(0)
    scene.born(0)
    scene.count(0, ACCEPTED=2)
    assert scene.read() == 3


def test_lags_are_of_the_daemon(scene: Scene) -> None:
    """Their number, and their sum."""
    for row in range(2):
        scene.born(row)
        cells = scene.board.row(row)
        cells[Row.LAG_BUCKETS] = cells[Row.LAG_BUCKETS + 3] = 1
        cells[Row.LAG_SUM_NS] = 50
    scene.totals.read(scene.services)
    assert scene.totals.rows == {"lag_count": [4], "lag_sum_ns": [100]}
