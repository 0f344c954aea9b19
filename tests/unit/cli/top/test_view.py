"""What each key does, and the cursor."""

from typing import Any

import pytest

from tests.support.statuses import answered, child, event, service, status
from unpd.cli.top.columns import Table, make_tables
from unpd.cli.top.view import KEYS, View, followed, pressed

SERVICES = [service(name) for name in ("echo", "time")]
CHILDREN = [child(birth) for birth in (1, 2, 3)]


def tables(view: View, **changes: Any) -> tuple[Table, ...]:
    """The tables of two services, three children and an event, as the view wants
    them.
    """
    now = status(**{"services": SERVICES, "children": CHILDREN, "events": [event(7)], **changes})
    return make_tables(answered(now), view.orders, view.wanted)


def after(*keys: str, view: View | None = None) -> View:
    """The view after these keys."""
    view = followed(view or View(), tables(view or View()))
    for key in keys:
        view = pressed(view, key, tables(view))
        view = followed(view, tables(view))
    return view


@pytest.mark.parametrize(
    ("keys", "cursor"),
    [
        ((), ("services", "echo")),
        (("down",), ("services", "time")),
        (("down", "down"), ("children", 1)),
        (("down", "up", "up"), ("services", "echo")),
        (("end",), ("events", 7)),
        (("page_down", "page_down"), ("events", 7)),
        (("G", "g"), ("services", "echo")),
        (("tab",), ("children", 1)),
        (("tab", "tab"), ("events", 7)),
        (("tab", "tab", "tab"), ("services", "echo")),
    ],
)
def test_the_cursor_goes_through_all_tables(keys: tuple[str, ...], cursor: object) -> None:
    """It stops at both ends."""
    assert after(*keys).cursor == cursor


def test_the_cursor_stays_on_its_row_when_rows_move() -> None:
    """Also if the row is another one from the top then."""
    view = after("down")
    moved = followed(view, tables(view, services=[service("new"), *SERVICES]))
    assert (moved.cursor, moved.place) == (("services", "time"), 2)


def test_the_cursor_stays_at_its_place_when_its_row_goes() -> None:
    """The details were those of the row that has gone."""
    view = after("end", "enter")
    assert view.details
    gone = followed(view, tables(view, events=[]))
    assert (gone.cursor, gone.details) == (("children", 3), False)


def test_no_row_at_all() -> None:
    """Every key is harmless then."""
    view = View()
    for row in KEYS:
        for key in row.keys:
            pressed(view, key, ())
            pressed(view, key, tables(view, services=[], children=[], events=[]))
    assert followed(after("end"), ()).cursor is None


def test_the_order_is_that_of_the_table_of_the_cursor() -> None:
    """The keys go through its columns and back to the order of the daemon."""
    assert after("s").orders["services"].column == "SERVICE"
    assert after("tab", "s", "s", "s").orders["children"].column == "PID"
    assert after("s", "S").orders["services"].column == ""
    assert after("S").orders["services"].column == "ACCEPTED"
    assert after("s", "r").orders["services"].reverse
    assert not after("r").orders


def test_a_filter_is_typed() -> None:
    """Its keys do nothing else meanwhile. Enter ends it, escape takes it away."""
    assert after("/", "t", "i", "q").wanted == "tiq"
    assert after("/", "t", "i", "x", "backspace", "enter").wanted == "ti"
    assert after("/", "t", "enter", "q").left
    for keys in (("escape",), ("enter", "escape")):
        view = after("/", "t", *keys)
        assert (view.wanted, view.typing) == ("", False)
    assert after("/", "t", "i", "m").cursor == ("services", "time")


@pytest.mark.parametrize("key", ["p", " "])
def test_a_pause_begins_and_ends(key: str) -> None:
    """The same key does both."""
    assert after(key).paused
    assert not after(key, key).paused


def test_the_details_are_those_of_the_row_of_the_cursor() -> None:
    """They stay open while the cursor moves, and are closed by enter or escape."""
    assert after("enter", "down").details
    assert not after("enter", "enter").details
    assert not after("enter", "escape").details


def test_the_help_has_pages() -> None:
    """Its key goes to the next one; any other ends it, and does nothing else."""
    assert [after(*["?"] * times).help for times in range(6)] == [0, 1, 2, 3, 4, 0]
    assert after("?", "q") == after()


def test_each_key_means_one_thing() -> None:
    """No key stands in two rows of the table."""
    every = [key for row in KEYS for key in row.keys]
    assert len(every) == len(set(every))
