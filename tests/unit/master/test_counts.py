"""The counts that the answers of the next moment share."""

import os
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from unpd.board import active, layout, memory
from unpd.board.columns import Columns
from unpd.board.memory import Scoreboard
from unpd.master import counts
from unpd.master.counts import LONGEST_S, SHARED, Counts

ECHO = 3


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """A board with a row that a child holds."""
    fd = memory.create()
    found = Scoreboard(fd)
    found.rows_given = 1
    found.rows_held.add(0)
    yield found
    os.close(fd)


@pytest.fixture
def services() -> Columns:
    """The columns: echo alone."""
    return Mock(Columns, by_name={"echo": ECHO}, changes=1)


class Clock:
    """A clock of which each count takes ``cost_s``. ``taken``: how many there were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = self.cost_s = 0.0
        self.taken = 0
        count_all = active.count_all

        def slow(*arguments: object) -> object:
            self.taken += 1
            self.at += self.cost_s
            return count_all(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(counts, "now", lambda: self.at)
        monkeypatch.setattr(counts, "thread_time", lambda: self.at)
        monkeypatch.setattr(counts, "count_all", slow)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the counts."""
    return Clock(monkeypatch)


def accept(board: Scoreboard, count: int) -> None:
    """Let the child accept connections of echo."""
    row = board.row(0)
    row[layout.service_cells(ECHO) + layout.Service.ACCEPTED] += count
    row[layout.Row.OPEN] += count


def test_one_count_has_what_is_open_and_what_was(board: Scoreboard, services: Columns) -> None:
    """Both are of the same moment."""
    accept(board, 5)
    shared = Counts(board)
    shared.renew(services)
    assert shared.active.by_service == {"echo": 5}
    assert shared.active.by_row == {0: 5}
    assert shared.totals.services["accepted"][ECHO] == 5


def test_a_count_is_shared_by_its_cost(board: Scoreboard, services: Columns, clock: Clock) -> None:
    """For a tenth of a second where it took ten milliseconds, and never for longer than
    LONGEST_S.
    """
    shared = Counts(board)
    clock.cost_s = 0.01
    shared.renew(services)
    accept(board, 1)
    clock.at += SHARED * clock.cost_s - 0.001
    shared.renew(services)
    assert (clock.taken, shared.active.total) == (1, 0)
    clock.at += 0.002
    clock.cost_s = 1.0
    shared.renew(services)
    assert (clock.taken, shared.active.total) == (2, 1)
    clock.at += LONGEST_S - 0.001
    shared.renew(services)
    assert clock.taken == 2
    clock.at += 0.002
    shared.renew(services)
    assert clock.taken == 3


def test_no_count_is_shared_by_other_columns(
    board: Scoreboard, services: Columns, clock: Clock
) -> None:
    """A reload that adds a service does not find its column uncounted."""
    shared = Counts(board)
    clock.cost_s = 1.0
    shared.renew(services)
    services.by_name["time"] = 0
    services.changes += 1
    shared.renew(services)
    assert clock.taken == 2
    assert shared.active.by_service == {"echo": 0, "time": 0}


def test_a_sample_counts_anew(board: Scoreboard, services: Columns, clock: Clock) -> None:
    """What it takes is of its second, and the answers after it share it."""
    shared = Counts(board)
    clock.cost_s = 1.0
    shared.take(services)
    shared.take(services)
    shared.renew(services)
    assert clock.taken == 2
