"""The machine's tables are complete, and each entry does what it should."""

from itertools import product
from typing import get_args

import pytest

from tests.support.machine import Machine, booted, running, wants
from unpd.core import events as ev
from unpd.core.children import CHILD_TABLE, Happening, happened
from unpd.core.draft import Draft
from unpd.core.machine import EVENT_TABLE, SETTLE
from unpd.core.model import Child, Slot, State
from unpd.core.policy import CUT_GRACE_S
from unpd.names import ENDING_PHASES, ChildKind, ChildOrder, ChildPhase, ExitCode, MasterPhase

NOW = 1000.0
WORKER = Slot(ChildKind.WORKER, "default", 0)
EXPORTER = Slot(ChildKind.EXPORTER, "exporter", 0)

STAYS: tuple[list[ChildOrder], None] = ([], None)
"""No order, and the same phase."""

OUTCOMES: dict[tuple[ChildPhase, Happening], tuple[list[ChildOrder], ChildPhase | None]] = {
    (ChildPhase.STARTING, Happening.REPORTED_READY): ([], ChildPhase.READY),
    (ChildPhase.STARTING, Happening.REPORTED_FAILURE): STAYS,
    (ChildPhase.STARTING, Happening.OVERDUE): ([ChildOrder.KILL], ChildPhase.KILLED),
    (ChildPhase.STARTING, Happening.FELL_SILENT): STAYS,
    (ChildPhase.READY, Happening.REPORTED_READY): STAYS,
    (ChildPhase.READY, Happening.REPORTED_FAILURE): STAYS,
    (ChildPhase.READY, Happening.OVERDUE): STAYS,
    (ChildPhase.READY, Happening.FELL_SILENT): ([ChildOrder.ABORT], ChildPhase.KILLED),
    (ChildPhase.DRAINING, Happening.REPORTED_READY): STAYS,
    (ChildPhase.DRAINING, Happening.REPORTED_FAILURE): STAYS,
    (ChildPhase.DRAINING, Happening.OVERDUE): ([ChildOrder.FINISH], None),
    (ChildPhase.DRAINING, Happening.FELL_SILENT): ([ChildOrder.ABORT], ChildPhase.KILLED),
    (ChildPhase.KILLED, Happening.REPORTED_READY): STAYS,
    (ChildPhase.KILLED, Happening.REPORTED_FAILURE): STAYS,
    (ChildPhase.KILLED, Happening.OVERDUE): ([ChildOrder.KILL], None),
    (ChildPhase.KILLED, Happening.FELL_SILENT): STAYS,
}


def draft_of(child: Child) -> Draft:
    """Build a step in which this is the only child."""
    state = State(wants(1, exporter=True), phase=MasterPhase.RUNNING)
    state.children[child.birth] = child
    return Draft(state, NOW)


def orders(draft: Draft) -> list[ChildOrder]:
    """Return the orders to the child."""
    return [effect.order for effect in draft.effects if hasattr(effect, "order")]


def test_every_pair_of_phase_and_happening_has_an_entry() -> None:
    """Every pair of phase and happening has an entry."""
    pairs = {(phase, happening) for phase, row in CHILD_TABLE.items() for happening in row}
    assert pairs == set(product(ChildPhase, Happening)) == set(OUTCOMES)


@pytest.mark.parametrize(("phase", "happening"), list(product(ChildPhase, Happening)))
def test_what_happens_to_a_child(phase: ChildPhase, happening: Happening) -> None:
    """Each pair gives its orders and its next phase."""
    draft = draft_of(Child(1, WORKER, 1, phase, NOW - 50, ready_at=NOW - 40, deadline_at=NOW))
    happened(draft, 1, happening)
    ordered, after = OUTCOMES[phase, happening]
    assert (orders(draft), draft.state.children[1].phase) == (ordered, after or phase)


@pytest.mark.parametrize("happening", list(Happening))
def test_what_happens_to_the_dead_is_ignored(happening: Happening) -> None:
    """Events of a dead child are ignored, because an event may cross a death."""
    draft = draft_of(Child(1, WORKER, 1, ChildPhase.READY, NOW))
    happened(draft, 2, happening)
    assert not draft.effects


@pytest.mark.parametrize(
    ("slot", "finishing", "order", "deadline_at"),
    [
        (WORKER, False, ChildOrder.FINISH, NOW + CUT_GRACE_S),
        (WORKER, True, ChildOrder.KILL, None),
        (EXPORTER, False, ChildOrder.KILL, None),
        (EXPORTER, True, ChildOrder.KILL, None),
    ],
)
def test_the_end_of_a_drain(
    slot: Slot, finishing: bool, order: ChildOrder, deadline_at: float | None
) -> None:
    """At the end of a drain a worker is told to finish. A worker that was told already,
    and an exporter, are killed.
    """
    draft = draft_of(
        Child(
            1,
            slot,
            1,
            ChildPhase.DRAINING,
            NOW - 50,
            ready_at=NOW - 40,
            deadline_at=NOW,
            retired_by=1,
            finishing=finishing,
        )
    )
    happened(draft, 1, Happening.OVERDUE)
    assert orders(draft) == [order]
    assert draft.state.children[1].deadline_at == deadline_at


