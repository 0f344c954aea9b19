"""Edges of a child's end: the time that the exporter has left in a stop, the slot of a
child that was retired before it hung, the silence that is noticed beside a start.
"""

import pytest

from tests.support.machine import proving, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import ABSENCE_S
from unpd.core.model import Slot
from unpd.names import ChildKind, ChildOrder, ChildPhase


def test_the_exporter_has_the_rest_of_the_grace() -> None:
    """Workers that end early leave it their time. It is killed when that is over."""
    machine = running(wants(1, exporter=True, grace_s=10.0))
    began = machine.clock.now
    machine.stop()
    machine.wait(1.0)
    assert machine.exit(2).orders == [(1, ChildOrder.FINISH)]
    assert machine.child(1).deadline_at == pytest.approx(began + 9.5)
    assert not machine.wait(8.4).orders
    assert machine.wait(0.2).orders == [(1, ChildOrder.KILL)]


def test_a_retired_child_that_hung_does_not_get_its_slot_back() -> None:
    """It is aborted and killed, and nothing replaces it: its slot has a new holder."""
    machine = proving(wants(1), wants(1, reload_grace_s=0.0))
    machine.ready(2)
    for _ in range(31):
        machine.wait(1.0)
        machine.beat(2)
    assert machine.child(1).phase is ChildPhase.KILLED
    assert machine.wait(3.0).orders == [(1, ChildOrder.KILL)]
    assert machine.child(1).retired
    done = machine.take(ev.ChildExited(1, "killed by SIGKILL"))
    assert (done.spawned, done.log_lines("worker.died")) == ([], [])


def test_a_stop_shows_only_phases_that_change() -> None:
    """A child that drains already goes on draining. None holds its slot any more."""
    machine = proving(wants(1), wants(1))
    machine.ready(2)
    assert machine.child(1).phase is ChildPhase.DRAINING
    done = machine.stop()
    assert [effect.child.birth for effect in done.of_type(fx.ShowPhase)] == [2]
    assert all(child.retired for child in machine.state.children.values())


def test_a_silent_child_is_noticed_beside_one_that_starts() -> None:
    """Whatever the order in which heartbeats are read; also where one has been reaped
    meanwhile.
    """
    machine = running(wants(3))
    for _ in range(29):
        machine.wait(1.0)
        machine.beat(1, 2)
    machine.exit(1)
    (successor,) = machine.births(ChildPhase.STARTING)
    machine.wait(2.0)
    beats = {1: 0.0, successor: 0.0, 2: machine.clock.now, 3: 0.0}
    assert machine.take(ev.BeatsRead(beats)).orders == [(3, ChildOrder.ABORT)]


def test_a_gap_between_two_readings_is_an_absence_only_above_its_bound() -> None:
    """A gap of exactly ABSENCE_S is none."""
    machine = running(wants(1))
    for _ in range(6):
        machine.wait(ABSENCE_S)
        machine.beat()
    machine.wait(ABSENCE_S)
    assert machine.beat().orders == [(1, ChildOrder.ABORT)]


def test_a_pool_that_is_not_wanted_has_no_slot() -> None:
    """Not even its first."""
    assert not wants({"a": 1}).has(1, Slot(ChildKind.WORKER, "b", 0))
    assert wants({"a": 1}).has(1, Slot(ChildKind.WORKER, "a", 0))
    assert not wants({"a": 1}).has(1, Slot(ChildKind.WORKER, "a", 1))
