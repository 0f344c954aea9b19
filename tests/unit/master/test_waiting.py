"""The conditions of ``unpd wait``, and when a request is answered."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from unpd.control.life_verbs import CONDITIONS
from unpd.control.protocol import Request
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.core.model import Asked, Child, Limits, Slot, State, Wanted, WantedPool
from unpd.kernel.credentials import Credentials
from unpd.master import waiting
from unpd.master.runtime import LastReload, Runtime
from unpd.master.waiting import MAX_WAITS, WHY_NOT, begin, due_at, look
from unpd.names import ChildKind, ChildPhase, MasterPhase

LIMITS = Limits(grace_s=1, reload_grace_s=1, start_timeout_s=1, heartbeat_timeout_s=1)
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
                deployment=SimpleNamespace(listeners=listeners),
            ),
        )

    def asks(self, condition: str, timeout: str | None = None) -> None:
        """Begin a request of the number 7."""
        request = Request("wait", {"condition": condition, "timeout": timeout})
        begin(self.runtime, PendingRequest(7, request, Credentials(1, 2, 3)))

    def outcome(self, found: State, condition: str) -> Any:
        """What an answer at once says: why not, or the reason of a failure."""
        self.asks(condition, "0")
        look(self.runtime, found, math.inf)
        answer = self.answers.pop()
        assert answer.pop("number") == 7
        assert answer.get("held", False) is (answer.get("why", "") is None)
        return answer.get("why", answer)


def test_the_conditions_are_those_of_the_verb() -> None:
    """The command refuses any other."""
    assert tuple(WHY_NOT) == CONDITIONS


@pytest.mark.parametrize(
    ("found", "unreachable", "why"),
    [
        (state(READY), set(), None),
        (state(READY), {"metrics"}, None),
        (state(READY, phase=MasterPhase.PROVING), set(), None),
        (state(STARTING), set(), "pool default has no ready worker"),
        (state(STARTING, phase=MasterPhase.STARTING), set(), "the daemon is starting"),
        (state(READY), {"echo"}, "clients reach no listener of service echo"),
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
    assert master.answers == [{"number": 7, "ok": True, "held": False, "why": why}]
    assert due_at(master.runtime) == 160.0
    look(master.runtime, state(READY), 120.0)
    assert master.answers[1:] == [{"number": 7, "ok": True, "held": True, "why": None}] * 2
    assert master.runtime.waits == []
    master.asks("ready")
    master.gone.add(7)
    look(master.runtime, state(STARTING), 130.0)
    assert master.runtime.waits == []
    assert len(master.answers) == 3


def test_too_many_requests_leave_room_for_others() -> None:
    """One more is refused with a sentence."""
    master = Master()
    for _ in range(MAX_WAITS):
        master.asks("drained")
    with pytest.raises(VerbError, match=rf"^{MAX_WAITS} commands wait already: end one, or try"):
        master.asks("drained")
