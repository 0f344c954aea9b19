"""A reload: it proves itself before the old drain, and otherwise changes nothing."""

from collections.abc import Callable

import pytest

from tests.support.machine import Done, Machine, proving, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import Slot
from unpd.names import ChildKind, ChildOrder, ChildPhase, ExitCode, MasterPhase


def test_a_reload_goes_from_the_asking_to_the_answer() -> None:
    """Loaded, proved, adopted, answered; and the old drain only when all the new are
    ready.
    """
    machine = running(wants(2, exporter=True))
    assert machine.take(ev.ReloadAsked(5)) == (fx.LoadConfig(),)
    done = machine.take(ev.ConfigLoaded(wants({"default": 1, "slow": 1}, exporter=True)))
    assert [(child.birth, str(child.slot), child.generation) for child in done.born] == [
        (4, "exporter/0", 2),
        (5, "default/0", 2),
        (6, "slow/0", 2),
    ]
    assert done.notes("reload.proving") == [{"generation": 2}]
    assert not done.orders
    assert not machine.ready(4, 5).orders
    assert machine.state.generation == 1

    done = machine.ready(6)
    assert done.of(fx.AdoptConfig) == [fx.AdoptConfig(2)]
    assert done.told(ChildOrder.RETIRE) == [1, 2, 3]
    assert done.of(fx.CountReload) == [fx.CountReload(succeeded=True)]
    assert done.answers == [(5, "")]
    assert done.notes("reload.succeeded") == [{"generation": 2}]
    assert (machine.state.phase, machine.state.generation) == (MasterPhase.RUNNING, 2)
    assert machine.births(ChildPhase.READY) == [4, 5, 6]
    assert machine.births(ChildPhase.DRAINING) == [1, 2, 3]


def test_adoption_comes_before_the_old_are_told() -> None:
    """A worker that drains closes its listeners; the master has decided by then which
    it keeps.
    """
    effects = list(proving(wants(1), wants(1)).ready(2))
    assert effects.index(fx.AdoptConfig(2)) < effects.index(fx.Tell(1, ChildOrder.RETIRE))


def test_a_reload_by_signal_is_answered_to_nobody() -> None:
    """It is counted and logged like any other."""
    done = proving(wants(1), wants(1)).ready(2)
    assert not done.answers
    assert done.of(fx.CountReload)


def test_the_old_generation_is_kept_whole_until_the_new_is_proved() -> None:
    """A worker of it that dies meanwhile is replaced in its own generation."""
    machine = proving(wants(2), wants(2))
    machine.wait(5.0)
    assert [(child.generation, child.slot.index) for child in machine.exit(1).born] == [(1, 0)]
    done = machine.ready(3, 4)
    assert done.told(ChildOrder.RETIRE) == [2, 5]
    assert machine.wait(10.0).told(ChildOrder.FINISH) == [5], (
        "that one is not ready in time, and is given up"
    )


def test_what_drains_may_drain_for_reload_grace_s() -> None:
    """Then its connections end, then it is killed. Its slot is not filled again."""
    machine = proving(wants(1), wants(1, reload_grace_s=60.0))
    machine.ready(2)
    assert not machine.wait(59.9).orders
    done = machine.wait(0.2)
    assert done.orders == [(1, ChildOrder.FINISH)]
    assert done.notes("worker.drain_cut")
    assert not machine.wait(2.8).orders
    assert machine.wait(0.2).orders == [(1, ChildOrder.KILL)]
    assert not machine.exit(1).born


def test_with_a_reload_grace_of_nought_connections_last_as_long_as_they_like() -> None:
    """Nothing is due for the old worker, in a year."""
    machine = proving(wants(1), wants(1, reload_grace_s=0.0))
    machine.ready(2)
    assert machine.due_in is None
    assert not machine.wait(365 * 86400.0)
    assert machine.births(ChildPhase.DRAINING) == [1]


@pytest.mark.parametrize("reload_grace_s", [0.0, 60.0])
def test_an_old_exporter_is_not_kept(reload_grace_s: float) -> None:
    """It has no connections that last: one that does not leave is killed after three
    seconds.
    """
    machine = proving(
        wants(1, exporter=True), wants(1, exporter=True, reload_grace_s=reload_grace_s)
    )
    assert machine.ready(3, 4).told(ChildOrder.RETIRE) == [1, 2]
    assert machine.wait(3.0).orders == [(1, ChildOrder.KILL)]


