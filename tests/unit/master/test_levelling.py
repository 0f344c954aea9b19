"""unpd log-level: the level of the log in the master and in all its children."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.memory_sink import MemorySink
from unpd.control.answer_fields import mismatch
from unpd.control.change_fields import LEVEL
from unpd.control.protocol import Request
from unpd.control.server import PendingRequest
from unpd.core.model import Child, Slot
from unpd.kernel.credentials import Credentials
from unpd.logs import Log
from unpd.loop import now
from unpd.master import levelling, rounds
from unpd.master.children import reports
from unpd.master.live_changes import clock
from unpd.master.rounds import ANSWER_S
from unpd.master.runtime import Question, Runtime
from unpd.names import ChildKind, ChildPhase

Answer = Callable[[dict[str, Any] | None], None]
UID = 1000


class Master:
    """As much of a runtime as the verb uses, with children 1, 2 and 3; 3 has not
    reported yet. ``asked``: what takes the answers of the children.
    """

    def __init__(self) -> None:
        self.memory = MemorySink()
        self.answers: list[dict[str, Any]] = []
        self.asked: dict[int, Answer] = {}
        self.messages: list[Any] = []
        self.log = Log(self.memory.sink, "info", "text")
        self.runtime = cast(
            Runtime,
            SimpleNamespace(
                live=SimpleNamespace(level=None),
                rounds=[],
                log=self.log,
                control=SimpleNamespace(answer=self.answer),
                processes={birth: process(birth) for birth in (1, 2, 3)},
            ),
        )

    def answer(self, number: int, **fields: Any) -> None:
        """Keep an answer."""
        assert mismatch(fields, LEVEL) == ""
        self.answers.append({"number": number, **fields})

    def ask(self, runtime: Runtime, birth: int, question: Question) -> None:
        """Keep the question."""
        self.messages.append(question.message)
        self.asked[birth] = question.on_answer

    def change(self, level: str, span: str | None = None) -> None:
        """Carry out the verb."""
        request = Request("log-level", {"level": level, "for": span})
        levelling.change(self.runtime, PendingRequest(7, request, Credentials(41, UID, UID)))

    def is_live(self) -> bool:
        """Whether another level than the configured one holds."""
        return self.runtime.live.level is not None

    @property
    def level(self) -> str:
        """The level of its own log."""
        return self.log.level

    def lines(self, event: str) -> list[str]:
        """The lines of an event, without their times."""
        return [line.split(" ", 1)[1] for line in self.memory.lines if event in line]


def process(birth: int) -> Any:
    """A child."""
    child = Child(birth, Slot(ChildKind.WORKER, "default", birth), 1, ChildPhase.READY, 0.0)
    return SimpleNamespace(
        child=child,
        pid=40 + birth,
        reported=birth != 3,
        level_owed=False,
        channel=SimpleNamespace(ended=False),
    )


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Master:
    """A master whose children are asked by nobody else."""
    found = Master()
    monkeypatch.setattr(reports, "ask", found.ask)
    return found


def test_all_take_the_level(master: Master) -> None:
    """The master at once. The answer comes when each child that has reported has
    answered; the one that starts takes the level later.
    """
    master.change("debug")
    assert master.level == "debug"
    assert master.messages == [{"question": "level", "level": "debug"}] * 3
    master.asked[1]({})
    assert not master.answers
    master.asked[2]({})
    assert master.answers == [
        {"number": 7, "ok": True, "level": "debug", "live": True, "until": None, "silent": []}
    ]
    (line,) = master.lines("log.level_changed")
    assert line == (
        'warning log.level_changed threshold=debug before=info until="" reason="unpd log-level"'
        f" by_uid={UID}"
    )


def test_the_configured_level_comes_back(master: Master) -> None:
    """With its own word, also where another one has a time."""
    master.change("debug", "10m")
    assert master.is_live()
    master.change("configured")
    assert not master.is_live()
    assert master.level == "info"
    assert master.messages[-1] == {"question": "level", "level": None}


def test_a_level_ends_when_its_time_is_over(master: Master) -> None:
    """Nobody waits for an answer then."""
    master.change("debug", "10m")
    for birth in (1, 2):
        master.asked[birth]({})
    assert master.answers[0]["until"] is not None
    levelling.look(master.runtime, clock() + 599)
    assert master.level == "debug"
    levelling.look(master.runtime, clock() + 601)
    assert master.level == "info"
    for birth in (1, 2):
        master.asked[birth]({})
    assert len(master.answers) == 1
    assert master.runtime.rounds == []
    assert (
        'threshold=info before=debug until="" reason="its time is over"'
        in (master.lines("log.level_changed")[1])
    )


@pytest.mark.parametrize("answer", [{"error": "no"}, {"level": "debug"}, None])
def test_a_child_without_an_answer_is_named(master: Master, answer: dict[str, Any] | None) -> None:
    """After ANSWER_S, or at once if it answers nonsense. One that has died needs no
    level.
    """
    master.change("debug")
    master.asked[1](answer)
    rounds.look_after(master.runtime, now() + ANSWER_S - 1)
    assert not master.answers
    rounds.look_after(master.runtime, now() + ANSWER_S)
    first = [] if answer is None else ["worker default/1 (pid 41)"]
    silent = [*first, "worker default/2 (pid 42)"]
    assert master.answers[0]["silent"] == silent
    assert len(master.lines("log.level_not_taken")) == len(silent)
    master.asked[2]({})
    assert len(master.answers) == 1


def test_a_child_that_cannot_be_asked_is_named(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its channel is broken or full: the answer is None at once."""
    monkeypatch.setattr(reports, "ask", lambda _runtime, _birth, question: question.on_answer(None))
    master.change("debug")
    assert master.answers[0]["silent"] == ["worker default/1 (pid 41)", "worker default/2 (pid 42)"]


def test_a_child_that_could_not_be_asked_is_asked_again(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the level that holds then, until it takes it."""
    ask = master.ask
    monkeypatch.setattr(reports, "ask", lambda _runtime, _birth, question: question.on_answer(None))
    master.change("debug")
    levelling.look_after(master.runtime)
    monkeypatch.setattr(reports, "ask", ask)
    master.runtime.live.level = None
    levelling.look_after(master.runtime)
    assert master.messages == [{"question": "level", "level": None}] * 3
    levelling.look_after(master.runtime)
    assert len(master.messages) == 3, "they have yet to answer"
    master.asked[1]({})
    master.asked[2]({"error": "no"})
    levelling.look_after(master.runtime)
    assert len(master.messages) == 4


def test_the_configured_level_without_another_one_changes_nothing(master: Master) -> None:
    """The log has no line about it."""
    master.change("configured")
    assert not master.lines("log.level_changed")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_line_about_the_change_is_written(master: Master, level: str) -> None:
    """Also where the new level keeps it out, and where the old one did."""
    master.change(level)
    assert len(master.lines("log.level_changed")) == 1
    assert master.level == level
    master.change("configured")
    assert len(master.lines("log.level_changed")) == 2
