"""The stop: graceful within grace_s, quick within a second, from every phase, whatever
the children do.
"""

import pytest

from tests.support.machine import Machine, booted, proving, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.policy import POLICIES
from unpd.names import ENDING_PHASES, ChildKind, ChildOrder, ChildPhase, ExitCode, MasterPhase


def test_a_graceful_stop_tells_the_workers_to_finish_and_the_exporter_nothing() -> None:
    """A graceful stop closes the listeners and lets the workers finish. The exporter
    goes on, so that a scrape can watch the drain.
    """
    machine = running(wants(2, exporter=True))
    done = machine.stop()
    assert done.orders == [(2, ChildOrder.FINISH), (3, ChildOrder.FINISH)]
    assert done.of_type(fx.CloseListeners)
    assert done.log_lines("master.stopping") == [{"quick": False, "by": "a test"}]
    assert machine.births(ChildPhase.READY) == [1]


def test_the_exporter_finishes_after_the_last_worker() -> None:
    """The exporter finishes after the last worker. Then the master leaves with exit
    code 0 and names the origin of the stop.
    """
    machine = running(wants(2, exporter=True))
    machine.stop()
    assert not machine.exit(2).orders
    assert machine.exit(3).orders == [(1, ChildOrder.FINISH)]
    assert machine.exit(1).of_type(fx.Leave) == [fx.Leave(ExitCode.DONE, "stopped by a test")]


def test_without_an_exporter_the_last_worker_is_the_end() -> None:
    """Without an exporter the master leaves after the last worker."""
    machine = running(wants(2))
    machine.stop()
    assert not machine.exit(2).of_type(fx.Leave)
    assert machine.exit(1).of_type(fx.Leave)


@pytest.mark.parametrize("grace_s", [0.1, 10.0, 3600.0])
def test_workers_that_do_not_finish_are_killed_at_four_fifths_of_the_grace(grace_s: float) -> None:
    """Workers that do not finish are killed at four fifths of the grace. The rest is
    for the exporter, which is killed before the grace is over.
    """
    machine = running(wants(2, exporter=True, grace_s=grace_s))
    machine.stop()
    assert not machine.wait(0.79 * grace_s).orders
    done = machine.wait(0.02 * grace_s)
    assert done.orders == [(2, ChildOrder.KILL), (3, ChildOrder.KILL)]
    assert len(done.log_lines("worker.drain_timed_out")) == 2
    machine.exit(2, 3)
    assert machine.wait(0.15 * grace_s).orders == [(1, ChildOrder.KILL)]
    assert machine.exit(1).of_type(fx.Leave)


def test_a_worker_that_starts_is_told_to_finish_too() -> None:
    """A starting worker gets the order too. The signal stays pending until the worker
    can take it.
    """
    machine = running(wants(2))
    machine.exit(1)
    machine.wait(0.1)
    assert machine.births(ChildPhase.STARTING) == [3]
    assert machine.stop().receivers(ChildOrder.FINISH) == [2, 3]
    assert machine.ready(3) == ()
    assert machine.child(3).phase is ChildPhase.DRAINING


def test_nothing_is_spawned_during_a_stop() -> None:
    """During a stop no child is spawned: neither after a death, nor after a back-off,
    nor for TTIN.
    """
    machine = running(wants(3, exporter=True))
    machine.exit(2)
    machine.stop()
    machine.exit(3)
    machine.exit(1)
    done = machine.take(
        ev.PoolResized("default", 1),
        ev.ReloadAsked(None),
        ev.ConfigLoaded(wants(5)),
        ev.TimePassed(),
    )
    assert not done.spawned
    assert not machine.wait(7.9).spawned


def test_an_exporter_that_dies_during_the_stop_is_not_awaited() -> None:
    """If the exporter dies first, the master leaves after the last worker."""
    machine = running(wants(1, exporter=True))
    machine.stop()
    assert not machine.exit(1).of_type(fx.Leave)
    assert machine.exit(2).of_type(fx.Leave)


def test_a_quick_stop_tells_all_to_leave_and_kills_after_a_second() -> None:
    """A quick stop tells workers and exporter to leave, and kills them after a
    second.
    """
    machine = running(wants(2, exporter=True))
    assert machine.stop(quick=True).orders == [
        (1, ChildOrder.LEAVE),
        (2, ChildOrder.LEAVE),
        (3, ChildOrder.LEAVE),
    ]
    assert not machine.wait(0.99).orders
    assert machine.wait(0.02).orders == [
        (1, ChildOrder.KILL),
        (2, ChildOrder.KILL),
        (3, ChildOrder.KILL),
    ]
    assert machine.exit(1, 2, 3).of_type(fx.Leave) == [fx.Leave(ExitCode.DONE, "stopped by a test")]