def test_metrics_can_be_taken_away_and_given_back() -> None:
    """The exporter goes with its configuration."""
    machine = proving(wants(1, exporter=True), wants(1))
    machine.ready(3)
    machine.exit(1, 2)
    assert machine.births() == [3]
    machine.reload(wants(1, exporter=True))
    machine.ready(4, 5)
    assert machine.births(ChildPhase.READY, kind=ChildKind.EXPORTER) == [4]


def test_a_configuration_that_is_refused_changes_nothing() -> None:
    """No birth, no order, no drain cut short; the asker hears why."""
    machine = proving(wants(1), wants(1))
    machine.ready(2)
    before = machine.state.children
    done = machine.take(
        ev.ReloadAsked(5), ev.ConfigRefused("unpd.toml:3: daemon.grce_s: unknown key")
    )
    assert machine.state.children == before
    assert done.answers == [(5, "unpd.toml:3: daemon.grce_s: unknown key")]
    assert done.of(fx.CountReload) == [fx.CountReload(succeeded=False)]
    assert done.notes("reload.refused") == [
        {"reason": "unpd.toml:3: daemon.grce_s: unknown key", "generation": 2}
    ]
    assert (machine.state.phase, machine.state.generation) == (MasterPhase.RUNNING, 2)


def overdue(machine: Machine) -> Done:
    """Nobody becomes ready in time."""
    return machine.wait(10.0)


def hung(machine: Machine) -> Done:
    """The ready one falls silent while the other is still starting."""
    machine.ready(2)
    machine.beat(1)
    machine.wait(4.0)
    return machine.beat(1)


def late_death(machine: Machine) -> Done:
    """A child that was ready for longer than an early death dies while the other is
    still starting.
    """
    machine.ready(2)
    machine.wait(5.0)
    return machine.exit(2, ended="killed by SIGKILL")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            lambda m: m.take(ev.ForkFailed(3, "Cannot allocate memory")),
            "fork failed: Cannot allocate memory",
        ),
        (
            lambda m: m.take(ev.ChildFailed(3, "no such time zone", ExitCode.CONFIGURATION)),
            "no such time zone",
        ),
        (
            lambda m: m.exit(3, ended="killed by SIGSEGV"),
            "worker default/1 ended before it was ready: killed by SIGSEGV",
        ),
        (late_death, "worker default/0 ended before the others were ready: killed by SIGKILL"),
        (hung, "worker default/0 was hung"),
        (overdue, "worker default/1 was not ready in time"),
    ],
)
def test_a_candidate_that_fails_is_refused(fault: Callable[[Machine], Done], reason: str) -> None:
    """Whatever befalls a child of the candidate before all are ready: the old go on,
    the new go, the asker hears the reason, and nothing is left to wait for.
    """
    machine = proving(
        wants(1, heartbeat_timeout_s=3.0), wants(2, heartbeat_timeout_s=3.0), request=5
    )
    done = fault(machine)
    assert done.answers == [(5, reason)]
    assert done.of(fx.DropConfig)
    assert not done.of(fx.AdoptConfig)
    assert done.of(fx.CountReload) == [fx.CountReload(succeeded=False)]
    assert (machine.state.phase, machine.state.generation, machine.state.wanted.workers) == (
        MasterPhase.RUNNING,
        1,
        {"default": 1},
    )
    assert machine.child(1).phase is ChildPhase.READY
    done = machine.exit(*machine.births(generation=2))
    assert not done.born
    assert machine.births() == [1]
    assert machine.due_in is None
    assert not machine.wait(3600.0), "something of the refused generation is still remembered"


def test_every_fork_of_a_candidate_can_fail() -> None:
    """The first refuses it; the others find nothing to do and leave nothing behind."""
    machine = proving(wants(1), wants(3))
    done = machine.take(*(ev.ForkFailed(birth, "Cannot allocate memory") for birth in (2, 3, 4)))
    assert len(done.of(fx.CountReload)) == 1
    assert machine.births() == [1]
    assert not machine.state.throttles
    assert machine.due_in is None


