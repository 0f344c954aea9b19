"""The smaller orders, a resized pool and a rotated log; and what the state reports of
itself.
"""

import pytest

from tests.support.machine import booted, proving, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import next_deadline, step
from unpd.core.model import Slot, State
from unpd.core.readiness import unready_pools
from unpd.master.status import degraded
from unpd.names import MAX_WORKERS, ChildKind, ChildOrder, ChildPhase, MasterPhase


def test_one_worker_more() -> None:
    """After TTIN a worker is born at once, in the next slot."""
    machine = running(wants(2))
    done = machine.take(ev.PoolResized("default", 1))
    assert [(child.birth, child.slot.index, child.generation) for child in done.born] == [(3, 2, 1)]
    assert done.notes("pool.resized") == [{"pool": "default", "workers": 3}]


def test_one_worker_fewer() -> None:
    """After TTOU the worker of the last slot drains, and no other takes its place."""
    machine = running(wants(3))
    assert machine.take(ev.PoolResized("default", -1)).orders == [(3, ChildOrder.RETIRE)]
    assert machine.births(ChildPhase.READY) == [1, 2]
    assert machine.wait(60.0).told(ChildOrder.FINISH) == [3]
    assert not machine.exit(3).born


def test_never_fewer_than_one() -> None:
    """A pool keeps its last worker: a pool without workers would be an outage."""
    machine = running(wants(2))
    machine.take(ev.PoolResized("default", -1))
    done = machine.take(ev.PoolResized("default", -1))
    assert not done.orders
    assert done.notes("pool.not_resized") == [{"pool": "default", "delta": -1, "workers": 1}]
    assert machine.births(ChildPhase.READY) == [1]


def test_an_unknown_pool_is_not_made() -> None:
    """Without a default pool TTIN changes nothing."""
    machine = running(wants({"slow": 1}))
    done = machine.take(ev.PoolResized("default", 1))
    assert not done.born
    assert done.notes("pool.not_resized") == [{"pool": "default", "delta": 1, "workers": 0}]


def test_a_surplus_worker_that_starts_drains() -> None:
    """A surplus worker drains even while it starts, because it may have accepted
    connections before its report is read. At the deadline of its start it is ordered to
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
    assert not machine.exit(2).born


def test_never_more_workers_than_fit() -> None:
    """A pool does not grow beyond MAX_WORKERS in all: two generations of all pools
    together need rows on the scoreboard.
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
    assert [(child.birth, child.slot.index) for child in done.born] == [(3, 1)]
    assert machine.child(2).phase is ChildPhase.DRAINING
    assert machine.state.holder(1, Slot(ChildKind.WORKER, "default", 1)) == machine.child(3)


def test_the_back_off_of_a_surplus_slot_is_forgotten() -> None:
    """Nothing is due for a slot that is not wanted, and it does not make the daemon
    degraded.
    """
    machine = running(wants(2))
    machine.exit(2)
    assert machine.due_in == pytest.approx(0.1)
    machine.take(ev.PoolResized("default", -1))
    assert machine.due_in is None
    assert not machine.state.throttles
    assert not degraded(machine.state)


def test_a_resize_during_a_proof_belongs_to_the_generation_that_serves() -> None:
    """A resize leaves the candidate as its configuration wants it."""
    machine = proving(wants(1), wants(1))
    done = machine.take(ev.PoolResized("default", 1))
    assert [(child.generation, child.slot.index) for child in done.born] == [(1, 1)]


def test_a_rotated_log_is_opened_again_by_all() -> None:
    """The master opens the log first, which makes the file. Then every child does, a
    starting one too: it would write into the old file for all its life.
    """
    machine = running(wants(2, exporter=True))
    machine.wait(60)
    machine.exit(3)
    done = machine.take(ev.LogReopenAsked())
    assert done[0] == fx.ReopenLog()
    assert done.orders == [(birth, ChildOrder.REOPEN_LOG) for birth in (1, 2, 4)]


