"""A reload proves the new generation before the old one drains, and otherwise changes
nothing.
"""

from collections.abc import Callable

import pytest

from tests.support.machine import Effects, Machine, proving, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import Slot
from unpd.names import ChildKind, ChildOrder, ChildPhase, ExitCode, MasterPhase


def test_a_reload_runs_from_request_to_answer() -> None:
    """A reload is loaded, proved, adopted and answered. The old workers drain only when
    all new children are ready.
    """
    machine = running(wants(2, exporter=True))
    assert machine.take(ev.ReloadAsked(5)) == (fx.LoadConfig(),)
    new = wants({"default": 1, "slow": 1}, exporter=True)
    done = machine.take(ev.ConfigLoaded(machine.edited(new)))
    assert [(child.birth, str(child.slot), child.generation) for child in done.spawned] == [
        (4, "exporter/0", 2),
        (5, "default/0", 2),
        (6, "slow/0", 2),
    ]
    assert done.log_lines("reload.proving") == [{"generation": 2}]
    assert not done.orders
    assert not machine.ready(4, 5).orders
    assert machine.state.generation == 1

    done = machine.ready(6)
    assert done.of_type(fx.AdoptConfig) == [fx.AdoptConfig(2)]
    assert done.receivers(ChildOrder.RETIRE) == [1, 2, 3]
    assert done.of_type(fx.CountReload) == [fx.CountReload(refused="")]
    assert done.answers == [(5, "")]
    assert done.outcomes == {
        "exporter": "respawned 1",
        "default": "respawned 1",
        "slow": "added 1",
    }
    assert (machine.state.phase, machine.state.generation) == (MasterPhase.RUNNING, 2)
    assert machine.births(ChildPhase.READY) == [4, 5, 6]
    assert machine.births(ChildPhase.DRAINING) == [1, 2, 3]


def test_adoption_comes_before_the_old_workers_drain() -> None:
    """The configuration is adopted before old workers drain, because a draining worker
    closes its listeners and the master has then decided which it keeps.
    """
    effects = list(proving(wants(1), wants(1)).ready(2))
    assert effects.index(fx.AdoptConfig(2)) < effects.index(fx.Tell(1, ChildOrder.RETIRE))


def test_a_reload_by_signal_has_no_answer() -> None:
    """A reload by signal is counted and logged like any other, but not answered."""
    done = proving(wants(1), wants(1)).ready(2)
    assert not done.answers
    assert done.of_type(fx.CountReload)


def test_the_old_generation_is_kept_whole_until_the_new_is_proved() -> None:
    """A worker of the old generation that dies during a proof is replaced in its own
    generation.
    """
    machine = proving(wants(2), wants(2))
    machine.wait(5.0)
    assert [(child.generation, child.slot.index) for child in machine.exit(1).spawned] == [(1, 0)]
    done = machine.ready(3, 4)
    assert done.receivers(ChildOrder.RETIRE) == [2, 5]
    assert machine.wait(10.0).receivers(ChildOrder.FINISH) == [5], (
        "a worker that is retired while it starts keeps its start timeout"
    )


def test_a_retired_worker_drains_for_reload_grace_s() -> None:
    """A retired worker drains for reload_grace_s. Then its connections end, then it is
    killed. Its slot is not filled again.
    """
    machine = proving(wants(1), wants(1, reload_grace_s=60.0))
    machine.ready(2)
    assert not machine.wait(59.9).orders
    done = machine.wait(0.2)
    assert done.orders == [(1, ChildOrder.FINISH)]
    assert done.log_lines("worker.drain_cut")
    assert not machine.wait(2.8).orders
    assert machine.wait(0.2).orders == [(1, ChildOrder.KILL)]
    assert not machine.exit(1).spawned


def test_with_a_reload_grace_of_zero_connections_last() -> None:
    """With reload_grace_s = 0 nothing is due for a retired worker, even after a
    year.
    """
    machine = proving(wants(1), wants(1, reload_grace_s=0.0))
    machine.ready(2)
    assert machine.due_in_s is None
    assert not machine.wait(365 * 86400.0)
    assert machine.births(ChildPhase.DRAINING) == [1]