def test_the_workers_of_a_refused_candidate_drain() -> None:
    """They may have accepted clients, who are not to blame: those that were still
    starting too, for their report may lie unread.
    """
    machine = proving(wants(1), wants(3))
    machine.ready(2)
    done = machine.exit(3)
    assert done.orders == [(2, ChildOrder.RETIRE), (4, ChildOrder.RETIRE)]
    assert (machine.child(2).phase, machine.child(2).retired) == (ChildPhase.DRAINING, True)
    assert machine.wait(10.0).told(ChildOrder.FINISH) == [4]
    assert machine.wait(50.0).told(ChildOrder.FINISH) == [2]


def test_the_drain_of_a_refused_candidate_is_cut_by_the_next() -> None:
    """It counts as a generation: there are never three."""
    machine = proving(wants(1), wants(2))
    machine.ready(2)
    machine.exit(3)
    done = machine.reload(wants(1))
    assert (done.told(ChildOrder.FINISH), done.born) == ([2], [])
    assert [child.generation for child in machine.exit(2).born] == [3]


def test_a_hung_candidate_still_prints_its_stack() -> None:
    """The reload is refused at once, the process gets its two seconds."""
    machine = proving(wants(1, heartbeat_timeout_s=3.0), wants(2, heartbeat_timeout_s=3.0))
    assert hung(machine).orders == [(2, ChildOrder.ABORT), (3, ChildOrder.RETIRE)]
    assert machine.wait(2.0).orders == [(2, ChildOrder.KILL)]


def test_a_candidate_that_cannot_be_killed_does_not_hold_up_the_answer() -> None:
    """Not even the one that sleeps in the kernel; and the next reload is free to go."""
    machine = proving(wants(1), wants(1), request=5)
    assert machine.wait(10.0).answers == [(5, "worker default/0 was not ready in time")]
    machine.reload(wants(1), 6)
    assert machine.ready(3).answers == [(6, "")]
    assert machine.births(ChildPhase.KILLED) == [2]


def test_generations_count_on_after_a_refusal() -> None:
    """A number is never used twice."""
    machine = proving(wants(1), wants(1))
    machine.exit(2)
    machine.reload(wants(1))
    machine.ready(3)
    assert machine.state.generation == 3


def test_a_reload_cuts_the_drain_of_the_one_before() -> None:
    """The candidate is born when the last of them is gone; the generation that serves
    is not touched.
    """
    machine = proving(wants(2), wants(1))
    machine.ready(3)
    done = machine.reload(wants(1))
    assert done.orders == [(1, ChildOrder.FINISH), (2, ChildOrder.FINISH)]
    assert len(done.notes("worker.drain_cut")) == 2
    assert machine.state.phase is MasterPhase.CUTTING
    assert not machine.exit(1).born
    assert [child.generation for child in machine.exit(2).born] == [3]


def test_a_drain_that_ignores_the_cut_is_killed_and_not_waited_for() -> None:
    """Three seconds after the cut; a process that even SIGKILL does not end at once is
    as good as gone.
    """
    machine = proving(wants(1), wants(1))
    machine.ready(2)
    machine.reload(wants(1))
    assert not machine.wait(2.9).orders
    done = machine.wait(0.2)
    assert done.orders == [(1, ChildOrder.KILL)]
    assert [child.generation for child in done.born] == [3]


def test_a_drain_is_cut_once() -> None:
    """One that was cut when its time was over is not told again, nor given more
    time.
    """
    machine = proving(wants(1), wants(1, reload_grace_s=5.0))
    machine.ready(2)
    assert machine.wait(5.0).told(ChildOrder.FINISH) == [1]
    machine.wait(2.0)
    assert not machine.reload(wants(1)).orders
    assert machine.wait(1.1).told(ChildOrder.KILL) == [1]


def test_a_worker_that_dies_while_room_is_made_is_replaced() -> None:
    """The generation that serves goes on in every stage of a reload."""
    machine = proving(wants(1), wants(2))
    machine.ready(2, 3)
    machine.wait(5.0)
    machine.take(ev.ReloadAsked(None))
    assert [child.birth for child in machine.exit(2).born] == [4]
    machine.take(ev.ConfigLoaded(wants(1)))
    assert machine.state.phase is MasterPhase.CUTTING
    assert [child.birth for child in machine.exit(3).born] == [5]


