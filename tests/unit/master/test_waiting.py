"""The conditions of ``unpd wait``, and when a request is answered."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from unpd.control.answer_fields import mismatch
from unpd.control.life_verbs import CONDITIONS as CONDITIONS_OF_THE_VERB
from unpd.control.protocol import Request
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.control.verbs import VERBS
from unpd.control.view_fields import WAIT
from unpd.core.model import Asked, Child, Limits, Slot, State, Wanted, WantedPool
from unpd.kernel.credentials import Credentials
from unpd.master import waiting
from unpd.master.runtime import LastReload, Runtime
from unpd.master.waiting import CONDITIONS, LOOK_S, MAX_WAITS, begin, due_at, look
from unpd.names import ChildKind, ChildPhase, Halt, MasterPhase

LIMITS = Limits(
    lame_duck_s=0, grace_s=1, reload_grace_s=1, start_timeout_s=1, heartbeat_timeout_s=1
)
WANTED = Wanted({(ChildKind.WORKER, "default"): WantedPool(1, "recipe")}, LIMITS)
SLOT = Slot(ChildKind.WORKER, "default", 0)


def state(*phases: ChildPhase, phase: MasterPhase = MasterPhase.RUNNING, **more: Any) -> State:
    """The state of a core that wants a worker. ``phases``: those of its children; one
    that drains has lost its slot.
    """
    children = {
        birth: Child(
            birth,
            SLOT,
            1,
            each,
            0.0,
            retired_by=2 if each is ChildPhase.DRAINING else None,
        )
        for birth, each in enumerate(phases, 1)
    }
    return State(WANTED, phase=phase, children=children, **more)


READY, STARTING, DRAINING = ChildPhase.READY, ChildPhase.STARTING, ChildPhase.DRAINING


class Master:
    """As much of a runtime as the requests use."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.gone: set[int] = set()
        self.unreachable: set[str] = set()
        self.lanes: list[Any] = []
        control = SimpleNamespace(
            answer=lambda number, **fields: self.answers.append({"number": number, **fields}),
            is_waited_for=lambda number: number not in self.gone,
        )
        listeners = SimpleNamespace(unreachable=lambda: self.unreachable)
        self.runtime = cast(
            Runtime,
            SimpleNamespace(
                control=control,
                waits=[],
                last_reload=None,
                processes={},
                lanes=SimpleNamespace(unkept=lambda: self.lanes),
                open_connections=lambda _birth: 0,
                live=SimpleNamespace(halts={}),
                deployment=SimpleNamespace(
                    listeners=listeners, config=SimpleNamespace(services={"echo": None})
                ),
            ),
        )

    def asks(self, condition: str, timeout: str | None = None, service: str | None = None) -> None:
        """Begin a request of the number 7."""
        values = {"condition": condition, "service": service, "timeout": timeout}
        request = Request("wait", values)
        begin(self.runtime, PendingRequest(7, request, Credentials(1, 2, 3)))

    def outcome(self, found: State, condition: str, service: str | None = None) -> Any:
        """What an answer at once says: why not, or the reason of a failure."""
        self.asks(condition, "0", service)
        look(self.runtime, found, math.inf)
        answer = self.answers.pop()
        assert answer.pop("number") == 7
        if answer["ok"]:
            assert mismatch(answer, WAIT) == ""
            assert answer["held"] is (answer["why"] is None)
            assert answer["stopping"] is (answer["why"] == "the daemon is stopping")
        return answer.get("why", answer)


def test_the_conditions_are_those_of_the_verb() -> None:
    """The command refuses any other."""
    assert tuple(CONDITIONS) == CONDITIONS_OF_THE_VERB


@pytest.mark.parametrize(
    ("found", "unreachable", "why"),
    [
        (state(READY), set(), None),
        (state(READY), {"metrics"}, None),
        (state(READY, phase=MasterPhase.PROVING), set(), None),
        (state(STARTING), set(), "pool default has no ready worker"),
        (state(STARTING, phase=MasterPhase.STARTING), set(), "the daemon is starting"),
        (state(READY), {"echo"}, "clients reach no listener of service echo"),
        (state(READY, phase=MasterPhase.LAME), set(), "the daemon is stopping"),
        (state(READY, phase=MasterPhase.STOPPING), set(), "the daemon is stopping"),
    ],
)
def test_a_daemon_that_serves_is_ready(
    found: State, unreachable: set[str], why: str | None
) -> None:
    """Each service needs a ready child and a listener; the exporter does not count."""
    master = Master()
    master.unreachable = unreachable
    assert master.outcome(found, "ready") == why


