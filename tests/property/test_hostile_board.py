"""Another process writes any number into any word of the scoreboard, at any moment: in
the middle of a read, and between a read and the write that follows it.
"""

import json
import os
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.contested import Contested
from tests.support.exporter import make_page
from tests.support.scale import many
from unpd.board import layout, memory
from unpd.board.active import count_active, count_all
from unpd.board.memory import Entry, Scoreboard
from unpd.control.answer_fields import mismatch
from unpd.control.page_fields import PAGE
from unpd.metrics.labels import Labels, ListenerLabels, Server, TargetLabels
from unpd.metrics.messages import Request
from unpd.metrics.page.snapshot import Sources
from unpd.metrics.pages import Pages
from unpd.metrics.reading import count_service
from unpd.names import ChildKind, ChildPhase
from unpd.worker.siblings import Place, Siblings

ROWS = 3
"""How many rows are in use."""
LABELS = Labels(
    services=(("echo", 0), ("daytime", 1)),
    pools=(("default", 0),),
    listeners=(ListenerLabels("echo", "tcp://[::]:7", 0, is_tcp=True),),
    targets=(TargetLabels("web", "tcp://192.0.2.1:80", 0),),
    served_by=dict.fromkeys(("echo", "daytime"), frozenset({Server(ChildKind.WORKER, "default")})),
    version="1.2.3",
    master_pid=os.getpid(),
)


def contested(rng: random.Random) -> Scoreboard:
    """A board with ROWS workers, whose every word is contested."""
    fd = memory.create()
    board = Scoreboard(fd)
    os.close(fd)
    for row in range(ROWS):
        board.enter(entry(row))
        board.row(row)[layout.service_cells(0) + layout.Service.ACCEPTED] = 5
    board.words = Contested(board.words, rng)  # type: ignore[assignment]
    return board


def entry(row: int) -> Entry:
    """A ready worker."""
    return Entry(row, row + 1, 1000 + row, ChildKind.WORKER, 0, ChildPhase.READY, 1)


def scrape(board: Scoreboard) -> None:
    """Render the page twice, the second time perhaps from the cache."""
    page_of = make_page()
    sources = Sources(board, LABELS, page_of.history, page_of.news, page_of.halted)
    pages = Pages(sources, page_of.files, loopback=True)
    for _ in range(2):
        page = pages.answer(Request("GET", "/metrics"))
        for line in page.body.decode().splitlines():
            assert line.startswith("#") or float(line.rpartition(" ")[2]) >= 0, line
    pages.answer(Request("GET", "/readyz"))
    assert pages.answer(Request("GET", "/")).status == 200
    assert not mismatch(json.loads(pages.answer(Request("GET", "/status.json")).body), PAGE)


def sample(board: Scoreboard) -> None:
    """Count as the status of the master and its samples do."""
    rows = range(board.rows_given)
    assert len(rows) == ROWS, "only the master itself says how many rows it gave out"
    assert count_service(board, "echo", 0, rows).active >= 0
    assert count_active(board, 0, rows) >= 0
    found = count_all(board, {"echo": 0, "daytime": 1}, rows)
    assert all(count > 0 for count in found.by_row.values())
    for column, count in enumerate(found.by_service.values()):
        board.words[layout.Master.CONNECTION_PEAKS + column] = count


ACTIONS: dict[str, Callable[[Scoreboard], object]] = {
    "prepare": lambda board: board.prepare(1),
    "enter": lambda board: board.enter(entry(2)),
    "set_phase": lambda board: board.set_phase(0, ChildPhase.DRAINING),
    "mark_reaped": lambda board: board.mark_reaped(0),
    "leave": lambda board: board.leave(0),
    "count": lambda board: board.count(layout.Master.FORK_FAILURES, 3),
    "book_worker_died": lambda board: board.book_worker_died(1),
    "siblings": lambda board: Siblings(board, Place(1, 0, 1)).have_clearly_fewer(9, 0.0),
    "sample": sample,
}


@pytest.mark.parametrize("action", ACTIONS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_nothing_raises(action: str, seed: int) -> None:
    """Whatever a hostile process writes, and when, each reader and writer of the board
    ends without an exception, and no sample is negative.
    """
    ACTIONS[action](contested(random.Random(seed)))


@settings(max_examples=many(25, at_least=6), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_page_raises(seed: int) -> None:
    """The same of the exporter's pages, which take longer: the metrics and the status
    page in both of its forms.
    """
    scrape(contested(random.Random(seed)))


def test_the_next_master_raises_nothing_either() -> None:
    """A master that takes the board over while a left-over process still writes comes
    to an end. It believes no number of rows beyond the last row.
    """
    board = contested(random.Random(18))
    board.take_over()
    assert board.rows_given <= layout.MAX_ROWS


def test_a_forged_number_of_rows_costs_the_master_nothing() -> None:
    """The master counts the rows that it gave out in its own memory: a forged number on
    the board does not make it read more rows. It writes the right number again with the
    next birth.
    """
    fd = memory.create()
    board = Scoreboard(fd)
    os.close(fd)
    board.enter(entry(0))
    board.words[layout.Master.ROWS_USED] = (1 << 64) - 1
    assert board.rows_given == 1
    assert board.rows_shown() == layout.MAX_ROWS
    board.enter(entry(1))
    assert (board.rows_given, board.words[layout.Master.ROWS_USED]) == (2, 2)
    board.words[layout.Master.ROWS_USED] = 0
    assert board.rows_shown() == 2, "a child that was forked now knows of two rows"
