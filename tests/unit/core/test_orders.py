"""Resizing a pool, reopening the log, and what the state says about itself."""

import pytest

from tests.support.machine import booted, proving, running, wants, wants_iterative
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import next_deadline, step
from unpd.core.model import Slot, State
from unpd.core.readiness import is_ready, unready_pools
from unpd.master.status import faults_of
from unpd.names import MAX_WORKERS, ChildKind, ChildOrder, ChildPhase, MasterPhase


def reasons(state: State) -> tuple[str, ...]:
    """The sentences about the faults that the core sees."""
    return tuple(found.text for found in faults_of(state))


def test_one_worker_more() -> None:
    """TTIN spawns one worker at once, in the next slot."""
    machine = running(wants(2))
    done = machine.take(ev.PoolResized("default", 1))
    assert [(child.birth, child.slot.index, child.generation) for child in done.spawned] == [
        (3, 2, 1)
    ]
    assert done.log_lines("pool.resized") == [{"pool": "default", "workers": 3}]


def test_one_worker_fewer() -> None:
    """TTOU drains the worker of the last slot, and no worker takes its place."""
    machine = running(wants(3))
    assert machine.take(ev.PoolResized("default", -1)).orders == [(3, ChildOrder.RETIRE)]
    assert machine.births(ChildPhase.READY) == [1, 2]
    assert machine.wait(60.0).receivers(ChildOrder.FINISH) == [3]
    assert not machine.exit(3).spawned


def test_never_fewer_than_one() -> None:
    """A pool keeps at least one worker, so that no key press causes an outage."""
    machine = running(wants(2))
    machine.take(ev.PoolResized("default", -1))
    done = machine.take(ev.PoolResized("default", -1))
    assert not done.orders
    assert done.log_lines("pool.not_resized") == [{"pool": "default", "delta": -1, "workers": 1}]
    assert machine.births(ChildPhase.READY) == [1]


def test_an_unknown_pool_is_not_made() -> None:
    """TTIN does nothing without a default pool."""
    machine = running(wants({"slow": 1}))
    done = machine.take(ev.PoolResized("default", 1))
    assert not done.spawned
    assert done.log_lines("pool.not_resized") == [{"pool": "default", "delta": 1, "workers": 0}]


def test_a_surplus_worker_that_starts_drains() -> None:
    """A surplus worker that is still starting drains too. It may have accepted clients
    already, with its report unread in the pipe. At its start timeout it is told to
    finish, and then killed.
    """
    machine = running(wants(1))
    machine.take(ev.PoolResized("default", 1))
    machine.wait(4.0)
    assert machine.take(ev.PoolResized("default", -1)).orders == [(2, ChildOrder.RETIRE)]
    assert machine.ready(2) == ()
    assert not machine.wait(5.9).orders
    assert machine.wait(0.2).orders == [(2, ChildOrder.FINISH)]
    assert machine.wait(3.0).orders == [(2, ChildOrder.KILL)]
    assert not machine.exit(2).spawned


def test_never_more_than_fit() -> None:
    """A pool does not grow beyond the number of rows that two generations of all pools
    have on the scoreboard.
    """
    wanted = wants({"default": 1, "slow": MAX_WORKERS - 2})
    full = wanted.resized("default", 1)
    assert full.workers["default"] == 2
    assert full.resized("default", 1) == full.resized("slow", 1) == full
    assert full.resized("slow", -1).workers["slow"] == MAX_WORKERS - 3


def test_a_slot_that_is_wanted_again_is_filled_beside_its_drain() -> None:
    """After TTOU and TTIN the draining worker keeps its connections, and a new one
    serves.
    """
    machine = running(wants(2))
    machine.take(ev.PoolResized("default", -1))
    done = machine.take(ev.PoolResized("default", 1))
    assert [(child.birth, child.slot.index) for child in done.spawned] == [(3, 1)]
    assert machine.child(2).phase is ChildPhase.DRAINING
    assert machine.state.holder(1, Slot(ChildKind.WORKER, "default", 1)) == machine.child(3)


def test_the_back_off_of_a_surplus_slot_is_dropped() -> None:
    """A slot that is no longer wanted has no respawn due, and does not make the daemon
    degraded.
    """
    machine = running(wants(2))
    machine.exit(2)
    assert machine.due_in_s == pytest.approx(0.1)
    machine.take(ev.PoolResized("default", -1))
    assert machine.due_in_s is None
    assert not machine.state.throttles
    assert not reasons(machine.state)


