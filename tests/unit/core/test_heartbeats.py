"""Heartbeats: only a child that falls silent is aborted, so that it prints its stack,
and killed.
"""

import pytest

from tests.support.machine import Machine, proving, running, wants
from unpd.core import events as ev
from unpd.core.model import BEAT_AHEAD_S, credible_beat
from unpd.names import ChildOrder, ChildPhase, MasterPhase


def sweep(machine: Machine, seconds: int, *beating: int) -> list[tuple[int, ChildOrder]]:
    """Sweep once a second while only these children beat. Return all orders."""
    orders = []
    for _ in range(seconds):
        orders += machine.wait(1.0).orders
        orders += machine.beat(*beating).orders
    return orders


def test_a_silent_child_is_aborted_and_then_killed() -> None:
    """A child that is silent for heartbeat_timeout_s gets SIGABRT, which prints its
    stack, and SIGKILL two seconds later.
    """
    machine = running(wants(2))
    assert not sweep(machine, 30, 1)
    assert sweep(machine, 1, 1) == [(2, ChildOrder.ABORT)]
    assert machine.child(2).phase is ChildPhase.KILLED
    assert not machine.wait(1.9).orders
    assert machine.wait(0.1).orders == [(2, ChildOrder.KILL)]


def test_a_hung_child_is_replaced_when_it_is_dead() -> None:
    """A hung child is replaced when it is dead and not before, because a slot has one
    holder. It had served for long, so its successor starts at once.
    """
    machine = running(wants(1))
    sweep(machine, 31)
    assert machine.wait(10.0).receivers(ChildOrder.KILL) == [1]
    assert machine.births() == [1]
    assert [child.birth for child in machine.exit(1, ended="killed by SIGABRT").spawned] == [2]


def test_the_line_about_a_hung_child_says_what_follows() -> None:
    """The log line about a hung child says how much time it has left."""
    machine = running(wants(1))
    sweep(machine, 30)
    machine.wait(1.0)
    assert machine.beat().log_lines("worker.hung") == [
        {"pool": "default", "index": 0, "birth": 1, "generation": 1, "kill_in_s": 2.0}
    ]


def test_a_child_that_beats_lives() -> None:
    """A child that keeps beating is never aborted."""
    machine = running(wants(2, exporter=True))
    assert not sweep(machine, 500, 1, 2, 3)


def test_a_hung_exporter_is_aborted_too() -> None:
    """A hung exporter is aborted like a worker."""
    machine = running(wants(1, exporter=True))
    assert sweep(machine, 31, 2) == [(1, ChildOrder.ABORT)]


def test_a_child_that_starts_is_not_judged_by_its_heartbeat() -> None:
    """A starting child is judged by the start timeout only. Its row may still show the
    beat of the birth before.
    """
    machine = running(wants(1, heartbeat_timeout_s=0.5))
    machine.wait(20)
    machine.exit(1)
    machine.take(ev.BeatsRead({2: machine.clock.now}))
    machine.wait(4.0)
    assert not machine.take(ev.BeatsRead({2: 0.0})).orders
    assert not machine.take(ev.BeatsRead({2: machine.clock.now - 10.0})).orders


def test_readiness_counts_as_a_beat() -> None:
    """Readiness counts as a beat, because a child that has just become ready had no
    time to beat.
    """
    machine = running(wants(1))
    machine.wait(60)
    machine.exit(1)
    sweep(machine, 9)
    machine.ready(2)
    assert not machine.take(ev.BeatsRead({2: 0.0})).orders
    assert not sweep(machine, 30)
    assert sweep(machine, 1) == [(2, ChildOrder.ABORT)]


def test_a_beat_from_the_future_is_ignored() -> None:
    """A beat from the future is ignored. If it counted as a beat of now, a faulty child
    could hide a hang for ever.
    """
    machine = running(wants(1))
    for _ in range(30):
        machine.wait(1.0)
        assert not machine.take(ev.BeatsRead({1: 1e18})).orders
    machine.wait(1.0)
    assert machine.take(ev.BeatsRead({1: 1e18})).receivers(ChildOrder.ABORT) == [1]


def test_a_beat_of_this_very_moment_counts() -> None:
    """A beat of this very moment counts, because it may be written after the time was
    read.
    """
    machine = running(wants(1))
    for _ in range(60):
        machine.wait(1.0)
        assert not machine.take(ev.BeatsRead({1: machine.clock.now + 0.01})).orders


def test_how_far_a_beat_may_be_ahead() -> None:
    """A beat is believed up to BEAT_AHEAD_S ahead; beyond, it counts as no beat."""
    assert credible_beat(1000.0 + BEAT_AHEAD_S, 1000.0) == 1000.0 + BEAT_AHEAD_S
    assert credible_beat(1000.001 + BEAT_AHEAD_S, 1000.0) == 0.0


def test_beats_of_the_dead_are_ignored() -> None:
    """Heartbeats of a dead child are ignored, because the event may cross its death."""
    machine = running(wants(1))
    sweep(machine, 1, 1)
    assert machine.take(ev.BeatsRead({99: 0.0, -1: 0.0})) == ()


def test_a_master_that_did_not_run_kills_no_child() -> None:
    """After a freeze of the whole group all beats are old. The children get until the
    next sweep; a child that is still silent then is hung.
    """
    machine = running(wants(2))
    sweep(machine, 3, 1, 2)
    machine.wait(600.0)
    assert not machine.beat().orders
    assert sweep(machine, 1, 1) == [(2, ChildOrder.ABORT)]


def test_a_draining_worker_that_hangs_is_aborted() -> None:
    """A draining worker that hangs is aborted, because it still has connections to
    serve.
    """
    machine = proving(wants(1), wants(1, reload_grace_s=0))
    machine.ready(2)
    assert machine.child(1).phase is ChildPhase.DRAINING
    assert sweep(machine, 31, 2) == [(1, ChildOrder.ABORT)]
    assert not machine.exit(1).spawned


def test_a_hung_drain_ends_no_later_than_its_deadline() -> None:
    """The two seconds for the stack do not extend a drain."""
    machine = proving(wants(1), wants(1, reload_grace_s=4.0, heartbeat_timeout_s=3.0))
    machine.ready(2)
    assert sweep(machine, 3, 2) == []
    machine.wait(0.5)
    assert machine.beat(2).receivers(ChildOrder.ABORT) == [1]
    assert machine.wait(0.5).receivers(ChildOrder.KILL) == [1]


@pytest.mark.parametrize(("old_s", "new_s", "aborted"), [(1.0, 30.0, [1]), (30.0, 1.0, [2])])
def test_each_generation_has_its_own_timeout(
    old_s: float, new_s: float, aborted: list[int]
) -> None:
    """While a candidate is proved, each generation has its own heartbeat timeout."""
    machine = proving(wants(1, heartbeat_timeout_s=old_s), wants(2, heartbeat_timeout_s=new_s))
    machine.ready(2)
    assert machine.state.phase is MasterPhase.PROVING
    machine.beat()
    machine.wait(1.1)
    assert machine.beat().receivers(ChildOrder.ABORT) == aborted
