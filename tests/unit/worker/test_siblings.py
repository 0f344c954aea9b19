"""Siblings: when a worker holds clearly more connections than they do."""

import os
from collections.abc import Iterator

import pytest

from unpd.board.layout import Row
from unpd.board.memory import Entry, Scoreboard, create
from unpd.names import ChildKind, ChildPhase
from unpd.worker.siblings import REFRESH_S, SAMPLE, SEARCH_S, Place, Siblings

POOL, GENERATION = 3, 7
OWN = Place(birth=1, pool=POOL, generation=GENERATION)


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """A board on which only this worker is entered."""
    fd = create()
    made = Scoreboard(fd)
    enter(made, 0, 0)
    yield made
    os.close(fd)


def enter(
    board: Scoreboard,
    row: int,
    held: int,
    *,
    kind: ChildKind = ChildKind.WORKER,
    pool: int = POOL,
    phase: ChildPhase = ChildPhase.READY,
    generation: int = GENERATION,
) -> None:
    """Enter a child that holds ``held`` connections; its birth is its row and one."""
    board.row(row)[Row.OPEN] = held
    board.enter(
        Entry(
            row=row,
            birth=row + 1,
            pid=1000 + row,
            kind=kind,
            pool=pool,
            phase=phase,
            generation=generation,
        )
    )


def test_without_siblings_no_number_is_too_high(board: Scoreboard) -> None:
    """A worker alone keeps all."""
    assert not Siblings(board, OWN).have_clearly_fewer(10_000, 0.0)


def test_more_than_an_eighth_above_the_mean_is_clearly_more(board: Scoreboard) -> None:
    """And one connection more, so that few connections are not counted too exactly."""
    enter(board, 1, 100)
    enter(board, 2, 300)
    siblings = Siblings(board, OWN)
    assert not siblings.have_clearly_fewer(226, 0.0)
    assert siblings.have_clearly_fewer(227, 0.0)
    board.row(1)[Row.OPEN] = board.row(2)[Row.OPEN] = 0
    assert not siblings.have_clearly_fewer(1, 0.0)
    assert siblings.have_clearly_fewer(2, 0.0)


@pytest.mark.parametrize(
    "other",
    [
        {"kind": ChildKind.EXPORTER},
        {"pool": POOL + 1},
        {"phase": ChildPhase.STARTING},
        {"phase": ChildPhase.DRAINING},
        {"generation": GENERATION - 1},
    ],
)
def test_only_ready_workers_of_the_same_pool_and_generation_are_siblings(
    board: Scoreboard, other: dict[str, object]
) -> None:
    """Any other child takes no connection from our listeners, or soon none."""
    enter(board, 1, 0, **other)  # type: ignore[arg-type]
    assert not Siblings(board, OWN).have_clearly_fewer(1000, 0.0)


def test_what_a_faulty_sibling_wrote_is_no_number(board: Scoreboard) -> None:
    """A count that no worker can have counts as ours: it makes no difference."""
    enter(board, 1, (1 << 64) - 1)
    enter(board, 2, 10)
    siblings = Siblings(board, OWN)
    assert siblings.have_clearly_fewer(100, 0.0)
    assert not siblings.have_clearly_fewer(10, 0.0)


def test_the_list_is_looked_for_often_while_it_is_empty_and_seldom_later(
    board: Scoreboard,
) -> None:
    """Siblings that become ready late are found soon; one that has gone is asked for
    REFRESH_S at most.
    """
    siblings = Siblings(board, OWN)
    assert not siblings.have_clearly_fewer(1000, 0.0)
    enter(board, 1, 0)
    assert not siblings.have_clearly_fewer(1000, SEARCH_S / 2)
    assert siblings.have_clearly_fewer(1000, SEARCH_S)
    board.leave(1)
    assert siblings.have_clearly_fewer(1000, SEARCH_S + REFRESH_S / 2)
    assert not siblings.have_clearly_fewer(1000, SEARCH_S + REFRESH_S)


def test_of_many_siblings_some_are_asked(board: Scoreboard) -> None:
    """They are chosen evenly, so that the mean is about right."""
    count = 10 * SAMPLE
    for row in range(1, count + 1):
        enter(board, row, row)
    siblings = Siblings(board, OWN)
    mean = count / 2
    assert not siblings.have_clearly_fewer(int(mean), 0.0)
    assert siblings.have_clearly_fewer(int(1.3 * mean), 0.0)