@pytest.mark.parametrize("reload_grace_s", [0.0, 60.0])
def test_an_old_exporter_is_killed_soon(reload_grace_s: float) -> None:
    """A retired exporter has no lasting connections. It is killed after three seconds
    if it does not leave.
    """
    machine = proving(
        wants(1, exporter=True), wants(1, exporter=True, reload_grace_s=reload_grace_s)
    )
    assert machine.ready(3, 4).receivers(ChildOrder.RETIRE) == [1, 2]
    assert machine.wait(3.0).orders == [(1, ChildOrder.KILL)]


def test_metrics_can_be_switched_off_and_on() -> None:
    """A reload removes the exporter, and another one brings it back."""
    machine = proving(wants(1, exporter=True), wants(1))
    machine.ready(3)
    machine.exit(1, 2)
    assert machine.births() == [3]
    machine.reload(wants(1, exporter=True))
    machine.ready(4, 5)
    assert machine.births(ChildPhase.READY, kind=ChildKind.EXPORTER) == [4]


def test_a_configuration_that_is_refused_changes_nothing() -> None:
    """A refused configuration causes no spawn, no order and no cut drain. The request
    gets the reason.
    """
    machine = proving(wants(1), wants(1))
    machine.ready(2)
    before = machine.state.children
    done = machine.take(
        ev.ReloadAsked(5), ev.ConfigRefused("unpd.toml:3: daemon.grce_s: unknown key")
    )
    assert machine.state.children == before
    assert done.answers == [(5, "unpd.toml:3: daemon.grce_s: unknown key")]
    assert done.of_type(fx.CountReload) == [
        fx.CountReload("unpd.toml:3: daemon.grce_s: unknown key")
    ]
    assert done.log_lines("reload.refused") == [
        {"reason": "unpd.toml:3: daemon.grce_s: unknown key", "generation": 2}
    ]
    assert (machine.state.phase, machine.state.generation) == (MasterPhase.RUNNING, 2)


def test_only_a_request_whose_reload_began_has_its_log() -> None:
    """Not one that waited for its turn when the stop came, or that came later."""
    machine = running(wants(1))
    machine.take(ev.ReloadAsked(5), ev.ReloadAsked(6))
    stopped = machine.take(ev.StopAsked(quick=False, by="a test"))
    late = machine.take(ev.ReloadAsked(7))
    answers = [*stopped.of_type(fx.AnswerReload), *late.of_type(fx.AnswerReload)]
    assert [(one.request, one.began) for one in answers] == [(5, True), (6, False), (7, False)]


def test_the_result_is_logged_before_the_reload_is_counted() -> None:
    """With that its log ends."""
    done = running(wants(1)).take(ev.ReloadAsked(5), ev.ConfigRefused("nonsense"))
    kinds = [type(effect) for effect in done]
    assert kinds.index(fx.Note) < kinds.index(fx.CountReload) < kinds.index(fx.AnswerReload)


def overdue(machine: Machine) -> Effects:
    """Let no child become ready in time."""
    return machine.wait(10.0)


def hung(machine: Machine) -> Effects:
    """Let the ready child fall silent while the other one is still starting."""
    machine.ready(2)
    machine.beat(1)
    machine.wait(4.0)
    return machine.beat(1)