def test_a_resize_during_a_proof_changes_the_serving_generation() -> None:
    """A resize during a proof changes the generation that serves. The candidate keeps
    to its configuration.
    """
    machine = proving(wants(1), wants(1))
    done = machine.take(ev.PoolResized("default", 1))
    assert [(child.generation, child.slot.index) for child in done.spawned] == [(1, 1)]


def test_a_rotated_log_is_reopened_in_any_phase() -> None:
    """The master opens the file and gives it to its children, whatever they do. No
    signal goes to them.
    """
    machine = running(wants(2, exporter=True))
    machine.wait(60)
    machine.exit(3)
    done = machine.take(ev.LogReopenAsked())
    assert list(done) == [fx.ReopenLog()]


def test_degraded_names_an_iterative_service_that_nothing_serves() -> None:
    """A ready worker of another service in the pool does not hide it."""
    machine = running(wants_iterative("daytime", "echo"))
    assert reasons(machine.state) == ()
    machine.exit(2)
    assert reasons(machine.state) == (
        "service echo has no ready iterative worker",
        "iterative worker echo keeps dying early",
    )
    assert not is_ready(machine.state)
    machine.wait(0.1)
    machine.ready(3)
    assert is_ready(machine.state)


def test_degraded_names_what_is_missing() -> None:
    """The status names a pool without a ready worker and each slot that keeps dying
    early. It is empty again when all serve.
    """
    machine = running(wants({"default": 2, "slow": 1}, exporter=True))
    assert reasons(machine.state) == ()
    machine.exit(1)
    machine.exit(4)
    assert reasons(machine.state) == (
        "pool slow has no ready worker",
        "exporter exporter/0 keeps dying early",
        "worker slow/0 keeps dying early",
    )
    machine.wait(0.1)
    assert "worker slow/0 keeps dying early" in reasons(machine.state), (
        "the respawn alone cleared the record"
    )
    machine.ready(*machine.births(ChildPhase.STARTING))
    assert reasons(machine.state) == ()


def test_one_death_of_many_is_not_degraded() -> None:
    """One worker that dies after serving, and its starting successor, do not make the
    daemon degraded.
    """
    machine = running(wants(2))
    machine.wait(60)
    machine.exit(1)
    assert reasons(machine.state) == ()


def test_starting_and_stopping_are_not_degraded() -> None:
    """A starting or stopping daemon is not degraded."""
    machine = booted(wants(1))
    assert reasons(machine.state) == ()
    machine.ready(1)
    machine.exit(1)
    assert reasons(machine.state)
    machine.stop()
    assert reasons(machine.state) == ()


def test_draining_workers_do_not_make_a_pool_ready() -> None:
    """Draining workers do not make a pool ready, because they accept no connections."""
    machine = running(wants(2))
    machine.take(ev.PoolResized("default", -1))
    machine.exit(1)
    assert machine.births(ChildPhase.DRAINING) == [2]
    assert unready_pools(machine.state) == ((ChildKind.WORKER, "default"),)


def test_a_step_does_not_change_the_state_that_it_was_given() -> None:
    """A step does not change the given state: neither its children, nor its back-offs,
    nor its wanted configuration.
    """
    before = running(wants(2, exporter=True)).state
    copy = before.copy()
    for event in (
        ev.ChildExited(1, ""),
        ev.PoolResized("default", 1),
        ev.StopAsked(quick=True, by=""),
        ev.ReloadAsked(1),
    ):
        step(before, event, 2000.0)
        assert before == copy
    assert before.wanted.workers == {"default": 2}


def test_a_new_state_is_due_at_once() -> None:
    """In a new state only the first spawns are due, and they are due at once."""
    assert next_deadline(State(wants(1))) == 0.0
    assert next_deadline(State(wants({}))) is None


def test_a_configuration_without_any_service_is_ready_at_once() -> None:
    """Without any service the daemon is ready at once, at the start and after a
    reload.
    """
    machine = running(wants({}))
    assert machine.state.phase is MasterPhase.RUNNING
    machine.take(ev.ReloadAsked(1))
    assert machine.take(ev.ConfigLoaded(wants({})), ev.TimePassed()).answers == [(1, "")]


def test_every_change_of_phase_is_shown() -> None:
    """Each change of phase is shown on the scoreboard once."""
    machine = booted(wants(1))
    shown = [*machine.ready(1), *machine.stop(), *machine.wait(10.0)]
    assert [effect.child.phase for effect in shown if isinstance(effect, fx.ShowPhase)] == [
        ChildPhase.READY,
        ChildPhase.DRAINING,
        ChildPhase.KILLED,
    ]