EVENTS: dict[type[ev.Event], ev.Event] = {
    ev.Booted: ev.Booted(),
    ev.TimePassed: ev.TimePassed(),
    ev.ChildReady: ev.ChildReady(1),
    ev.ChildFailed: ev.ChildFailed(1, "why", ExitCode.FAILED),
    ev.ChildExited: ev.ChildExited(1, "exit code 1"),
    ev.ForkFailed: ev.ForkFailed(99, "why"),
    ev.BeatsRead: ev.BeatsRead({1: NOW, 99: 0.0}),
    ev.ReloadAsked: ev.ReloadAsked(7),
    ev.ListenersRenewed: ev.ListenersRenewed(),
    ev.ConfigLoaded: ev.ConfigLoaded(wants(1, recipes={"default": "new"})),
    ev.ConfigRefused: ev.ConfigRefused("why"),
    ev.StopAsked: ev.StopAsked(quick=False, by="a test"),
    ev.PoolResized: ev.PoolResized("default", 1),
    ev.PoolScaled: ev.PoolScaled(7, "default", 2, 1),
    ev.LogReopenAsked: ev.LogReopenAsked(),
}

NEVER = None
"""An event that the shell cannot send in this phase."""

NEXT: dict[tuple[type[ev.Event], MasterPhase], MasterPhase | None] = {
    **{(kind, phase): phase for kind in EVENTS for phase in MasterPhase},
    **{(ev.StopAsked, phase): MasterPhase.STOPPING for phase in MasterPhase},
    **{
        (kind, phase): NEVER
        for kind in (ev.ConfigLoaded, ev.ConfigRefused)
        for phase in MasterPhase
        if phase not in ENDING_PHASES
    },
    **{
        (ev.Booted, phase): NEVER
        for phase in MasterPhase
        if phase not in (MasterPhase.STARTING, MasterPhase.STOPPING)
    },
    (ev.ConfigLoaded, MasterPhase.LOADING): MasterPhase.PROVING,
    (ev.ConfigRefused, MasterPhase.LOADING): MasterPhase.RUNNING,
    (ev.ReloadAsked, MasterPhase.RUNNING): MasterPhase.LOADING,
    (ev.ListenersRenewed, MasterPhase.RUNNING): MasterPhase.LOADING,
    (ev.ChildReady, MasterPhase.STARTING): MasterPhase.RUNNING,
    (ev.ChildFailed, MasterPhase.STARTING): MasterPhase.STOPPING,
    # In CUTTING the first child is the last one that drains.
    (ev.ChildExited, MasterPhase.CUTTING): MasterPhase.PROVING,
}


def in_phase(phase: MasterPhase) -> Machine:
    """Build a machine in this phase."""
    wanted = wants(1, lame_duck_s=5.0 if phase is MasterPhase.LAME else 0.0)
    machine = booted(wanted) if phase is MasterPhase.STARTING else running(wanted, 2)
    if phase is MasterPhase.CUTTING:
        machine.reload(wants(1))
        machine.ready(2)
    if phase in (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING):
        machine.take(ev.ReloadAsked(None))
    if phase in (MasterPhase.CUTTING, MasterPhase.PROVING):
        machine.take(ev.ConfigLoaded(machine.edited(wants(1))))
    if phase in ENDING_PHASES:
        machine.stop()
    assert machine.state.phase is phase
    return machine


def test_every_pair_of_event_and_phase_has_an_entry() -> None:
    """Every event has an entry for every phase, and the list of events is complete."""
    assert set(EVENT_TABLE) == set(get_args(ev.Event)) == set(EVENTS)
    assert all(set(row) == set(MasterPhase) for row in EVENT_TABLE.values())


def test_every_phase_has_its_condition_for_the_end() -> None:
    """Every phase has its own condition for its end, and nothing else has one."""
    assert set(SETTLE) == set(MasterPhase)


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        pytest.param(kind, phase, id=f"{kind.__name__}-{phase}")
        for kind, phase in product(EVENTS, MasterPhase)
    ],
)
def test_what_an_event_does_to_the_master(kind: type[ev.Event], phase: MasterPhase) -> None:
    """Each pair leads to its phase, or is an error of our own."""
    machine = in_phase(phase)
    if NEXT[kind, phase] is NEVER:
        with pytest.raises(AssertionError, match=f"{kind.__name__} cannot happen in phase {phase}"):
            machine.take(EVENTS[kind])
    else:
        machine.take(EVENTS[kind])
        assert machine.state.phase is NEXT[kind, phase]
