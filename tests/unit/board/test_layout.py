"""The tables of words, and the fingerprint that is computed from them."""

import itertools

import pytest

from unpd.board import layout
from unpd.board.layout import Area, Table, Word


def neighbours() -> list[tuple[int, int]]:
    """Every pair of neighbouring entries: (table, index of the first)."""
    return [
        (number, first)
        for number, (_, entries) in enumerate(layout.TABLES)
        for first, _ in itertools.pairwise(range(len(entries)))
    ]


def swapped(number: int, first: int) -> tuple[Table, ...]:
    """The tables with two neighbouring entries of one of them swapped."""
    name, entries = layout.TABLES[number]
    before, pair, after = entries[:first], entries[first : first + 2], entries[first + 2 :]
    tables = list(layout.TABLES)
    tables[number] = (name, (*before, *reversed(pair), *after))
    return tuple(tables)


@pytest.mark.parametrize(("number", "first"), neighbours())
def test_two_words_that_change_places_change_the_fingerprint(number: int, first: int) -> None:
    """A board whose words stand in another order is never adopted."""
    assert layout.fingerprint(swapped(number, first)) != layout.FINGERPRINT
    assert layout.fingerprint(layout.TABLES) == layout.FINGERPRINT


def test_a_change_of_meaning_changes_the_fingerprint() -> None:
    """Other labels of a word, or other values that it can have, make another layout."""

    class First(Area):
        """The area that the others differ from."""

        CAUSES = Word("ends", ("fin", "rst"))
        PHASE = Word("phase", values=("starting", "running"))

    class OtherLabels(Area):
        """The same area with two labels swapped."""

        CAUSES = Word("ends", ("rst", "fin"))
        PHASE = Word("phase", values=("starting", "running"))

    class OtherValues(Area):
        """The same area with two values swapped."""

        CAUSES = Word("ends", ("fin", "rst"))
        PHASE = Word("phase", values=("running", "starting"))

    tables = [("Same", area.table()[1]) for area in (First, OtherLabels, OtherValues)]
    assert len({layout.fingerprint([table]) for table in tables}) == 3


@pytest.mark.parametrize(
    "area",
    [
        layout.Master,
        layout.Directory,
        layout.Service,
        layout.Row,
        layout.Board,
        layout.HistoryTotals,
        layout.HistoryService,
    ],
)
def test_the_words_of_an_area_stand_side_by_side(area: type[Area]) -> None:
    """Each entry begins where the one before ends, and reads as its offset."""
    at = 0
    for word in area.words:
        assert word.offset == at == getattr(area, word.name)
        at += word.size
    assert area.size == at
    assert len({word.name for word in area.words}) == len(area.words) > 5


def test_ends_are_read_before_accepts() -> None:
    """The ends stand before the accepts, so that a reader never sees an end without its
    accept.
    """
    ends = range(layout.Service.ENDED, layout.Service.ENDED + len(layout.END_CAUSES))
    assert max(ends) < layout.Service.ACCEPTED == layout.Service.size - 1


def test_rows_and_columns_do_not_overlap() -> None:
    """The last row ends with the board; the last service ends before the listeners."""
    assert layout.row_start(layout.MAX_ROWS) * layout.WORD_BYTES == layout.BOARD_BYTES
    last = layout.service_cells(layout.MAX_SERVICES - 1) + layout.Service.size
    assert last == layout.Row.LISTENER_ACCEPTED
    assert layout.entry_start(layout.MAX_ROWS) == layout.Board.SERVICE_NAMES