@pytest.mark.parametrize("refused", [False, True])
def test_reloads_during_a_reload_become_one_more(refused: bool) -> None:
    """The file may have changed since: one more reload, however it went, and everybody
    is answered once.
    """
    machine = running(wants(1))
    done = machine.take(*(ev.ReloadAsked(request) for request in (1, 2, None, 3)))
    assert len(done.of(fx.LoadConfig)) == 1
    if refused:
        done = machine.take(ev.ConfigRefused("nonsense"))
    else:
        machine.take(ev.ConfigLoaded(wants(1)))
        done = machine.ready(2)
    assert done.answers == [(1, "nonsense" if refused else "")]
    assert done.of(fx.LoadConfig)
    done = machine.take(ev.ConfigRefused("nonsense again"))
    assert done.answers == [(2, "nonsense again"), (3, "nonsense again")]
    assert not done.of(fx.LoadConfig)


def test_a_signal_during_a_reload_is_not_forgotten() -> None:
    """HUP twice is two reloads, though nobody waits for an answer."""
    machine = proving(wants(1), wants(1))
    machine.take(ev.ReloadAsked(None))
    assert machine.ready(2).of(fx.LoadConfig)


@pytest.mark.parametrize("end", [hung, overdue, late_death])
def test_a_reload_that_waits_begins_after_a_refusal(end: Callable[[Machine], Done]) -> None:
    """In the same step."""
    machine = proving(wants(1, heartbeat_timeout_s=3.0), wants(2, heartbeat_timeout_s=3.0))
    machine.take(ev.ReloadAsked(9))
    assert end(machine).of(fx.LoadConfig)


def test_back_offs_of_the_old_generation_do_not_burden_the_new() -> None:
    """A new configuration may have mended what was wrong."""
    machine = running(wants(2))
    machine.exit(1)
    machine.reload(wants(2))
    machine.ready(*machine.births(ChildPhase.STARTING, generation=2))
    assert machine.state.generation == 2
    assert not machine.state.throttles


def test_workers_that_were_added_by_hand_are_not_kept() -> None:
    """The configuration says how many there are."""
    machine = running(wants(1))
    machine.take(ev.PoolResized("default", 1), ev.PoolResized("default", 1))
    machine.reload(wants(1))
    machine.take(ev.PoolResized("default", 1))
    machine.ready(*machine.births(ChildPhase.STARTING, generation=2))
    assert machine.state.wanted.workers == {"default": 1}
    assert {child.slot for child in machine.state.children.values() if child.generation == 2} == {
        Slot(ChildKind.WORKER, "default", 0)
    }


def test_a_reload_while_surplus_workers_drain() -> None:
    """They belong to the generation that serves: nobody cuts them, and after the
    adoption they drain on.
    """
    machine = running(wants(3))
    machine.take(ev.PoolResized("default", -1))
    assert machine.births(ChildPhase.DRAINING) == [3]
    done = machine.reload(wants(1))
    assert not done.told(ChildOrder.FINISH)
    done = machine.ready(4)
    assert done.told(ChildOrder.RETIRE) == [1, 2]
    assert machine.births(ChildPhase.DRAINING) == [1, 2, 3]
    assert machine.reload(wants(1)).told(ChildOrder.FINISH) == [1, 2, 3]


def test_an_aborted_worker_of_the_old_generation_may_still_print_its_stack() -> None:
    """At the adoption it is retired as it is, and not replaced when it dies."""
    machine = running(wants(2, heartbeat_timeout_s=3.0))
    machine.beat()
    machine.wait(4.0)
    assert machine.beat(2).told(ChildOrder.ABORT) == [1]
    machine.reload(wants(1))
    assert machine.ready(3).orders == [(2, ChildOrder.RETIRE)]
    assert machine.wait(2.0).orders == [(1, ChildOrder.KILL)]
    assert not machine.exit(1).born


def test_each_generation_has_its_own_start_timeout() -> None:
    """The candidate's children have its time; what is born into the old generation
    meanwhile has the old one's.
    """
    machine = running(wants(1, start_timeout_s=8.0))
    machine.wait(60)
    machine.reload(wants(1, start_timeout_s=3.0))
    machine.exit(1)
    assert machine.child(2).deadline_at == machine.clock.now + 3.0
    assert machine.child(3).deadline_at == machine.clock.now + 8.0
    assert machine.wait(3.0).notes("reload.refused")
    machine.exit(2)
    assert machine.wait(5.0).told(ChildOrder.KILL) == [3]
