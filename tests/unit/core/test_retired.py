"""Retired children of several reloads drain side by side, up to a bound."""

from tests.support.machine import Machine, running, wants
from unpd.core import events as ev
from unpd.core.converge import MAX_RETIRED_GENERATIONS
from unpd.names import ChildOrder, ChildPhase

LASTING = wants(1, reload_grace_s=0.0)


def reloaded(machine: Machine, times: int) -> list[tuple[int, ChildOrder]]:
    """Reload so often, with a change in each reload; return the orders to children."""
    orders: list[tuple[int, ChildOrder]] = []
    for _ in range(times):
        done = machine.reload(LASTING)
        assert len(done.spawned) == 1, "the reload waits for a drain"
        orders += [*done.orders, *machine.ready(*(child.birth for child in done.spawned)).orders]
    return orders


def test_with_a_reload_grace_of_zero_connections_outlast_eight_reloads() -> None:
    """With reload_grace_s = 0, each of eight reloads retires a worker, and none of
    these workers is ever ordered to end its connections.
    """
    machine = running(LASTING)
    orders = reloaded(machine, MAX_RETIRED_GENERATIONS)
    assert orders == [(birth, ChildOrder.RETIRE) for birth in range(1, 9)]
    assert machine.due_in_s is None
    assert not machine.wait(365 * 86400.0)
    assert machine.births(ChildPhase.DRAINING) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_ninth_retired_generation_ends_the_oldest() -> None:
    """The reload that retires a ninth generation ends the oldest one, when its own
    children are proved, and not before.
    """
    machine = running(LASTING)
    reloaded(machine, MAX_RETIRED_GENERATIONS)
    machine.reload(LASTING)
    assert machine.births(ChildPhase.DRAINING) == [1, 2, 3, 4, 5, 6, 7, 8]
    done = machine.ready(10)
    assert done.orders == [(9, ChildOrder.RETIRE), (1, ChildOrder.FINISH)]
    assert [line["birth"] for line in done.log_lines("worker.drain_cut")] == [1]
    assert machine.wait(4.0).receivers(ChildOrder.KILL) == [1]


def test_a_reload_that_is_refused_cuts_no_drain() -> None:
    """A reload that is refused retires no generation, so it ends none."""
    machine = running(LASTING)
    reloaded(machine, MAX_RETIRED_GENERATIONS)
    machine.reload(LASTING)
    assert not machine.exit(10).orders
    assert machine.births(ChildPhase.DRAINING) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_reload_that_retires_nothing_ends_nothing() -> None:
    """Reloads that leave all pools alone do not count: only those that retired children
    do.
    """
    machine = running(LASTING)
    reloaded(machine, MAX_RETIRED_GENERATIONS)
    for _ in range(20):
        assert not machine.reload(LASTING, changed=()).orders


def test_the_oldest_is_the_one_that_was_retired_first() -> None:
    """A pool that was left alone for many reloads is retired late. Its drain is not the
    oldest one, although its generation is.
    """
    both = wants({"default": 1, "other": 1}, reload_grace_s=0.0)
    machine = running(both)
    for _ in range(MAX_RETIRED_GENERATIONS - 1):
        machine.reload(both, changed=("default",))
        machine.ready(*machine.births(ChildPhase.STARTING))
    machine.reload(both, changed=("other",))
    assert machine.ready(10).orders == [(2, ChildOrder.RETIRE)]
    machine.reload(both, changed=("other",))
    assert machine.ready(11).receivers(ChildOrder.FINISH) == [1]


def test_workers_that_signals_remove_have_a_bound_too() -> None:
    """Workers that drain after a signal removed them make room for wanted children, the
    oldest first: signals cannot fill all places for ever.
    """
    machine = running(wants(2, reload_grace_s=0.0), max_children=4)
    finished: list[int] = []
    for _ in range(5):
        finished += machine.take(ev.PoolResized("default", -1)).receivers(ChildOrder.FINISH)
        machine.exit(*(child.birth for child in machine.state.children.values() if child.finishing))
        done = machine.take(ev.PoolResized("default", 1))
        finished += done.receivers(ChildOrder.FINISH)
        machine.ready(*(child.birth for child in done.spawned))
        machine.exit(*(child.birth for child in machine.state.children.values() if child.finishing))
        assert len(machine.state.children) <= 4
    assert finished == [2, 3, 4]
