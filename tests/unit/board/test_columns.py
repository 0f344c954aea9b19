"""The columns of names that only refused configurations had: they are given back, and
no counter that was shown goes backwards.
"""

import pytest

from unpd.board import layout
from unpd.board.columns import MAX_SET_ASIDE, Cells, Columns, ColumnsExhaustedError

LIMIT = 3
ROWS = 2


class Area:
    """Columns with two rows of two counters each, one word of the master's, and one
    sample.
    """

    def __init__(self) -> None:
        self.names = memoryview(bytearray(LIMIT * layout.NAME_BYTES)).cast("Q")
        self.words = memoryview(bytearray(8 * LIMIT * (2 * ROWS + 2))).cast("Q")
        self.columns = self.read()

    def read(self) -> Columns:
        """Read the names that stand there."""
        return Columns("services", self.names, str.isalnum, self.cells)

    def cells(self, column: int) -> Cells:
        """The words of a column."""
        own = self.words[column * 6 : column * 6 + 6]
        return Cells(counters=([own[0:2], own[2:4]], [own[4:5]]), samples=[own[5:6]])

    def count(self, name: str, row: int, number: int) -> None:
        """Count in a row, and in the master's word; write the sample."""
        column = self.columns.by_name[name]
        for word in (2 * row, 2 * row + 1, 4, 5):
            self.words[column * 6 + word] += number

    def shown(self, name: str) -> list[int]:
        """What a scrape shows: the sums."""
        return [
            sum(values)
            for group in self.cells(self.columns.by_name[name]).counters
            for values in zip(*(part.tolist() for part in group), strict=True)
        ]


@pytest.fixture
def area() -> Area:
    """Columns, one of them in use."""
    area = Area()
    area.columns.keep(["echo"])
    return area


def refuse(area: Area, *names: str, births: tuple[int, ...] = ()) -> None:
    """Try out a configuration with these names, and refuse it."""
    area.columns.try_out(names)
    area.columns.refuse(names, births)


def test_refused_names_never_use_the_columns_up(area: Area) -> None:
    """Any number of refused configurations, each with new names, leaves room for the
    next one.
    """
    for number in range(10 * LIMIT):
        refuse(area, f"new{number}", f"more{number}")
        area.columns.give_back(())
    area.columns.keep(["time", "daytime"])
    assert area.columns.names == ["echo", "time", "daytime"]


def test_a_name_in_use_keeps_its_column_whatever_is_refused(area: Area) -> None:
    """A refused configuration that also has the names in use takes nothing from them,
    nor one that came into use after it was refused once.
    """
    refuse(area, "echo", "time")
    area.columns.keep(["echo", "time"])
    refuse(area, "echo", "time", "new")
    area.columns.give_back(())
    assert area.columns.by_name == {"echo": 0, "time": 1}


def test_a_column_waits_for_the_children_that_may_write_there(area: Area) -> None:
    """A name keeps its column until the last child is reaped of all refused
    configurations that had it.
    """
    refuse(area, "time", births=(7,))
    refuse(area, "time", births=(8, 9))
    for alive in ((7, 9, 1), (7, 1)):
        area.columns.give_back(alive)
        assert area.columns.names == ["echo", "time"]
    area.columns.give_back((1,))
    assert area.columns.names == ["echo"]


def test_a_column_that_is_given_again_begins_at_0(area: Area) -> None:
    """The next name in a column has none of the counts, and no sample, of the last."""
    refuse(area, "time")
    area.count("time", 0, 5)
    area.columns.give_back(())
    area.columns.keep(["other"])
    assert area.columns.by_name["other"] == 1
    assert not any(area.words)


def test_a_name_that_comes_back_goes_on_counting(area: Area) -> None:
    """A counter that was shown does not go backwards when its name is tried again, in
    another column, and refused once more.
    """
    refuse(area, "time")
    area.count("time", 0, 5)
    area.count("time", 1, 2)
    assert area.shown("time") == [7, 7, 7]
    area.columns.give_back(())
    area.columns.keep(["other"])
    refuse(area, "time")
    assert area.columns.by_name["time"] == 2
    assert area.shown("time") == [7, 7, 7]
    assert not any(area.words[17:]), "a sample is not a count"
    area.count("time", 1, 1)
    area.columns.give_back(())
    area.columns.keep(["time"])
    assert area.shown("time") == [8, 8, 8]
    assert area.shown("other") == [0, 0, 0]


def test_a_forged_count_does_not_come_back(area: Area) -> None:
    """A number that no honest counter reaches is not set aside."""
    refuse(area, "time")
    area.count("time", 0, layout.SANE_COUNT)
    area.columns.give_back(())
    area.columns.keep(["time"])
    assert area.shown("time") == [0, 0, 0]


def test_the_memory_for_counts_is_bounded(area: Area) -> None:
    """Of very many refused names with counts, the oldest begin at 0 again."""
    for number in range(MAX_SET_ASIDE + 1):
        refuse(area, f"new{number}")
        area.count(f"new{number}", 0, 5)
        area.columns.give_back(())
    area.columns.keep(["new0", "new1"])
    assert area.shown("new0") == [0, 0, 0]
    assert area.shown("new1") == [5, 5, 5]


def test_exporters_show_no_name_that_may_lose_its_column(area: Area) -> None:
    """An exporter shows the names that were in use and those of its own configuration:
    a column that gets another name later must not stand under both.
    """
    refuse(area, "time", births=(7,))
    area.columns.try_out(["new"])
    assert area.columns.shown_with(["echo"]) == (("echo", 0),)
    assert area.columns.shown_with(["echo", "new"]) == (("echo", 0), ("new", 2))


def test_the_next_master_reads_around_a_free_column(area: Area) -> None:
    """The columns of the other names stay where they are on the board."""
    refuse(area, "time")
    area.columns.keep(["other"])
    area.columns.give_back(())
    assert area.read().by_name == {"echo": 0, "other": 2}


def test_a_name_without_room_is_refused_while_a_child_may_write(area: Area) -> None:
    """The limit holds for the names of living children too."""
    refuse(area, "time", "daytime", births=(7,))
    area.columns.give_back((7,))
    with pytest.raises(ColumnsExhaustedError, match="more than 3 services"):
        area.columns.check(["new"])