def test_a_daemon_whose_workers_keep_dying_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another worker of the pool is ready."""
    found = SimpleNamespace(text="worker default/1 keeps dying early")
    monkeypatch.setattr(waiting, "faults_of", lambda _: (found,))
    assert Master().outcome(state(READY), "ready") == found.text


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (state(READY), None),
        (state(READY, phase=MasterPhase.STARTING), None),
        (state(READY, phase=MasterPhase.LOADING), "a reload is under way"),
        (state(READY, phase=MasterPhase.CUTTING), "a reload is under way"),
        (state(READY, phase=MasterPhase.PROVING), "a reload is under way"),
        (state(READY, queued=Asked()), "a reload is under way"),
        (state(READY, phase=MasterPhase.LAME), "the daemon is stopping"),
        (state(READY, phase=MasterPhase.STOPPING), "the daemon is stopping"),
    ],
)
def test_a_reload_that_is_over_is_not_waited_for(found: State, why: str | None) -> None:
    """Nor is one that nobody asked for. One that waits for its turn is."""
    assert Master().outcome(found, "reloaded") == why


def test_a_refused_reload_is_a_failure_with_its_reason() -> None:
    """Until another one succeeds; while that runs, it is waited for."""
    master = Master()
    master.runtime.last_reload = LastReload("no such user", 0.0, 1)
    reason = "the last reload was refused: no such user"
    assert master.outcome(state(READY), "reloaded") == {"ok": False, "reason": reason}
    running = state(READY, phase=MasterPhase.LOADING)
    assert master.outcome(running, "reloaded") == "a reload is under way"
    master.runtime.last_reload = LastReload("", 0.0, 2)
    assert master.outcome(state(READY), "reloaded") is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (state(READY, STARTING), None),
        (state(READY, DRAINING), "1 retired process is left, with 0 connections"),
        (state(DRAINING, DRAINING), "2 retired processes are left, with 0 connections"),
    ],
)
def test_a_daemon_without_retired_children_is_drained(found: State, why: str | None) -> None:
    """Whatever the others do."""
    assert Master().outcome(found, "drained") == why


def test_a_request_waits_until_the_condition_holds_or_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a timeout it waits for ever, and a command that has gone is forgotten."""
    monkeypatch.setattr(waiting, "now", lambda: 100.0)
    master = Master()
    assert due_at(master.runtime) == math.inf
    for timeout in ("10", "1m", None):
        master.asks("ready", timeout)
    assert due_at(master.runtime) == 110.0
    look(master.runtime, state(STARTING), 109.9)
    assert master.answers == []
    look(master.runtime, state(STARTING), 110.0)
    why = "pool default has no ready worker"
    (answer,) = master.answers
    assert (answer["number"], answer["held"], answer["why"]) == (7, False, why)
    assert due_at(master.runtime) == 160.0
    look(master.runtime, state(READY), 120.0)
    assert [(each["held"], each["why"]) for each in master.answers[1:]] == [(True, None)] * 2
    assert master.runtime.waits == []
    master.asks("ready")
    master.gone.add(7)
    look(master.runtime, state(STARTING), 130.0)
    assert master.runtime.waits == []
    assert len(master.answers) == 3


def lane(generation: int = 1, sessions: int = 2) -> Any:
    """A lane that a dispatcher has left with its sessions."""
    roll = SimpleNamespace(enrolled=dict.fromkeys(range(sessions)))
    slot = Slot(ChildKind.DISPATCHER, "default", 0)
    return SimpleNamespace(slot=slot, generation=generation, roll=roll, ends_at=None)


def test_the_sessions_of_a_retired_dispatcher_that_was_killed_are_waited_for() -> None:
    """They are processes of an earlier generation. Those that get a new dispatcher are
    none.
    """
    master = Master()
    master.lanes = [lane()]
    why = "retired processes have ended and left 2 connections"
    assert master.outcome(state(READY), "drained") == why
    pool = WantedPool(1, "recipe")
    wanted = Wanted({(ChildKind.DISPATCHER, "default"): pool}, LIMITS)
    assert master.outcome(State(wanted, phase=MasterPhase.RUNNING), "drained") is None


def test_connections_are_counted_for_an_answer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell looks in every turn."""
    master = Master()
    master.asks("drained")

    def count(*_: object) -> None:
        raise AssertionError("nobody is answered")

    monkeypatch.setattr(waiting, "all_left", count)
    for at in range(10):
        look(master.runtime, state(READY, DRAINING), float(at))
    assert len(master.runtime.waits) == 1


def test_the_drain_of_a_service_is_looked_at_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No event tells that a client has gone. It is a failure if the drain ends."""
    master, left = Master(), [2]
    monkeypatch.setattr(waiting, "_open", lambda *_: left[0])
    halts = master.runtime.live.halts
    halts["echo"] = cast(Any, SimpleNamespace(halt=Halt.DRAINING))
    why = "2 connections of echo are left"
    assert master.outcome(state(READY), "drained", "echo") == why
    master.asks("drained", service="echo")
    look(master.runtime, state(READY), 100.0)
    assert due_at(master.runtime) == 100.0 + LOOK_S
    left[0] = 0
    look(master.runtime, state(READY), 100.0 + LOOK_S / 2)
    assert master.answers == []
    look(master.runtime, state(READY), 100.0 + LOOK_S)
    assert master.answers.pop()["held"] is True
    halts["echo"] = cast(Any, SimpleNamespace(halt=Halt.PAUSED))
    failure = master.outcome(state(READY), "drained", "echo")
    assert failure["reason"].startswith("echo is not draining: it is paused; unpd drain echo")
    with pytest.raises(VerbError, match=r'no service "ehco"; it has "echo"') as refused:
        master.asks("drained", service="ehco")
    assert refused.value.fields == {"usage": True}
    master.asks("drained", service="echo")
    services = cast(dict[str, Any], master.runtime.deployment.config.services)
    del services["echo"]  # by a reload
    look(master.runtime, state(READY), 200.0)
    failure = master.answers.pop()
    assert failure["reason"] == "echo is not draining: the daemon has no such service any more"
    assert "usage" not in failure


def test_too_many_requests_leave_room_for_others() -> None:
    """One more is refused with a sentence, and a field from which its command knows
    that it may ask again. The manual says how many may wait.
    """
    master = Master()
    for _ in range(MAX_WAITS):
        master.asks("drained")
    sentence = rf"^{MAX_WAITS} commands wait already: end one, or try"
    with pytest.raises(VerbError, match=sentence) as refused:
        master.asks("drained")
    assert refused.value.fields == {"full": True}
    assert f"At most {MAX_WAITS} commands may wait" in VERBS["wait"].description
