"""The verbs deny, undeny and denied, as the master carries them out, and the end of
connections that goes with a denial.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from unpd.access.denials import DenialError
from unpd.access.network import Network
from unpd.control.answer_fields import mismatch
from unpd.control.client_fields import DENIED, DENY, UNDENY
from unpd.control.protocol import MAX_ANSWER_BYTES, Request, encode_answer
from unpd.control.server import PendingRequest
from unpd.core.model import Child, Slot
from unpd.kernel.credentials import Credentials
from unpd.master import denying, kicking, rounds
from unpd.master.children import reports
from unpd.master.deny_list import DenyList
from unpd.master.runtime import Question, Runtime
from unpd.names import ChildKind, ChildPhase
from unpd.worker.selection import Kick, Selection

Answer = Callable[[dict[str, Any] | None], None]
UID = 1000


class Master:
    """As much of a runtime as the verbs use. ``asked``: the children that were asked
    to end connections, with what takes their answers.
    """

    def __init__(self, *kinds: ChildKind) -> None:
        self.logged: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.asked: dict[int, Answer] = {}
        self.kicked: list[Kick] = []
        log = SimpleNamespace(
            event=lambda event, **fields: self.logged.append({"event": event, **fields})
        )
        board = SimpleNamespace(words=[0] * 10_000)
        self.deny_list = DenyList(cast(Any, board), cast(Any, log), {})
        self.runtime = cast(
            Runtime,
            SimpleNamespace(
                deny_list=self.deny_list,
                log=log,
                kicks=[],
                rounds=[],
                lanes=SimpleNamespace(kick=self.kick_sessions, held_by=self.lane_of),
                control=SimpleNamespace(answer=self.answer),
                processes={birth: process(birth, kind) for birth, kind in enumerate(kinds, 1)},
            ),
        )

    def kick_sessions(self, kick: Kick, left_by: int | None = None) -> int:
        """Two sessions have no dispatcher. One that dies leaves five."""
        self.kicked.append(kick)
        return 2 if left_by is None else 5

    def lane_of(self, birth: int) -> object:
        """A dispatcher has a lane, until it is reaped."""
        kind = self.runtime.processes[birth].child.slot.kind
        return object() if kind is ChildKind.DISPATCHER else None

    def answer(self, number: int, **fields: Any) -> None:
        """Keep an answer."""
        self.answers.append({"number": number, **fields})

    def ask(self, runtime: Runtime, birth: int, question: Question) -> None:
        """Keep the question; children see the denial already."""
        assert question.message == {"question": "kick", **self.kicked[-1].message}
        assert self.deny_list.denied.find(4, Network.parse("192.0.2.9").first) is not None
        self.asked[birth] = question.on_answer

    def carries_out(self, verb: str, **arguments: Any) -> Any:
        """The answer to a verb of user UID, None if it comes later."""
        values = {"for": None, "why": None, "kick": False, "after": None} | arguments
        request = PendingRequest(7, Request(verb, values), Credentials(41, UID, UID))
        return getattr(denying, verb)(self.runtime, request)


def process(birth: int, kind: ChildKind) -> Any:
    """A child of a kind."""
    child = Child(birth, Slot(kind, "default", 0), 1, ChildPhase.READY, born_at=0.0)
    return SimpleNamespace(child=child, pid=40 + birth)


def test_a_network_is_denied_and_logged() -> None:
    """The answer and the log have the denial, and it is listed with its author."""
    master = Master()
    told = master.carries_out("deny", network="192.0.2.0/24", why="a scan")
    assert mismatch(told, DENY) == ""
    assert told["denial"] | {"since": ""} == {
        "network": "192.0.2.0/24",
        "since": "",
        "until": None,
        "reason": "a scan",
        "uid": UID,
        "service": None,
    }
    assert (told["replaced"], told["kicked"], told["silent"]) == (False, None, 0)
    line = {"network": "192.0.2.0/24", "until": "", "why": "a scan", "by_uid": UID}
    assert master.logged == [{"event": "denial.added", **line}]
    listed = master.carries_out("denied")
    assert mismatch(listed, DENIED) == ""
    assert listed == {"denials": [told["denial"]], "next": None}


def test_a_denial_in_place_of_another_says_so() -> None:
    """And has its own end."""
    master = Master()
    master.carries_out("deny", network="192.0.2.7")
    told = master.carries_out("deny", network="192.0.2.7", **{"for": "10m"})
    assert told["replaced"]
    assert told["denial"]["until"] > told["denial"]["since"]
    assert master.logged[1]["until"] == told["denial"]["until"]
    assert len(master.deny_list) == 1


def test_a_denial_is_taken_back() -> None:
    """The log says by whom. A second time it is not listed."""
    master = Master()
    master.carries_out("deny", network="192.0.2.7")
    told = master.carries_out("undeny", network="192.0.2.7")
    assert mismatch(told, UNDENY) == ""
    assert master.logged[-1] == {"event": "denial.removed", "network": "192.0.2.7", "by_uid": UID}
    with pytest.raises(DenialError, match="is not denied: unpd denied lists"):
        master.carries_out("undeny", network="192.0.2.7")
    assert len(master.logged) == 2


def test_a_long_list_comes_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has room in an answer, and begins after the last of the one before."""
    monkeypatch.setattr(denying, "PAGE", 3)
    master = Master()
    networks = [f"192.0.2.{number}" for number in range(5)] + ["::1"]
    for network in networks:
        master.carries_out("deny", network=network)
    found: list[str] = []
    after = None
    for _ in range(3):
        page = master.carries_out("denied", after=after)
        found += [each["network"] for each in page["denials"]]
        after = page["next"]
    assert (found, after) == (networks, None)


