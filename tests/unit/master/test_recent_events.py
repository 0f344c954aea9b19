"""The ring of the master's recent events, and how it is told line by line."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from unpd.control.answer_fields import mismatch
from unpd.control.protocol import MAX_ANSWER_BYTES, Request, encode_answer
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.control.view_fields import EVENT, EVENTS
from unpd.kernel.credentials import Credentials
from unpd.log_events.row import Field
from unpd.master.following import AT_A_TIME, MAX_FOLLOWERS, Follower, follow
from unpd.master.recent_events import KEPT, RecentEvents
from unpd.master.runtime import Runtime


def ring(count: int, kept: int = KEPT, **fields: Field) -> RecentEvents:
    """A ring that has got this many events."""
    events = RecentEvents(kept)
    for _ in range(count):
        events.note(0.0, "info", "worker.ready", fields)
    return events


def numbers(told: Any) -> list[int]:
    """The numbers of the events of a line."""
    assert mismatch(told, EVENTS) == ""
    return [event["number"] for event in told["events"]]


@pytest.mark.parametrize(
    ("after", "found"),
    [(0, [3, 4, 5]), (1, [3, 4, 5]), (2, [3, 4, 5]), (3, [4, 5]), (5, []), (9, [])],
)
def test_the_last_events_are_kept(after: int, found: list[int]) -> None:
    """As many as there is room for, each with its number."""
    events = ring(5, kept=3)
    assert [event.number for event in events.after(after)] == found
    assert [event.number for event in events.after(after, 1)] == found[:1]
    assert (events.last, events.dropped) == (5, 2)


def test_an_event_is_told_with_time_level_name_and_fields() -> None:
    """A text is cut, as in the log."""
    events = RecentEvents()
    events.note(1.5, "error", "reload.refused", {"reason": "x" * 2000, "generation": 2})
    (event,) = events.after(0)
    assert mismatch(event.message, EVENT) == ""
    assert event.message == {
        "number": 1,
        "time": "1970-01-01T00:00:01.500Z",
        "level": "error",
        "event": "reload.refused",
        "fields": {"reason": "x" * 1000, "generation": 2},
    }


def test_the_recent_events_come_in_lines() -> None:
    """The last line says that no other follows, and none is missing."""
    follower = Follower(ring(2 * AT_A_TIME + 1), follows=False, seen=0)
    told = [follower.next() for _ in range(3)]
    assert [line and line["more"] for line in told] == [True, True, False]
    assert [one for line in told for one in numbers(line)] == list(range(1, 2 * AT_A_TIME + 2))


def test_without_events_there_is_a_line() -> None:
    """It is the last one."""
    told = Follower(RecentEvents(), follows=False, seen=0).next()
    assert told == {"ok": True, "events": [], "missed": 0, "more": False}


def test_a_follower_gets_a_line_at_once_and_then_what_is_new() -> None:
    """Then nothing until there is an event; the last line comes at the daemon's end."""
    events = ring(7)
    follower = Follower(events, follows=True, seen=7)
    assert follower.next() == {"ok": True, "events": [], "missed": 0, "more": True}
    assert follower.next() is None
    events.note(0.0, "info", "worker.ready", {})
    events.note(0.0, "info", "worker.ready", {})
    assert numbers(follower.next()) == [8, 9]
    assert follower.next() is None
    events.note(0.0, "info", "worker.ready", {})
    last = follower.last()
    assert (numbers(last), last["more"]) == ([10], False)


def test_the_newest_events_come_at_the_daemons_end() -> None:
    """As many as any line has: the socket takes it at once. How many were left out is
    told.
    """
    last = Follower(ring(3 * AT_A_TIME), follows=True, seen=1, greeted=True).last()
    newest = list(range(2 * AT_A_TIME + 1, 3 * AT_A_TIME + 1))
    assert (numbers(last), last["missed"], last["more"]) == (newest, 2 * AT_A_TIME - 1, False)


def test_a_follower_that_asks_too_late_learns_how_many_it_missed() -> None:
    """The ring does not grow for it."""
    events = ring(1, kept=3)
    follower = Follower(events, follows=True, seen=1)
    for _ in range(5):
        events.note(0.0, "info", "worker.ready", {})
    told = follower.next()
    assert told is not None
    assert (numbers(told), told["missed"]) == ([4, 5, 6], 2)


def test_long_events_fit_into_a_line() -> None:
    """Also where every character needs an escape of twelve bytes."""
    long = "\U0001f600" * 2000
    events = ring(KEPT, a=long, b=long, c=long, d=long)
    told = Follower(events, follows=False, seen=0).next()
    assert told is not None
    assert len(encode_answer(**told)) < MAX_ANSWER_BYTES


@pytest.mark.parametrize(("follows", "first"), [(False, [3, 4, 5]), (True, [])])
def test_the_order_begins_with_the_kept_events_or_with_the_next(
    follows: bool, first: list[int]
) -> None:
    """Events that were dropped before the question are none that it missed."""
    answers: list[tuple[int, Follower]] = []
    control = SimpleNamespace(
        followers=MAX_FOLLOWERS - 1,
        answer_in_parts=lambda *answer: answers.append(answer),
    )
    runtime = cast(Runtime, SimpleNamespace(control=control, recent_events=ring(5, kept=3)))
    pending = PendingRequest(7, Request("events", {"follow": follows}), Credentials(1, 2, 3))
    follow(runtime, pending)
    ((number, follower),) = answers
    told = follower.next()
    assert number == 7
    assert told is not None
    assert (numbers(told), told["missed"], told["more"]) == (first, 0, follows)
    control.followers = MAX_FOLLOWERS
    with pytest.raises(VerbError, match=rf"^{MAX_FOLLOWERS} commands show events already"):
        follow(runtime, pending)