def test_draining_children_follow_the_log_and_killed_ones_do_not() -> None:
    """A draining child may live for days more, so it opens the new log file. A killed
    child does not.
    """
    machine = proving(wants(1), wants(2))
    machine.ready(2)
    machine.exit(3)
    machine.wait(60.0)
    machine.wait(3.0)
    machine.reload(wants(1))
    assert machine.births(ChildPhase.KILLED) == [2]
    assert 2 not in machine.take(ev.LogReopenAsked()).told(ChildOrder.REOPEN_LOG)
    machine.ready(max(machine.births()))
    assert machine.births(ChildPhase.DRAINING) == [1]
    assert 1 in machine.take(ev.LogReopenAsked()).told(ChildOrder.REOPEN_LOG)


def test_degraded_names_what_is_missing() -> None:
    """A pool without a ready worker, and each slot whose children keep dying early, are
    named until they serve again.
    """
    machine = running(wants({"default": 2, "slow": 1}, exporter=True))
    assert degraded(machine.state) == ()
    machine.exit(1)
    machine.exit(4)
    assert degraded(machine.state) == (
        "pool slow has no ready worker",
        "exporter exporter/0 keeps dying early",
        "worker slow/0 keeps dying early",
    )
    machine.wait(0.1)
    # The worker of this slot starts again, but it did so before.
    assert "worker slow/0 keeps dying early" in degraded(machine.state)
    machine.ready(*machine.births(ChildPhase.STARTING))
    assert degraded(machine.state) == ()


def test_one_death_of_many_is_not_degraded() -> None:
    """The death of a worker that had served does not make the daemon degraded: its
    successor starts at once.
    """
    machine = running(wants(2))
    machine.wait(60)
    machine.exit(1)
    assert degraded(machine.state) == ()


def test_starting_and_stopping_are_not_degraded() -> None:
    """A starting or stopping daemon is never whole, and is not called degraded."""
    machine = booted(wants(1))
    assert degraded(machine.state) == ()
    machine.ready(1)
    machine.exit(1)
    assert degraded(machine.state)
    machine.stop()
    assert degraded(machine.state) == ()


def test_draining_workers_do_not_make_a_pool_ready() -> None:
    """A draining worker accepts no new connections, so its pool is not ready."""
    machine = running(wants(2))
    machine.take(ev.PoolResized("default", -1))
    machine.exit(1)
    assert machine.births(ChildPhase.DRAINING) == [2]
    assert unready_pools(machine.state) == ("default",)


def test_a_step_does_not_change_the_state_that_it_was_given() -> None:
    """A step changes neither the children, nor the back-offs, nor the wanted children
    of its argument.
    """
    before = running(wants(2, exporter=True)).state
    copy = before.copy()
    stop = ev.StopAsked(quick=True, by="")
    for event in (ev.ChildExited(1, ""), ev.PoolResized("default", 1), stop, ev.ReloadAsked(1)):
        step(before, event, 2000.0)
        assert before == copy
    assert before.wanted.workers == {"default": 2}


def test_a_new_state_waits_for_nothing_but_its_first_births() -> None:
    """The first births are due at once; a state without wanted children waits for
    nothing.
    """
    assert next_deadline(State(wants(1))) == 0.0
    assert next_deadline(State(wants({}))) is None


def test_a_configuration_without_any_service_is_ready_at_once() -> None:
    """Without a service, a start and a reload have no worker to wait for."""
    machine = running(wants({}))
    assert machine.state.phase is MasterPhase.RUNNING
    machine.take(ev.ReloadAsked(1))
    assert machine.take(ev.ConfigLoaded(wants({})), ev.TimePassed()).answers == [(1, "")]


def test_every_change_of_phase_is_shown() -> None:
    """Each change of a child's phase is shown on the scoreboard once."""
    machine = booted(wants(1))
    shown = [*machine.ready(1), *machine.stop(), *machine.wait(10.0)]
    assert [effect.child.phase for effect in shown if isinstance(effect, fx.ShowPhase)] == [
        ChildPhase.READY,
        ChildPhase.DRAINING,
        ChildPhase.KILLED,
    ]
