"""Edges of a child's end: the time that the exporter has left in a stop, and the slot
of a child that was retired before it hung.
"""

import pytest

from tests.support.machine import proving, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.names import ChildOrder, ChildPhase


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
