"""The channel as the master uses it: reports, questions, answers, and messages that
break it.
"""

import json
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.transports import Wire
from unpd.channel import ChannelEnd
from unpd.core import events as ev
from unpd.core.model import Child, Slot
from unpd.errors import PrivilegeError
from unpd.master.children import reports
from unpd.master.runtime import ChildProcess, Question, Runtime
from unpd.names import ChildKind, ChildOrder, ChildPhase, ExitCode

BIRTH = 7
QUESTION = {"question": "connections", "after": -1, "limit": 2}


class Master:
    """As much of a runtime as the reports use, with one child."""

    def __init__(self) -> None:
        self.pipe = Wire()
        self.watched: dict[int, int] = {}
        self.logged: list[str] = []
        slot = Slot(ChildKind.WORKER, "default", 0)
        child = Child(BIRTH, slot, 1, ChildPhase.STARTING, born_at=0.0)
        self.process = ChildProcess(child, 4711, None, 0, ChannelEnd(self.pipe))
        self.events: deque[ev.Event] = deque()
        self.answers: list[dict[str, Any] | None] = []
        self.runtime = cast(
            Runtime,
            SimpleNamespace(
                processes={BIRTH: self.process},
                events=self.events,
                loop=SimpleNamespace(watch=self.watch, forget=lambda fd: self.watched.pop(fd, 0)),
                log=SimpleNamespace(event=lambda event, **_: self.logged.append(event)),
            ),
        )
        reports.watch(self.runtime, BIRTH)

    def watch(self, fd: int, mask: int, call: Callable[[int], None]) -> None:
        """Note the mask."""
        self.watched[fd] = mask

    def comes(self, *messages: object) -> None:
        """Let the child send messages, which the master reads at once."""
        self.pipe.comes.append(b"".join(json.dumps(m).encode() + b"\n" for m in messages))
        reports.read(self.runtime, BIRTH)

    def ends(self) -> None:
        """Close the child's end."""
        self.pipe.comes.append(b"")
        reports.read(self.runtime, BIRTH)

    def ask(self) -> None:
        """Ask the child for its connections."""
        reports.ask(self.runtime, BIRTH, Question(QUESTION, self.answers.append))


@pytest.fixture
def master() -> Master:
    """A master with a child that has not reported."""
    return Master()


def test_a_child_reports_that_it_is_ready(master: Master) -> None:
    """The first message becomes an event, and the channel stays open."""
    master.comes(reports.ready())
    assert list(master.events) == [ev.ChildReady(BIRTH)]
    assert master.watched
    assert not master.logged


def test_a_child_reports_why_it_cannot_serve(master: Master) -> None:
    """The event has the reason and its exit code; an unknown exit code becomes 1."""
    master.comes(reports.failure(PrivilegeError("cannot drop privileges to unpd")))
    reason = "cannot drop privileges to unpd"
    assert list(master.events) == [ev.ChildFailed(BIRTH, reason, ExitCode.PRIVILEGE)]
    other = reports.event_of(1, {"report": "failed", "code": 200, "reason": "x"})
    assert other == ev.ChildFailed(1, "x", ExitCode.FAILED)


def test_a_reason_is_bounded() -> None:
    """A report fits into a line, however long its reason is."""
    report = reports.failure(PrivilegeError("x" * 100_000))
    assert len(str(report["reason"])) == reports.MAX_REASON_CHARACTERS


@pytest.mark.parametrize(
    "message",
    [{}, {"report": "other"}, {"report": "failed"}, {"report": "failed", "code": "1"}, {"a": 1}],
)
def test_a_first_message_that_is_no_report_breaks_the_channel(
    master: Master, message: dict[str, Any]
) -> None:
    """A first message that is no report is logged once and causes no event. The master
    stops listening.
    """
    master.comes(message)
    assert master.logged == ["channel.broken"]
    assert not master.events
    assert not master.watched
    master.comes(reports.ready())
    assert not master.events


def test_a_child_gets_one_question_at_a_time(master: Master) -> None:
    """The next question goes out when the one before is answered, in their order."""
    master.comes(reports.ready())
    master.ask()
    master.ask()
    assert master.pipe.sent.count(b'"question":"connections"') == 1
    master.comes({"connections": [1]})
    assert master.pipe.sent.count(b'"question":"connections"') == 2
    master.comes({"connections": [2]})
    assert master.answers == [{"connections": [1]}, {"connections": [2]}]