def test_the_longest_page_fits_into_an_answer() -> None:
    """With the longest reasons, of characters that need the most bytes."""
    master = Master()
    for number in range(denying.PAGE):
        network = str(Network(6, (1 << 128) - 1 - number, 128))
        master.carries_out("deny", network=network, why="\U00020000" * 200)
    page = master.carries_out("denied")
    assert len(page["denials"]) == denying.PAGE
    assert len(encode_answer(ok=True, **page)) < MAX_ANSWER_BYTES


# --- the end of connections -----------------------------------------------------------

SERVING = (ChildKind.WORKER, ChildKind.DISPATCHER, ChildKind.ITERATIVE)


@pytest.fixture(name="master")
def made_master(monkeypatch: pytest.MonkeyPatch) -> Master:
    """A master with a child of each kind, that was asked to kick a network."""
    master = Master(*SERVING, ChildKind.EXPORTER)
    monkeypatch.setattr(reports, "ask", master.ask)
    assert master.carries_out("deny", network="192.0.2.0/24", kick=True) is None
    return master


def test_every_child_that_serves_ends_its_connections(master: Master) -> None:
    """The master tells sessions without a dispatcher itself. The answer comes after
    that of the last child, with the sum.
    """
    assert master.kicked == [Kick(Selection(network=Network.parse("192.0.2.0/24")))]
    assert list(master.asked) == [1, 2, 3]
    for birth, number in ((1, 3), (2, 0)):
        master.asked[birth]({"kicked": number})
    assert master.answers == []
    master.asked[3]({"kicked": 1})
    (told,) = master.answers
    assert (told["number"], told["ok"], told["kicked"], told["silent"]) == (7, True, 6, 0)
    assert mismatch(told, DENY) == ""
    line = {"event": "denial.kicked", "network": "192.0.2.0/24", "ended": 6, "silent": 0}
    assert master.logged[-1] == line


def test_a_child_that_died_has_no_connections(master: Master) -> None:
    """It is none that did not answer."""
    for birth in (1, 2):
        master.asked[birth]({"kicked": 1})
    master.asked[3](None)
    assert [(told["kicked"], told["silent"]) for told in master.answers] == [(4, 0)]


def test_the_sessions_of_a_dispatcher_that_dies_are_ended(master: Master) -> None:
    """Its connections do not die with it: the answer waits until the master has them.
    A death that comes later changes nothing.
    """
    for birth in (1, 3):
        master.asked[birth]({"kicked": 1})
    master.asked[2](None)
    assert master.answers == []
    kicking.dispatcher_died(master.runtime, 2)
    assert [(told["kicked"], told["silent"]) for told in master.answers] == [(9, 0)]
    kicking.dispatcher_died(master.runtime, 2)
    assert len(master.kicked) == 2


@pytest.mark.parametrize(
    "nonsense", [{}, {"error": "what?"}, {"kicked": -1}, {"kicked": "7"}, {"kicked": 1 << 62}]
)
def test_nonsense_counts_as_no_answer(master: Master, nonsense: dict[str, Any]) -> None:
    """A child may have been taken over."""
    for birth in (1, 2):
        master.asked[birth]({"kicked": 1})
    master.asked[3](nonsense)
    assert [(told["kicked"], told["silent"]) for told in master.answers] == [(4, 1)]


def test_a_child_that_is_hung_does_not_hold_up_the_answer(master: Master) -> None:
    """After ANSWER_S the answer says how many are silent. What they say later is no
    second answer.
    """
    (kick,) = master.runtime.kicks
    master.asked[1]({"kicked": 1})
    rounds.look_after(master.runtime, kick.round.late_at - 0.1)
    assert master.answers == []
    rounds.look_after(master.runtime, kick.round.late_at)
    for birth in (2, 3):
        master.asked[birth]({"kicked": 1})
    assert [(told["kicked"], told["silent"]) for told in master.answers] == [(3, 2)]
    assert master.runtime.kicks == []


def test_a_child_that_cannot_be_asked_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its channel is broken, or too many questions wait there."""
    master = Master(ChildKind.WORKER, ChildKind.WORKER)
    monkeypatch.setattr(reports, "ask", lambda _runtime, _birth, question: question.on_answer(None))
    master.carries_out("deny", network="192.0.2.0/24", kick=True)
    assert [(told["kicked"], told["silent"]) for told in master.answers] == [(2, 2)]


def test_without_children_the_answer_comes_at_once() -> None:
    """As while the daemon stops."""
    master = Master()
    master.carries_out("deny", network="192.0.2.0/24", kick=True)
    assert [told["kicked"] for told in master.answers] == [2]
