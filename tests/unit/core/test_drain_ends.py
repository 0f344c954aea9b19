"""When the connections of a retired child have to end: the sessions of a dispatcher
outlive it, and keep the time that it had, however it ends.
"""

import math
from dataclasses import replace

import pytest

from tests.support.machine import Machine, proving, running, wants
from unpd.core.converge import MAX_RETIRED_GENERATIONS
from unpd.core.policy import CUT_GRACE_S
from unpd.names import ChildOrder, ChildPhase

GRACE_S = 100.0


def draining(reload_grace_s: float = GRACE_S, **limits: float) -> tuple[Machine, float]:
    """A machine whose first child drains, and when it began to."""
    new = wants(1)
    limits_of_new = replace(new.limits, reload_grace_s=reload_grace_s, **limits)
    machine = proving(wants(1), replace(new, limits=limits_of_new))
    machine.ready(2)
    return machine, machine.clock.now


def ends_at(machine: Machine, birth: int = 1) -> float | None:
    """When the connections of a child have to end."""
    return machine.state.drain_ends_at(birth)


def test_a_child_that_holds_its_slot_has_no_such_time() -> None:
    """Nor has a child that is gone."""
    machine = running(wants(1))
    assert ends_at(machine) is None
    machine.exit(1)
    assert ends_at(machine) is None


@pytest.mark.parametrize(("grace_s", "lasts_s"), [(GRACE_S, GRACE_S), (0.0, math.inf)])
def test_a_drain_lasts_as_long_as_the_limit_says(grace_s: float, lasts_s: float) -> None:
    """With a limit of 0 the connections may last."""
    machine, began = draining(reload_grace_s=grace_s)
    assert ends_at(machine) == began + lasts_s


def test_a_drain_that_ends_in_a_kill_is_over() -> None:
    """The connections had their time, and that of the cut."""
    machine, began = draining()
    machine.wait(GRACE_S)
    assert machine.child(1).finishing
    assert machine.wait(CUT_GRACE_S).receivers(ChildOrder.KILL) == [1]
    assert ends_at(machine) == began + GRACE_S + CUT_GRACE_S == machine.clock.now


def test_a_drain_without_a_limit_that_is_cut_ends() -> None:
    """The ninth retired generation ends the oldest one."""
    lasting = wants(1, reload_grace_s=0.0)
    machine = running(lasting)
    for _ in range(MAX_RETIRED_GENERATIONS + 1):
        assert ends_at(machine) in (None, math.inf)
        (child,) = machine.reload(lasting).spawned
        machine.ready(child.birth)
    assert machine.wait(CUT_GRACE_S).receivers(ChildOrder.KILL) == [1]
    assert ends_at(machine) == machine.clock.now


def test_a_child_that_hangs_leaves_its_connections_their_time() -> None:
    """The kill of the child comes two seconds later."""
    machine, began = draining(heartbeat_timeout_s=5.0)
    orders = [order for _ in range(6) for order in (machine.wait(1.0), machine.beat(2))][-1].orders
    assert orders == [(1, ChildOrder.ABORT)]
    assert machine.wait(2.0).receivers(ChildOrder.KILL) == [1]
    assert ends_at(machine) == began + GRACE_S


def test_a_killed_child_that_loses_its_slot_leaves_them_the_time_of_a_drain() -> None:
    """It was killed before a reload took its slot away, and is not reaped yet."""
    machine = running(wants(1, heartbeat_timeout_s=5.0))
    for _ in range(6):
        machine.wait(1.0)
        machine.beat()
    assert machine.child(1).phase is ChildPhase.KILLED
    machine.reload(wants(1, reload_grace_s=GRACE_S))
    machine.ready(2)
    assert ends_at(machine) == machine.clock.now + GRACE_S


def test_at_a_stop_they_have_the_time_of_the_stop() -> None:
    """A drain under way does not extend it."""
    machine, _ = draining(grace_s=10.0)
    machine.stop()
    assert ends_at(machine) == ends_at(machine, 2) == machine.clock.now + 8.0