def late_death(machine: Machine) -> Effects:
    """Let a child die that was ready for longer than an early death, while the other
    one is still starting.
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
def test_a_candidate_that_fails_is_refused(
    fault: Callable[[Machine], Effects], reason: str
) -> None:
    """Whatever happens to a child of the candidate before all are ready, the old
    generation goes on, the new one ends, the request gets the reason, and no deadline
    remains.
    """
    machine = proving(
        wants(1, heartbeat_timeout_s=3.0), wants(2, heartbeat_timeout_s=3.0), request=5
    )
    done = fault(machine)
    assert done.answers == [(5, reason)]
    assert done.of_type(fx.DropConfig)
    assert not done.of_type(fx.AdoptConfig)
    assert done.of_type(fx.CountReload) == [fx.CountReload(reason)]
    assert (machine.state.phase, machine.state.generation, machine.state.wanted.workers) == (
        MasterPhase.RUNNING,
        1,
        {"default": 1},
    )
    assert machine.child(1).phase is ChildPhase.READY
    done = machine.exit(*machine.births(generation=2))
    assert not done.spawned
    assert machine.births() == [1]
    assert machine.due_in_s is None
    assert not machine.wait(3600.0), "a part of the refused generation is still remembered"


def test_every_fork_of_a_candidate_can_fail() -> None:
    """The first failed fork refuses the candidate. Further failures change nothing and
    leave nothing behind.
    """
    machine = proving(wants(1), wants(3))
    done = machine.take(*(ev.ForkFailed(birth, "Cannot allocate memory") for birth in (2, 3, 4)))
    assert len(done.of_type(fx.CountReload)) == 1
    assert machine.births() == [1]
    assert not machine.state.throttles
    assert machine.due_in_s is None


def test_the_workers_of_a_refused_candidate_drain() -> None:
    """The workers of a refused candidate drain, because they may have accepted clients.
    So do those still starting, whose report may be unread.
    """
    machine = proving(wants(1), wants(3))
    machine.ready(2)
    done = machine.exit(3)
    assert done.orders == [(2, ChildOrder.RETIRE), (4, ChildOrder.RETIRE)]
    assert (machine.child(2).phase, machine.child(2).retired) == (ChildPhase.DRAINING, True)
    assert machine.wait(10.0).receivers(ChildOrder.FINISH) == [4]
    assert machine.wait(50.0).receivers(ChildOrder.FINISH) == [2]


def test_the_drain_of_a_refused_candidate_goes_on_over_the_next() -> None:
    """The drain of a refused candidate goes on over the next reload. Only where there
    is no room for the new children, it is cut, like any other.
    """
    for room, cut in ((4, []), (2, [2])):
        machine = proving(wants(1), wants(2), max_children=room)
        machine.ready(2)
        machine.exit(3)
        done = machine.reload(wants(1))
        assert done.receivers(ChildOrder.FINISH) == cut
        assert len(done.spawned) == (not cut)
        if cut:
            done = machine.exit(2)
        assert [child.generation for child in done.spawned] == [3]


def test_a_hung_candidate_still_prints_its_stack() -> None:
    """A hung child of a candidate refuses the reload at once, and still gets two
    seconds to print its stack.
    """
    machine = proving(wants(1, heartbeat_timeout_s=3.0), wants(2, heartbeat_timeout_s=3.0))
    assert hung(machine).orders == [(2, ChildOrder.ABORT), (3, ChildOrder.RETIRE)]
    assert machine.wait(2.0).orders == [(2, ChildOrder.KILL)]


def test_a_candidate_that_cannot_be_killed_does_not_delay_the_answer() -> None:
    """A child that SIGKILL does not end at once delays neither the answer nor the next
    reload.
    """
    machine = proving(wants(1), wants(1), request=5)
    assert machine.wait(10.0).answers == [(5, "worker default/0 was not ready in time")]
    machine.reload(wants(1), 6)
    assert machine.ready(3).answers == [(6, "")]
    assert machine.births(ChildPhase.KILLED) == [2]


def test_generation_numbers_are_never_reused() -> None:
    """After a refusal the next generation gets a new number."""
    machine = proving(wants(1), wants(1))
    machine.exit(2)
    machine.reload(wants(1))
    machine.ready(3)
    assert machine.state.generation == 3


def test_a_reload_cuts_drains_where_its_children_have_no_room() -> None:
    """A reload cuts as many drains as its children need room, the oldest first. The
    candidate is spawned when there is room. The generation that serves is not affected.
    """
    machine = proving(wants(4), wants(1), max_children=5)
    machine.ready(*range(5, 6))
    done = machine.reload(wants(3))
    assert done.orders == [(birth, ChildOrder.FINISH) for birth in (1, 2, 3)]
    assert len(done.log_lines("worker.drain_cut")) == 3
    assert machine.state.phase is MasterPhase.CUTTING
    assert not machine.exit(1, 2).spawned
    assert [child.generation for child in machine.exit(3).spawned] == [3, 3, 3]
    assert not machine.ready(6, 7, 8).receivers(ChildOrder.FINISH)
    assert machine.births(ChildPhase.DRAINING) == [4, 5]


def test_a_drain_that_ignores_the_cut_is_killed_and_not_waited_for() -> None:
    """A drain that ignores the cut is killed three seconds later, and the reload goes
    on at once, even if SIGKILL does not end the process.
    """
    machine = proving(wants(1), wants(1), max_children=2)
    machine.ready(2)
    machine.reload(wants(1))
    assert not machine.wait(2.9).orders
    done = machine.wait(0.2)
    assert done.orders == [(1, ChildOrder.KILL)]
    assert [child.generation for child in done.spawned] == [3]


def test_a_reload_does_not_wait_for_ever_for_room() -> None:
    """A drain that was killed and is never reaped, while others still drain, makes no
    room: the reload is refused after five seconds, and the reason names that child. The
    other drains go on, and no deadline remains.
    """
    lasting = wants(1, reload_grace_s=0.0)
    machine = running(lasting, max_children=4)
    for birth in (2, 3, 4):
        machine.reload(lasting)
        machine.ready(birth)
    assert machine.reload(lasting, 5).receivers(ChildOrder.FINISH) == [1]
    done = machine.wait(4.9)
    assert done.orders == [(1, ChildOrder.KILL)]
    assert not done.answers
    done = machine.wait(0.2)
    reason = (
        "there is no room for the new children within 5 s: the kernel has not ended the killed"
        " children of birth 1"
    )
    assert done.answers == [(5, reason)]
    assert done.of_type(fx.DropConfig)
    assert not done.orders
    assert machine.state.phase is MasterPhase.RUNNING
    assert machine.due_in_s is None
    assert machine.births(ChildPhase.READY) == [4]
    assert machine.births(ChildPhase.DRAINING) == [2, 3]


def test_a_reload_that_waits_begins_after_one_without_room() -> None:
    """A request that came while a reload waited for room is not forgotten when that is
    refused. When the killed child is reaped, a reload succeeds.
    """
    lasting = wants(1, reload_grace_s=0.0)
    machine = running(lasting, max_children=4)
    for birth in (2, 3, 4):
        machine.reload(lasting)
        machine.ready(birth)
    machine.reload(lasting, 5)
    machine.take(ev.ReloadAsked(6))
    assert machine.wait(5.0).of_type(fx.LoadConfig)
    machine.exit(1)
    machine.take(ev.ConfigLoaded(machine.edited(lasting)))
    assert machine.due_in_s == lasting.limits.start_timeout_s
    assert machine.ready(5).answers == [(6, "")]


def test_a_drain_is_cut_once() -> None:
    """A drain that was cut when its time was over is not cut again and gets no more
    time.
    """
    machine = proving(wants(1), wants(1, reload_grace_s=5.0), max_children=2)
    machine.ready(2)
    assert machine.wait(5.0).receivers(ChildOrder.FINISH) == [1]
    machine.wait(2.0)
    assert not machine.reload(wants(1)).orders
    assert machine.wait(1.1).receivers(ChildOrder.KILL) == [1]


def test_a_worker_that_dies_while_a_drain_is_cut_is_replaced() -> None:
    """A serving worker that dies in any stage of a reload is replaced."""
    machine = proving(wants(1), wants(2), max_children=3)
    machine.ready(2, 3)
    machine.wait(5.0)
    machine.take(ev.ReloadAsked(None))
    assert [child.birth for child in machine.exit(2).spawned] == [4]
    machine.take(ev.ConfigLoaded(machine.edited(wants(1))))
    assert machine.state.phase is MasterPhase.CUTTING
    assert [child.birth for child in machine.exit(3).spawned] == [5]


@pytest.mark.parametrize("refused", [False, True])
def test_reloads_during_a_reload_become_one_more(refused: bool) -> None:
    """Reload requests during a reload cause one more reload, because the file may have
    changed. It runs whatever the first one's result, and each request gets one answer.
    """
    machine = running(wants(1))
    done = machine.take(*(ev.ReloadAsked(request) for request in (1, 2, None, 3)))
    assert len(done.of_type(fx.LoadConfig)) == 1
    if refused:
        done = machine.take(ev.ConfigRefused("nonsense"))
    else:
        machine.take(ev.ConfigLoaded(machine.edited(wants(1))))
        done = machine.ready(2)
    assert done.answers == [(1, "nonsense" if refused else "")]
    assert done.of_type(fx.LoadConfig)
    done = machine.take(ev.ConfigRefused("nonsense again"))
    assert done.answers == [(2, "nonsense again"), (3, "nonsense again")]
    assert not done.of_type(fx.LoadConfig)


def test_a_signal_during_a_reload_is_not_forgotten() -> None:
    """Two HUPs cause two reloads, although no request waits for an answer."""
    machine = proving(wants(1), wants(1))
    machine.take(ev.ReloadAsked(None))
    assert machine.ready(2).of_type(fx.LoadConfig)


@pytest.mark.parametrize("end", [hung, overdue, late_death])
def test_a_reload_that_waits_begins_after_a_refusal(end: Callable[[Machine], Effects]) -> None:
    """A waiting reload begins after a refusal, in the same step."""
    machine = proving(wants(1, heartbeat_timeout_s=3.0), wants(2, heartbeat_timeout_s=3.0))
    machine.take(ev.ReloadAsked(9))
    assert end(machine).of_type(fx.LoadConfig)


def test_back_offs_of_the_old_generation_do_not_burden_the_new() -> None:
    """The back-offs of the old generation do not apply to the new one, because the new
    configuration may have fixed the cause.
    """
    machine = running(wants(2))
    machine.exit(1)
    machine.reload(wants(2))
    machine.ready(*machine.births(ChildPhase.STARTING, generation=2))
    assert machine.state.generation == 2
    assert not machine.state.throttles


def test_workers_that_were_added_by_hand_are_not_kept() -> None:
    """Workers added by TTIN are not kept by a reload. The configuration gives the
    number.
    """
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
    """Surplus workers that drain are not cut by the next reloads: they drain on beside
    those that the reloads retire.
    """
    machine = running(wants(3))
    machine.take(ev.PoolResized("default", -1))
    assert machine.births(ChildPhase.DRAINING) == [3]
    done = machine.reload(wants(1))
    assert not done.receivers(ChildOrder.FINISH)
    done = machine.ready(4)
    assert done.receivers(ChildOrder.RETIRE) == [1, 2]
    assert machine.births(ChildPhase.DRAINING) == [1, 2, 3]
    assert not machine.reload(wants(1)).receivers(ChildOrder.FINISH)


def test_an_aborted_worker_of_the_old_generation_still_prints_its_stack() -> None:
    """An aborted worker of the old generation keeps its time to print its stack. At the
    adoption it is retired, and its death spawns no successor.
    """
    machine = running(wants(2, heartbeat_timeout_s=3.0))
    machine.beat()
    machine.wait(4.0)
    assert machine.beat(2).receivers(ChildOrder.ABORT) == [1]
    machine.reload(wants(1))
    assert machine.ready(3).orders == [(2, ChildOrder.RETIRE)]
    assert machine.wait(2.0).orders == [(1, ChildOrder.KILL)]
    assert not machine.exit(1).spawned


def test_each_generation_has_its_own_start_timeout() -> None:
    """The candidate's children have the candidate's start timeout. Children of the old
    generation have the old one.
    """
    machine = running(wants(1, start_timeout_s=8.0))
    machine.wait(60)
    machine.reload(wants(1, start_timeout_s=3.0))
    machine.exit(1)
    assert machine.child(2).deadline_at == machine.clock.now + 3.0
    assert machine.child(3).deadline_at == machine.clock.now + 8.0
    assert machine.wait(3.0).log_lines("reload.refused")
    machine.exit(2)
    assert machine.wait(5.0).receivers(ChildOrder.KILL) == [3]
