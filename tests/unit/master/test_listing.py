"""The pages of connections, from children that may answer anything."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from unpd.board import layout
from unpd.control.protocol import Request
from unpd.control.server import PendingRequest
from unpd.core.model import Child, Slot
from unpd.kernel.credentials import Credentials
from unpd.master import listing, status
from unpd.master.children import reports
from unpd.master.rounds import ANSWER_S
from unpd.master.runtime import Question, Runtime
from unpd.names import ChildKind, ChildPhase
from unpd.worker.questions import HIGHEST

FIRST, SECOND = 3, 5
NAME = "worker default/0 (pid 43)"


class Master:
    """As much of a runtime as a page needs: two workers. ``asked``: the questions that
    they got; ``page``: the last answer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 100.0
        self.asked: list[tuple[int, Question]] = []
        self.page: dict[str, Any] = {}
        self.rows = {birth: [0] * layout.Row.size for birth in (FIRST, SECOND)}
        for row in self.rows.values():
            row[layout.Row.BEAT_NS] = int(self.at * layout.NS)
        self.runtime = cast(
            Runtime,
            SimpleNamespace(
                listings=[],
                columns=SimpleNamespace(services=SimpleNamespace(by_name={})),
                lanes=SimpleNamespace(unkept=list),
                control=SimpleNamespace(answer=self.answer),
                board=SimpleNamespace(row=self.rows.__getitem__),
                processes={birth: worker(birth) for birth in self.rows},
            ),
        )
        monkeypatch.setattr(listing, "now", lambda: self.at)
        monkeypatch.setattr(status, "now", lambda: self.at)
        monkeypatch.setattr(reports, "ask", self.ask)

    def ask(self, runtime: Runtime, birth: int, question: Question) -> None:
        """Keep the question."""
        assert runtime is self.runtime
        self.asked.append((birth, question))

    def answer(self, number: int, **fields: Any) -> None:
        """Keep the page."""
        assert number == 7
        self.page = fields

    def request(self, after: str | None) -> None:
        """Ask for the page behind a place."""
        values = {"service": None, "peer": None, "older": None, "after": after}
        request = PendingRequest(7, Request("connections", values), Credentials(41, 0, 0))
        listing.list_page(self.runtime, request)

    def page_of(self, after: str | None, answer: dict[str, Any] | None) -> dict[str, Any]:
        """The page behind a place, of a child that answers so."""
        self.request(after)
        _, question = self.asked.pop()
        question.on_answer(answer)
        return self.page


def worker(birth: int) -> Any:
    """A child that serves. Its row has the number of its birth."""
    slot = Slot(ChildKind.WORKER, "default", 0 if birth == FIRST else 1)
    child = Child(birth, slot, 1, ChildPhase.READY, born_at=1.0)
    return SimpleNamespace(child=child, pid=40 + birth, row=birth)


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Master:
    """The master."""
    return Master(monkeypatch)


def test_a_child_with_more_goes_on_behind_its_last_connection(master: Master) -> None:
    """And the next child comes when it has none left."""
    page = master.page_of(f"{FIRST}:7", {"connections": [], "next": 8})
    assert page == {"ok": True, "connections": [], "next": f"{FIRST}:8", "silent": None}
    page = master.page_of(f"{FIRST}:8", {"connections": [], "next": None})
    assert page["next"] == f"{FIRST + 1}:-1"
    page = master.page_of(f"{FIRST + 1}:-1", {"connections": [], "next": None})
    assert page["next"] is None


@pytest.mark.parametrize("number", [7, 0, -7, True, HIGHEST + 1, 10**40, 8.0, "8", []])
def test_a_child_that_does_not_go_on_is_left_behind(master: Master, number: Any) -> None:
    """The command would ask for ever, or for a place that no page has. So the child is
    named, and the list goes on with the next one.
    """
    page = master.page_of(f"{FIRST}:7", {"connections": [], "next": number})
    assert page == {"ok": True, "connections": [], "next": f"{FIRST + 1}:-1", "silent": NAME}


@pytest.mark.parametrize("answer", [None, {}, {"connections": 1, "next": None}, {"next": 8}])
def test_an_answer_without_a_list_names_the_child(
    master: Master, answer: dict[str, Any] | None
) -> None:
    """None: it has died."""
    assert master.page_of(f"{FIRST}:7", answer)["silent"] == NAME


def test_a_child_that_takes_too_long_is_named(master: Master) -> None:
    """Its late answer is none."""
    master.request(None)
    listing.look_after(master.runtime, master.at + ANSWER_S - 0.1)
    assert not master.page
    listing.look_after(master.runtime, master.at + ANSWER_S)
    assert (master.page["silent"], master.page["next"]) == (NAME, f"{FIRST + 1}:-1")
    master.page = {}
    _, question = master.asked.pop()
    question.on_answer({"connections": [], "next": None})
    assert not master.page


def test_a_child_without_a_heartbeat_is_named_at_once(master: Master) -> None:
    """A list over many workers that hang does not wait for each of them. One that is
    young has had no time to give one.
    """
    master.at += ANSWER_S + 0.2
    master.request(None)
    assert not master.asked
    assert (master.page["silent"], master.page["next"]) == (NAME, f"{FIRST + 1}:-1")
    master.rows[FIRST][layout.Row.BEAT_NS] = 0
    master.request(None)
    assert len(master.asked) == 1