def test_a_quick_stop_is_never_slower_than_the_grace() -> None:
    """A quick stop with a grace of 0.1 s kills after 0.1 s instead of a second."""
    machine = running(wants(1, grace_s=0.1))
    machine.stop(quick=True)
    assert machine.wait(0.1).orders == [(1, ChildOrder.KILL)]


def test_a_quick_stop_cuts_a_graceful_one_short() -> None:
    """A quick stop cuts a graceful one short, as Ctrl-C after TERM."""
    machine = running(wants(2, exporter=True))
    machine.stop()
    machine.wait(1.0)
    done = machine.stop(quick=True)
    assert done.receivers(ChildOrder.LEAVE) == [1, 2, 3]
    assert done.log_lines("master.stopping") == [{"quick": True, "by": "a test"}]
    assert machine.wait(1.0).receivers(ChildOrder.KILL) == [1, 2, 3]


def test_a_graceful_stop_does_not_delay_a_quick_one() -> None:
    """TERM after Ctrl-C, or a second TERM, changes nothing."""
    machine = running(wants(2))
    machine.stop(quick=True)
    assert machine.stop() == ()
    assert machine.wait(1.0).receivers(ChildOrder.KILL) == [1, 2]


def test_repeated_requests_give_no_more_time() -> None:
    """Repeated quick stops do not extend the deadline."""
    machine = running(wants(1, exporter=True))
    machine.stop(quick=True)
    killed = [
        birth
        for _ in range(10)
        for birth in (
            *machine.wait(0.2).receivers(ChildOrder.KILL),
            *machine.stop(quick=True).receivers(ChildOrder.KILL),
        )
    ]
    assert killed == [1, 2]


def test_a_quick_stop_late_in_a_graceful_one_does_not_prolong_it() -> None:
    """A quick stop late in a graceful one keeps the earlier deadline."""
    machine = running(wants(1))
    machine.stop()
    machine.wait(7.9)
    machine.stop(quick=True)
    assert machine.wait(0.2).receivers(ChildOrder.KILL) == [1]


def test_a_drain_that_outlasts_the_stop_is_cut() -> None:
    """A worker that drains for a reload finishes with the others, long before
    reload_grace_s.
    """
    machine = running(wants(1))
    machine.reload(wants(1))
    machine.ready(2)
    assert machine.births(ChildPhase.DRAINING) == [1]
    assert machine.stop().receivers(ChildOrder.FINISH) == [1, 2]
    assert machine.wait(8.1).receivers(ChildOrder.KILL) == [1, 2]


def test_an_exporter_that_was_retired_does_not_outlast_the_stop() -> None:
    """A retired exporter that does not leave is killed with the workers."""
    machine = running(wants(1, exporter=True, grace_s=1.0))
    machine.reload(wants(1, exporter=True, grace_s=1.0))
    machine.ready(3, 4)
    machine.exit(2)
    machine.stop()
    machine.exit(3)
    machine.exit(4)
    assert machine.wait(0.8).receivers(ChildOrder.KILL) == [1]
    assert machine.exit(1).of_type(fx.Leave)


@pytest.mark.parametrize("quick", [False, True])
def test_a_hung_child_does_not_prolong_a_stop(quick: bool) -> None:
    """A hung child that has two seconds to print its stack is killed with the
    others.
    """
    machine = running(wants(2, grace_s=1.0, heartbeat_timeout_s=1.0))
    for _ in range(2):
        machine.wait(1.0)
        machine.beat(1)
    assert machine.births(ChildPhase.KILLED) == [2]
    machine.stop(quick=quick)
    assert 2 in machine.wait(0.95).receivers(ChildOrder.KILL)


def test_a_stop_gives_a_hung_child_no_more_time() -> None:
    """Its two seconds for the stack are not stretched to the grace of the others."""
    machine = running(wants(2, grace_s=10.0, heartbeat_timeout_s=1.0))
    for _ in range(2):
        machine.wait(1.0)
        machine.beat(1)
    assert machine.births(ChildPhase.KILLED) == [2]
    machine.stop()
    assert machine.wait(2.0).receivers(ChildOrder.KILL) == [2]


