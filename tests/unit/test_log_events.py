"""The table of log events is complete and true: every place that logs names an event of
the table with the fields of its row, and every row is logged somewhere.

The places are found in the syntax trees of the package, so that a place that no test
ever reaches is compared too.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.observed import Event, contradiction
from unpd.log_events.row import ABOUT_CHILD, CHILD_FIELDS, CONNECTIONS, LEVELS, LogEvent
from unpd.log_events.table import EVENTS, ROWS
from unpd.names import ChildKind

VERBS = ("event", "note", "note_child")
"""The methods that log: of Log, and of the core's Draft."""

PASSING_ON = {"unpd/core/draft.py": 1, "unpd/master/perform.py": 1}
"""Where, and how often, an event is passed on whose name somebody else chose."""


@dataclass(frozen=True, slots=True)
class Place:
    """A call that logs: its event, its fields in order, and whether it adds others
    that the source does not show (``**fields``).
    """

    where: str
    event: str
    fields: tuple[str, ...]
    open_ended: bool


def name_of(call: ast.Call) -> str:
    """The name of the function or method that is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def events_of(first: ast.expr) -> tuple[str, ...]:
    """The events that the first argument of a call can name; f"{child.slot.kind}.ready"
    names one for each kind.
    """
    match first:
        case ast.Constant(value=str(event)):
            return (event,)
        case ast.JoinedStr(
            values=[ast.FormattedValue(value=prefix), ast.Constant(value=str(rest))]
        ):
            if ast.unparse(prefix).endswith("kind"):
                return tuple(f"{kind}{rest}" for kind in ChildKind)
    return ()


def calls(path: Path) -> Iterator[ast.Call]:
    """The calls in a module that log, or that give an event to a function that does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            known = any(event in EVENTS for event in events_of(node.args[0]))
            if known or name_of(node) in VERBS:
                yield node


def places_in(path: Path) -> Iterator[Place]:
    """The events that a module logs."""
    for call in calls(path):
        shown = tuple(keyword.arg for keyword in call.keywords if keyword.arg is not None)
        for event in events_of(call.args[0]):
            yield Place(
                where=f"{path.relative_to(ROOT)}:{call.lineno}",
                event=event,
                fields=(*ABOUT_CHILD, *shown) if name_of(call) == "note_child" else shown,
                open_ended=len(shown) < len(call.keywords),
            )


MODULES = sorted({*(ROOT / "unpd").rglob("*.py")} - {*(ROOT / "unpd/log_events").iterdir()})
PLACES = [place for module in MODULES for place in places_in(module)]


@pytest.mark.parametrize("place", PLACES, ids=[f"{place.event}-{place.where}" for place in PLACES])
def test_what_is_logged_is_in_the_table(place: Place) -> None:
    """A place logs an event of the table, with the fields of the row in their order;
    only optional ones may be missing.
    """
    assert place.event in EVENTS
    row = EVENTS[place.event]
    assert set(place.fields) <= set(row.fields)
    assert place.fields == tuple(name for name in row.fields if name in place.fields)
    assert set(row.fields) - set(place.fields) <= set(row.optional)
    assert not place.open_ended or row.optional


def test_every_event_of_the_table_is_logged() -> None:
    """No row describes an event that nobody logs."""
    assert {place.event for place in PLACES} == set(EVENTS)


def test_the_name_of_an_event_can_be_read_where_it_is_logged() -> None:
    """The first argument of a logging call is the event's name, so that a search finds
    it; only the core's notes are passed on.
    """
    unnamed = [
        str(module.relative_to(ROOT))
        for module in MODULES
        for call in calls(module)
        if not events_of(call.args[0])
    ]
    assert {module: unnamed.count(module) for module in unnamed} == PASSING_ON


def test_an_event_stands_once_in_the_table() -> None:
    """Two rows of one name would contradict each other."""
    assert len(ROWS) == len(EVENTS)


@pytest.mark.parametrize("row", EVENTS.values(), ids=EVENTS)
def test_a_row_is_well_formed(row: LogEvent) -> None:
    """A row has a name of two parts, a level and distinct fields. Meaning and advice
    are one sentence each; a warning or an error has advice.
    """
    assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", row.name)
    assert row.level in LEVELS
    assert len(set(row.fields)) == len(row.fields)
    assert not {*row.fields} & {"time", "level", "event"}
    assert {*row.optional} <= {*row.fields}
    assert row.debug_unless in ("", CONNECTIONS, *row.fields)
    assert re.fullmatch(r"[A-Z][^.]*(\.\w[^.]*)*\.", row.meaning)
    assert re.fullmatch(r"([A-Z][^.]*(\.[\w][^.]*)*\.)?", row.what_to_do)
    assert row.what_to_do or row.level not in ("warning", "error")


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (Event("reload.refused", "error", {"time": "", "reason": "so", "generation": 1}), ""),
        (Event("reload.refused", "info", {"reason": "so", "generation": 1}), "error"),
        (Event("reload.refused", "error", {"reason": "so"}), "lacks generation"),
        (Event("log.reopened", "info", {"file": "x", "size": 1}), "not size"),
        (Event("no.such_event", "info", {}), "not in the table"),
        (
            Event("log.reopened", "info", dict.fromkeys(CHILD_FIELDS, "") | {"file": "x"}),
            "",
        ),
        (Event("log.reopened", "info", {"pool": "x", "file": "x"}), "not pool"),
        (
            Event(
                "accept.failed",
                "debug",
                {"service": "", "address": "", "errno": "", "paused": False},
            ),
            "",
        ),
        (
            Event(
                "accept.failed",
                "debug",
                {"service": "", "address": "", "errno": "", "paused": True},
            ),
            "warning",
        ),
        (Event("connection.started", "debug", {"service": "", "peer": ""}), ""),
        (Event("connection.started", "info", {"service": "", "peer": ""}), ""),
        (Event("connection.started", "info", {"service": "", "peer": "unknown"}), "is unknown"),
        (Event("connection.started", "warning", {"service": "", "peer": ""}), "debug or info"),
    ],
)
def test_a_line_that_contradicts_the_table_is_found(event: Event, complaint: str) -> None:
    """The examination of a daemon's log finds an unknown event, a wrong level, a field
    too many, a field too few, and a client without an address.
    """
    found = contradiction(event)
    assert complaint in found
    assert bool(found) is bool(complaint)
