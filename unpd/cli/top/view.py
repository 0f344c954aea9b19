"""What the user of ``unpd top`` has chosen, and what each key does to it.

Owns the table of keys, which the help shows. Called by the screen; calls the tables.
Pure: a view and a key in, the next view out. Raises nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from unpd.cli.top.columns import COLUMNS, Key, Order, Table

PAGE = 10
"""How many rows the keys of a page go."""
LINES = 5
"""How many lines of the details: so few that a low terminal passes over none."""
HELP_PAGES = 1 + len(COLUMNS)
"""The keys, and the columns of each table."""


@dataclass(frozen=True, slots=True)
class View:
    """``cursor``: the row that is chosen; None before the first answer. ``place``: its
    place among all rows that are shown, where the cursor stays if its row goes away.
    ``typing``: the keys go into the filter. ``charts``: they are shown where there is
    room, with bars if the terminal has the ``glyphs``. ``scroll``: how many lines of
    the details are above the screen. ``help``: which page of it is shown, 0 for none.
    ``left``: the user has gone.
    """

    cursor: Key | None = None
    place: int = 0
    orders: Mapping[str, Order] = field(default_factory=lambda: MappingProxyType({}))
    wanted: str = ""
    typing: bool = False
    paused: bool = False
    charts: bool = True
    glyphs: bool = True
    details: bool = False
    scroll: int = 0
    help: int = 0
    left: bool = False


Step = Callable[[View, tuple[Table, ...]], View]


def followed(view: View, tables: tuple[Table, ...]) -> View:
    """The view with its cursor on the same row as before, wherever that is now. If the
    row has gone, the cursor stays at its place.
    """
    keys = _keys(tables)
    if not keys:
        return replace(view, cursor=None, place=0, details=False)
    if view.cursor in keys:
        return replace(view, place=keys.index(view.cursor))
    place = min(view.place, len(keys) - 1)
    # The details were those of the row that has gone.
    return replace(view, cursor=keys[place], place=place, details=False)


def pressed(view: View, key: str, tables: tuple[Table, ...]) -> View:
    """The view after a key."""
    if view.typing:
        return followed(_typed(view, key), tables)
    if view.help:
        return replace(view, help=(view.help + 1) % (HELP_PAGES + 1) if key == "?" else 0)
    for row in KEYS:
        if key in row.keys:
            return row.step(view, tables)
    return view


def _typed(view: View, key: str) -> View:
    """The view after a key that belongs to the filter."""
    if key == "enter":
        return replace(view, typing=False)
    if key == "escape":
        return replace(view, typing=False, wanted="")
    if key == "backspace":
        return replace(view, wanted=view.wanted[:-1])
    return replace(view, wanted=view.wanted + key) if len(key) == 1 else view


def _keys(tables: tuple[Table, ...]) -> list[Key]:
    return [row.key for table in tables for row in table.rows]


def _moved(steps: int) -> Step:
    def step(view: View, tables: tuple[Table, ...]) -> View:
        keys = _keys(tables)
        if not keys:
            return view
        place = max(0, min(view.place + steps, len(keys) - 1))
        return replace(view, place=place, cursor=keys[place], scroll=0)

    return step


def _paged(pages: int) -> Step:
    """Go some rows on, or some lines of the details."""
    move = _moved(pages * PAGE)

    def step(view: View, tables: tuple[Table, ...]) -> View:
        if view.details:
            return replace(view, scroll=max(view.scroll + pages * LINES, 0))
        return move(view, tables)

    return step


def _other_table(view: View, tables: tuple[Table, ...]) -> View:
    """The first row of the next table that has rows."""
    current = view.cursor[0] if view.cursor else ""
    names = [table.name for table in tables if table.rows]
    if not names:
        return view
    name = names[(names.index(current) + 1) % len(names)] if current in names else names[0]
    first = next(table.rows[0].key for table in tables if table.name == name)
    return followed(replace(view, cursor=first, details=False), tables)


def _sorted_by(steps: int) -> Step:
    """Sort the table of the cursor by the next column; beyond the last one, in the
    order of the daemon.
    """

    def step(view: View, tables: tuple[Table, ...]) -> View:
        table = _table(view, tables)
        if table is None:
            return view
        names = ["", *(column.name for column in table.columns)]
        current = names.index(table.order.column) if table.order.column in names else 0
        order = Order(names[(current + steps) % len(names)])
        return replace(view, orders={**view.orders, table.name: order})

    return step


def _reversed(view: View, tables: tuple[Table, ...]) -> View:
    table = _table(view, tables)
    if table is None or not table.order.column:
        return view
    order = replace(table.order, reverse=not table.order.reverse)
    return replace(view, orders={**view.orders, table.name: order})


def _table(view: View, tables: tuple[Table, ...]) -> Table | None:
    """The table of the cursor."""
    name = view.cursor[0] if view.cursor else ""
    return next((table for table in tables if table.name == name), None)


def _back(view: View, _: tuple[Table, ...]) -> View:
    """Close the details; if there are none, take the filter away."""
    return replace(view, details=False) if view.details else replace(view, wanted="")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """What some keys do. ``shown``: the keys as the help names them."""

    shown: str
    keys: tuple[str, ...]
    meaning: str
    step: Step


KEYS: tuple[KeyRow, ...] = (
    KeyRow("up k", ("up", "k"), "a row up", _moved(-1)),
    KeyRow("down j", ("down", "j"), "a row down", _moved(1)),
    KeyRow("page up", ("page_up",), "ten rows up, or five lines of the details", _paged(-1)),
    KeyRow("page down", ("page_down",), "ten rows down, or five lines of the details", _paged(1)),
    KeyRow("home g", ("home", "g"), "the first row", _moved(-(10**6))),
    KeyRow("end G", ("end", "G"), "the last row", _moved(10**6)),
    KeyRow("tab", ("tab",), "the next table", _other_table),
    KeyRow(
        "enter",
        ("enter",),
        "all that is known of the row, and what it means; again: back",
        lambda view, _: replace(
            view, details=view.cursor is not None and not view.details, scroll=0
        ),
    ),
    KeyRow("s right", ("s", "right"), "sort this table by the next column", _sorted_by(1)),
    KeyRow("S left", ("S", "left"), "sort it by the column before", _sorted_by(-1)),
    KeyRow("r", ("r",), "reverse the order", _reversed),
    KeyRow(
        "/",
        ("/",),
        "show only rows that hold a text; enter ends it, escape takes it away",
        lambda view, _: replace(view, typing=True, details=False),
    ),
    KeyRow("escape", ("escape",), "close the details; or show every row again", _back),
    KeyRow(
        "p space",
        ("p", " "),
        "pause, and go on",
        lambda view, _: replace(view, paused=not view.paused),
    ),
    KeyRow(
        "c",
        ("c",),
        "hide the charts, or show them where there is room",
        lambda view, _: replace(view, charts=not view.charts),
    ),
    KeyRow("?", ("?", "h"), "this help", lambda view, _: replace(view, help=1)),
    KeyRow("q", ("q", "Q"), "leave", lambda view, _: replace(view, left=True)),
)
"""The table of keys."""
