"""Heartbeats: a child that stops beating prints its stack and is killed; no other child
is.
"""

import pytest

from tests.support.machine import Machine, proving, running, wants
from unpd.core import events as ev
from unpd.names import ChildOrder, ChildPhase, MasterPhase


def sweep(machine: Machine, seconds: int, *beating: int) -> list[tuple[int, ChildOrder]]:
    """Read the heartbeats once a second, while only the children in ``beating`` beat.
    Return all orders.
    """
    orders = []
    for _ in range(seconds):
        orders += machine.wait(1.0).orders
        orders += machine.beat(*beating).orders
    return orders


def test_a_silent_child_is_aborted_and_then_killed() -> None:
    """After heartbeat_timeout_s the child gets SIGABRT, which prints its stack, and two
    seconds later SIGKILL.
    """
    machine = running(wants(2))
    assert not sweep(machine, 30, 1)
    assert sweep(machine, 1, 1) == [(2, ChildOrder.ABORT)]
    assert machine.child(2).phase is ChildPhase.KILLED
    assert not machine.wait(1.9).orders
    assert machine.wait(0.1).orders == [(2, ChildOrder.KILL)]


def test_a_hung_child_is_replaced_when_it_is_dead() -> None:
    """The slot stays empty until the hung child is dead. Then its successor comes at
    once, because the child had served for long.
    """
    machine = running(wants(1))
    sweep(machine, 31)
    assert machine.wait(10.0).told(ChildOrder.KILL) == [1]
    assert machine.births() == [1]
    assert [child.birth for child in machine.exit(1, ended="killed by SIGABRT").born] == [2]


def test_the_line_about_a_hung_child_says_what_follows() -> None:
    """The log line gives the seconds until SIGKILL."""
    machine = running(wants(1))
    sweep(machine, 30)
    machine.wait(1.0)
    assert machine.beat().notes("worker.hung") == [
        {"pool": "default", "index": 0, "birth": 1, "generation": 1, "kill_in_s": 2.0}
    ]


def test_a_child_that_beats_lives() -> None:
    """A child that beats is left alone, for however long."""
    machine = running(wants(2, exporter=True))
    assert not sweep(machine, 500, 1, 2, 3)


def test_a_hung_exporter_is_aborted_too() -> None:
    """A hung exporter is treated like a hung worker."""
    machine = running(wants(1, exporter=True))
    assert sweep(machine, 31, 2) == [(1, ChildOrder.ABORT)]


def test_a_child_that_starts_is_not_judged_by_its_heart() -> None:
    """The heartbeat of a starting child is ignored, because its row may still show that
    of the birth before. The start timeout watches it instead.
    """
    machine = running(wants(1, heartbeat_timeout_s=0.5))
    machine.wait(20)
    machine.exit(1)
    machine.take(ev.BeatsRead({2: machine.clock.now}))
    machine.wait(4.0)
    assert not machine.take(ev.BeatsRead({2: 0.0})).orders
    assert not machine.take(ev.BeatsRead({2: machine.clock.now - 10.0})).orders


def test_readiness_counts_as_a_beat() -> None:
    """A child that has just become ready has had no time to beat."""
    machine = running(wants(1))
    machine.wait(60)
    machine.exit(1)
    sweep(machine, 9)
    machine.ready(2)
    assert not machine.take(ev.BeatsRead({2: 0.0})).orders
    assert not sweep(machine, 30)
    assert sweep(machine, 1) == [(2, ChildOrder.ABORT)]


def test_a_beat_from_the_future_is_ignored() -> None:
    """A heartbeat far in the future is ignored: only a faulty child writes it, and it
    would hide a hang for ever.
    """
    machine = running(wants(1))
    for _ in range(30):
        machine.wait(1.0)
        assert not machine.take(ev.BeatsRead({1: 1e18})).orders
    machine.wait(1.0)
    assert machine.take(ev.BeatsRead({1: 1e18})).told(ChildOrder.ABORT) == [1]


def test_a_beat_of_this_very_moment_counts() -> None:
    """A heartbeat slightly in the future counts: the child may have written it after
    the master read the clock.
    """
    machine = running(wants(1))
    for _ in range(60):
        machine.wait(1.0)
        assert not machine.take(ev.BeatsRead({1: machine.clock.now + 0.01})).orders


def test_beats_of_dead_children_are_ignored() -> None:
    """A heartbeat of a child that is gone is ignored: the event may cross the death."""
    machine = running(wants(1))
    sweep(machine, 1, 1)
    assert machine.take(ev.BeatsRead({99: 0.0, -1: 0.0})) == ()


def test_a_master_that_did_not_run_kills_nobody() -> None:
    """After a freeze of the whole process group every heartbeat is old. Only children
    that are still silent at the next reading are hung.
    """
    machine = running(wants(2))
    sweep(machine, 3, 1, 2)
    machine.wait(600.0)
    assert not machine.beat().orders
    assert sweep(machine, 1, 1) == [(2, ChildOrder.ABORT)]


def test_a_draining_worker_that_hangs_is_aborted() -> None:
    """A draining worker that hangs is aborted, because it still has connections."""
    machine = proving(wants(1), wants(1, reload_grace_s=0))
    machine.ready(2)
    assert machine.child(1).phase is ChildPhase.DRAINING
    assert sweep(machine, 31, 2) == [(1, ChildOrder.ABORT)]
    assert not machine.exit(1).born


def test_a_hung_drain_ends_no_later_than_it_would_have() -> None:
    """The two seconds for the stack end when the drain would have ended."""
    machine = proving(wants(1), wants(1, reload_grace_s=4.0, heartbeat_timeout_s=3.0))
    machine.ready(2)
    assert sweep(machine, 3, 2) == []
    machine.wait(0.5)
    assert machine.beat(2).told(ChildOrder.ABORT) == [1]
    assert machine.wait(0.5).told(ChildOrder.KILL) == [1]


@pytest.mark.parametrize(("old_s", "new_s", "aborted"), [(1.0, 30.0, [1]), (30.0, 1.0, [2])])
def test_each_generation_has_its_own_timeout(
    old_s: float, new_s: float, aborted: list[int]
) -> None:
    """While a candidate is proved, its children have its heartbeat timeout, and the
    other children have theirs.
    """
    machine = proving(wants(1, heartbeat_timeout_s=old_s), wants(2, heartbeat_timeout_s=new_s))
    machine.ready(2)
    assert machine.state.phase is MasterPhase.PROVING
    machine.beat()
    machine.wait(1.1)
    assert machine.beat().told(ChildOrder.ABORT) == aborted