def test_a_question_to_a_child_that_has_just_died_is_answered_by_none(master: Master) -> None:
    """The send fails, the channel is no longer watched, and its number can be watched
    for another descriptor.
    """
    master.comes(reports.ready())
    master.pipe.broken = True
    master.ask()
    assert master.answers == [None]
    assert not master.watched
    reports.read_and_close(master.runtime, BIRTH)
    assert master.pipe.closed


def test_a_starting_child_answers_after_its_report(master: Master) -> None:
    """A question to a child that has not reported is sent at once. Its first message is
    still the report.
    """
    master.ask()
    assert json.loads(master.pipe.sent) == QUESTION
    master.comes(reports.ready(), {"connections": []})
    assert list(master.events) == [ev.ChildReady(BIRTH)]
    assert master.answers == [{"connections": []}]
    assert not master.logged


def test_a_question_may_be_asked_where_an_answer_is_taken(master: Master) -> None:
    """Each question is sent once, also one that the asker has only after an answer."""
    master.comes(reports.ready())
    question = Question(QUESTION, lambda _: master.ask())
    reports.ask(master.runtime, BIRTH, question)
    master.comes({"connections": [1]})
    assert master.pipe.sent.count(b"\n") == 2
    master.comes({"connections": [2]})
    assert master.answers == [{"connections": [2]}]


def test_a_child_says_which_signal_has_ended_it(master: Master) -> None:
    """The last report names an order of the master, which may have come from another
    process. A second one breaks the channel.
    """
    master.comes(reports.ready(), reports.left(ChildOrder.LEAVE))
    assert master.process.left_by == "SIGQUIT"
    assert not master.logged
    master.comes(reports.left(ChildOrder.FINISH))
    assert master.process.left_by == "SIGQUIT"
    assert master.logged == ["channel.broken"]


@pytest.mark.parametrize(
    "message", [{"report": "left"}, {"report": "left", "by": "SIGNONE"}, {"report": "ready"}]
)
def test_a_last_report_that_is_none_breaks_the_channel(
    master: Master, message: dict[str, Any]
) -> None:
    """A child cannot put a text of its own into the master's log."""
    master.comes(reports.ready(), message)
    assert not master.process.left_by
    assert master.logged == ["channel.broken"]


def test_a_dead_child_answers_nothing(master: Master) -> None:
    """Open questions are answered with None when the child's end closes, later ones at
    once.
    """
    master.comes(reports.ready())
    master.ask()
    master.ends()
    assert master.answers == [None]
    master.ask()
    assert master.answers == [None, None]
    assert not master.watched


def test_the_last_words_of_a_child_come_before_its_end(master: Master) -> None:
    """A report that lies in the channel at the reap is read before the channel is
    closed.
    """
    master.pipe.comes.append(b'{"report":"failed","code":69,"reason":"in use"}\n')
    reports.read_and_close(master.runtime, BIRTH)
    assert list(master.events) == [ev.ChildFailed(BIRTH, "in use", ExitCode.ADDRESS)]
    assert master.pipe.closed
    assert not master.watched


def test_an_answer_without_a_question_breaks_the_channel(master: Master) -> None:
    """A message without a question breaks the channel, so that a faulty child cannot
    keep the master busy.
    """
    master.comes(reports.ready(), {"connections": []})
    assert list(master.events) == [ev.ChildReady(BIRTH)]
    assert master.logged == ["channel.broken"]
    assert not master.watched


def test_a_question_waits_for_room(master: Master) -> None:
    """A question that the socket does not take waits for room, and only then does the
    master watch for room.
    """
    master.comes(reports.ready())
    before = master.watched[master.pipe.fileno()]
    master.pipe.room = 5
    master.ask()
    assert master.watched[master.pipe.fileno()] != before
    master.pipe.room = 1 << 20
    reports.read(master.runtime, BIRTH)
    assert json.loads(master.pipe.sent) == QUESTION
    assert master.watched[master.pipe.fileno()] == before


def test_only_so_many_questions_wait_for_a_child(master: Master) -> None:
    """Beyond the bound an asker hears at once that no answer comes."""
    master.comes(reports.ready())
    for _ in range(reports.MAX_QUESTIONS + 3):
        master.ask()
    assert master.answers == [None] * 3
    assert len(master.process.unanswered) == reports.MAX_QUESTIONS


def test_a_reason_is_one_line() -> None:
    """An intruder in a child adds no line to what the master shows."""
    report = {"report": "failed", "code": 1, "reason": "why\nunpd: all is well\x1b[2J" + "x" * 9000}
    event = reports.event_of(BIRTH, report)
    assert isinstance(event, ev.ChildFailed)
    assert event.reason.startswith("why?unpd: all is well?[2J")
    assert len(event.reason) == reports.MAX_REASON_CHARACTERS
