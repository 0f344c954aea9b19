"""Retired children of several reloads drain side by side, up to a bound."""

import pytest

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


@pytest.mark.parametrize("workers", [1, 3])
def test_a_reload_that_is_refused_cuts_no_drain(workers: int) -> None:
    """A reload that is refused ends no generation that drains, also where children of
    its candidate are left and drain too.
    """
    machine = running(LASTING)
    reloaded(machine, MAX_RETIRED_GENERATIONS)
    machine.reload(wants(workers, reload_grace_s=0.0))
    machine.ready(*range(11, 10 + workers))
    assert machine.exit(10).receivers(ChildOrder.FINISH) == []
    assert machine.births(ChildPhase.DRAINING) == [*range(1, 9), *range(11, 10 + workers)]
    assert machine.due_in_s is None


def refuse(machine: Machine, workers: int = 2) -> list[int]:
    """Have a reload refused of which all children but one are ready; return the births
    whose connections end by that.
    """
    first, *others = machine.reload(wants(workers, reload_grace_s=0.0)).spawned
    machine.ready(*(child.birth for child in others))
    return machine.exit(first.birth).receivers(ChildOrder.FINISH)


def test_refused_candidates_have_a_bound_of_their_own() -> None:
    """The children of eight refused candidates drain beside those of eight adopted
    reloads. A ninth refusal ends the oldest of the refused, and an adoption that of the
    adopted.
    """
    machine = running(LASTING)
    reloaded(machine, MAX_RETIRED_GENERATIONS)
    assert [refuse(machine) for _ in range(MAX_RETIRED_GENERATIONS)] == [[]] * 8
    assert refuse(machine) == [11]
    (child,) = machine.reload(LASTING).spawned
    assert machine.ready(child.birth).receivers(ChildOrder.FINISH) == [1]


def test_a_signal_after_a_refusal_cuts_no_drain() -> None:
    """A worker that a signal removes after a refused reload counts to the last reload
    that was adopted: it is no ninth generation.
    """
    machine = running(wants(2, reload_grace_s=0.0))
    for _ in range(MAX_RETIRED_GENERATIONS):
        done = machine.reload(wants(2, reload_grace_s=0.0))
        machine.ready(*(child.birth for child in done.spawned))
    machine.take(ev.ReloadAsked(None), ev.ConfigLoaded(machine.edited(wants(1))))
    machine.exit(*machine.births(ChildPhase.STARTING))
    assert not machine.take(ev.PoolResized("default", -1)).receivers(ChildOrder.FINISH)


def test_refused_candidates_make_room_first() -> None:
    """Where children need room, the drains of refused candidates end before older ones
    of generations that served.
    """
    machine = running(LASTING, max_children=5)
    reloaded(machine, 2)
    assert refuse(machine) == []
    assert machine.births() == [1, 2, 3, 5]
    assert machine.reload(wants(2, reload_grace_s=0.0)).receivers(ChildOrder.FINISH) == [5]


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
