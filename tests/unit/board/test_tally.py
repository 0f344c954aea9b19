"""The counts of all services at once, for answers about the daemon."""

import os
from collections.abc import Iterator

import pytest

from unpd.board import layout, memory, tally
from unpd.board.layout import Service
from unpd.board.memory import Scoreboard
from unpd.board.tally import ServiceTally
from unpd.master import counts
from unpd.master.counts import LONGEST_S, SHARED, Counts

COLUMNS = {"echo": 3, "daytime": 0}


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """A board of which three rows were given."""
    fd = memory.create()
    found = Scoreboard(fd)
    found.rows_given = 3
    yield found
    os.close(fd)


def write(board: Scoreboard, row: int, service: str, word: int, number: int) -> None:
    """Write a count of a service into a row."""
    board.row(row)[layout.service_cells(COLUMNS[service]) + word] = number


def test_every_total_is_the_sum_over_the_rows(board: Scoreboard) -> None:
    """Each of its own service; a row that was not given counts for nothing."""
    for row in (0, 2, 3):
        write(board, row, "echo", Service.ACCEPTED, 5)
        write(board, row, "echo", Service.ENDED + 1, 2)
        write(board, row, "echo", Service.RECEIVED, 10)
        write(board, row, "echo", Service.SENT, 20)
        write(board, row, "echo", Service.REFUSED + 3, 1)
        write(board, row, "echo", Service.WOULD_REFUSE + 4, 2)
        write(board, row, "daytime", Service.DATAGRAMS_RECEIVED, 7)
        write(board, row, "daytime", Service.DATAGRAMS_SENT, 6)
    found = tally.take(board, COLUMNS)
    assert found.services == {
        "echo": ServiceTally(
            active=6,
            accepted=10,
            received_bytes=20,
            sent_bytes=40,
            refused=2,
            would_refuse=4,
        ),
        "daytime": ServiceTally(datagrams_received=14, datagrams_sent=12),
    }
    assert found.open_in_row == {0: 3, 2: 3}
    assert found.active == 6


def test_what_no_honest_child_counts_is_0(board: Scoreboard) -> None:
    """A damaged row makes no count negative, and none too large."""
    write(board, 0, "echo", Service.ACCEPTED, layout.SANE_COUNT)
    write(board, 1, "echo", Service.ACCEPTED, 1)
    write(board, 1, "echo", Service.ENDED, 4)
    assert tally.take(board, COLUMNS).services["echo"] == ServiceTally(accepted=1)


def test_a_daemon_without_services_counts_nothing(board: Scoreboard) -> None:
    """It has no column to look at."""
    assert tally.take(board, {}) == tally.Tally({}, {})


def test_a_count_is_shared_by_its_cost(board: Scoreboard, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a tenth of a second where it took ten milliseconds, and never for longer than
    LONGEST_S; not after the columns have changed.
    """
    clock = [0.0]
    taken: list[float] = []
    take = tally.take

    def slow(found: Scoreboard, columns: dict[str, int]) -> tally.Tally:
        taken.append(clock[0])
        clock[0] += cost_s
        return take(found, columns)

    monkeypatch.setattr(counts, "now", lambda: clock[0])
    monkeypatch.setattr(counts, "thread_time", lambda: clock[0])
    monkeypatch.setattr(tally, "take", slow)
    shared = Counts()
    cost_s = 0.01
    shared.of(board, COLUMNS)
    clock[0] += SHARED * cost_s - 0.001
    shared.of(board, COLUMNS)
    assert len(taken) == 1
    clock[0] += 0.002
    cost_s = 1.0
    shared.of(board, COLUMNS)
    assert len(taken) == 2
    clock[0] += LONGEST_S + 0.001
    shared.of(board, COLUMNS)
    assert len(taken) == 3
    shared.of(board, {"echo": 3})
    assert len(taken) == 4