def test_a_child_that_hangs_in_the_stop_does_not_prolong_it() -> None:
    """A child that hangs during the stop gets no more time for its stack than it had
    left.
    """
    machine = running(wants(1, exporter=True, grace_s=2.0, heartbeat_timeout_s=1.0))
    machine.beat(1, 2)
    machine.wait(1.0)
    machine.beat(1, 2)
    machine.stop()
    machine.wait(1.5)
    assert machine.beat().receivers(ChildOrder.ABORT) == [1, 2]
    assert machine.wait(0.1).receivers(ChildOrder.KILL) == [2]
    assert machine.wait(0.3).receivers(ChildOrder.KILL) == [1]


def in_phase(phase: MasterPhase) -> Machine:
    """Return a machine in this phase with one worker, and with reload request 1 where
    the phase has one.
    """
    wanted = wants(1, lame_duck_s=5.0 if phase is MasterPhase.LAME else 0.0)
    machine = booted(wanted) if phase is MasterPhase.STARTING else running(wanted, 2)
    if phase in (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING):
        if phase is MasterPhase.CUTTING:
            machine.reload(wants(1))
            machine.ready(2)
        machine.take(ev.ReloadAsked(1))
        if phase is not MasterPhase.LOADING:
            machine.take(ev.ConfigLoaded(machine.edited(wants(2))))
    if phase in ENDING_PHASES:
        machine.stop()
    assert machine.state.phase is phase
    return machine


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("phase", list(MasterPhase))
def test_a_stop_works_in_every_phase(phase: MasterPhase, quick: bool) -> None:
    """A stop from every phase tells every child, answers waiting requests, drops the
    candidate, and kills deaf children within the grace.
    """
    machine = in_phase(phase)
    children = machine.births()
    reloading = phase in (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING)
    done = machine.stop(quick=quick)
    assert machine.state.phase is MasterPhase.STOPPING
    assert done.answers == (
        [(1, "the daemon is stopping (stopped by a test)")] if reloading else []
    )
    assert bool(done.of_type(fx.DropConfig)) is reloading
    assert bool(done.of_type(fx.CloseListeners)) is (phase is not MasterPhase.STOPPING)
    if quick or phase is not MasterPhase.STOPPING:
        assert done.receivers(ChildOrder.LEAVE if quick else ChildOrder.FINISH) == children
    assert sorted(machine.wait(10.0).receivers(ChildOrder.KILL)) == children
    assert machine.exit(*children).of_type(fx.Leave) == [
        fx.Leave(ExitCode.DONE, "stopped by a test")
    ]


def test_a_configuration_loaded_before_the_stop_is_ignored() -> None:
    """The answer to LoadConfig that crosses the stop changes nothing."""
    machine = running(wants(1))
    machine.take(ev.ReloadAsked(1))
    machine.stop()
    assert machine.take(ev.ConfigLoaded(wants(3))) == ()
    assert machine.take(ev.ConfigRefused("nonsense")) == ()


def test_a_reload_during_a_stop_is_refused() -> None:
    """A reload request during a stop is refused at once. A reload signal is ignored."""
    machine = running(wants(1))
    machine.stop()
    assert machine.take(ev.ReloadAsked(4)).answers == [(4, "the daemon is stopping")]
    assert machine.take(ev.ReloadAsked(None)) == ()


def test_a_fork_that_fails_during_a_stop_is_not_retried() -> None:
    """A fork that fails during a stop is neither retried nor awaited."""
    machine = proving(wants(1), wants(1))
    machine.stop()
    machine.exit(1)
    done = machine.take(ev.ForkFailed(2, "Cannot allocate memory"))
    assert done.of_type(fx.Leave)
    assert machine.due_in_s is None


def test_the_kinds_of_children_are_those_that_the_stop_knows() -> None:
    """Those that serve stop first, then the exporter. A new kind of child needs a place
    in this order.
    """
    first = {ChildKind.WORKER, ChildKind.DISPATCHER, ChildKind.ITERATIVE}
    first |= {ChildKind.LAUNCHER, ChildKind.PYTHON}
    assert set(ChildKind) == first | {ChildKind.EXPORTER}
    shares = {POLICIES[kind].stop_share for kind in first}
    assert len(shares) == 1
    assert max(shares) < POLICIES[ChildKind.EXPORTER].stop_share
