"""A reload that changes only who may come in: new children decide about new clients,
and the connections of the old ones last.
"""

from dataclasses import replace

import pytest

from tests.support.machine import Effects, Machine, running, wants
from unpd.core import events as ev
from unpd.core.model import Wanted
from unpd.names import ChildKind, ChildOrder, ChildPhase

YEAR_S = 365 * 86400.0
KEY = (ChildKind.WORKER, "default")


def ruled(rules: str, wanted: Wanted | None = None) -> Wanted:
    """One worker, with the recipe of before, and these rules."""
    wanted = wanted or wants(1)
    return replace(wanted, pools={KEY: replace(wanted.pools[KEY], rules=rules)})


def load(machine: Machine, wanted: Wanted, *, every_pool: bool = False) -> Effects:
    """Reload a file that holds ``wanted``, and let its children become ready."""
    done = machine.take(ev.ReloadAsked(1, every_pool), ev.ConfigLoaded(wanted))
    return Effects((*done, *machine.ready(*(child.birth for child in done.spawned))))


@pytest.fixture
def machine() -> Machine:
    """A daemon with one worker, which is ready."""
    return running(ruled("first"))


def test_new_children_come_and_the_old_keep_their_connections(machine: Machine) -> None:
    """The old worker accepts no more, and nothing is ever due for it."""
    done = load(machine, ruled("second"))
    assert done.orders == [(1, ChildOrder.RETIRE)]
    assert done.outcomes == {"default": "respawned 1"}
    assert not machine.wait(YEAR_S).orders
    assert machine.births(ChildPhase.DRAINING) == [1]


def test_the_same_rules_leave_the_pool_alone(machine: Machine) -> None:
    """No child is spawned, also after rules that changed."""
    assert load(machine, ruled("first")).outcomes == {"default": "unchanged 1"}
    load(machine, ruled("second"))
    assert load(machine, ruled("second")).outcomes == {"default": "unchanged 1"}


def test_rules_may_change_again(machine: Machine) -> None:
    """The connections of every earlier generation last, as far as these are not too
    many.
    """
    for number in range(8):
        assert not load(machine, ruled(f"rules {number}")).receivers(ChildOrder.FINISH)
    assert not machine.wait(YEAR_S).orders
    assert load(machine, ruled("the ninth")).receivers(ChildOrder.FINISH) == [1]


@pytest.mark.parametrize("every_pool", [True, False])
def test_another_change_ends_them(machine: Machine, *, every_pool: bool) -> None:
    """Then each connection of before has reload_grace_s from that reload on. So for
    those that a reload with --all retires.
    """
    load(machine, ruled("second"))
    machine.wait(1000.0)
    wanted = ruled("second" if every_pool else "third")
    if not every_pool:
        wanted = replace(wanted, pools={KEY: replace(wanted.pools[KEY], recipe="other")})
    load(machine, wanted, every_pool=every_pool)
    assert not machine.wait(59.9).orders
    assert machine.wait(0.2).receivers(ChildOrder.FINISH) == [1, 2]


def test_a_drain_that_was_to_last_lasts(machine: Machine) -> None:
    """A child keeps the value of reload_grace_s that held when it was retired, here no
    limit: it was not spared because of rules.
    """
    load(
        machine,
        Wanted(wants(1, recipes={"default": "other"}).pools, wants(1, reload_grace_s=0.0).limits),
    )
    load(machine, wants(1, recipes={"default": "third"}))
    assert machine.wait(YEAR_S).receivers(ChildOrder.FINISH) == [2]


def test_a_removed_pool_ends_them(machine: Machine) -> None:
    """No service is left whose rules these could be."""
    load(machine, ruled("second"))
    load(machine, replace(wants(1), pools={(ChildKind.WORKER, "other"): wants(1).pools[KEY]}))
    assert machine.wait(60.1).receivers(ChildOrder.FINISH) == [1, 2]


def test_a_worker_too_many_has_the_time_of_a_drain(machine: Machine) -> None:
    """It has lost its slot because fewer are wanted, not because of rules."""
    load(machine, ruled("first", wants(2)))
    load(machine, ruled("first", wants(1)))
    assert machine.wait(60.1).receivers(ChildOrder.FINISH) == [2]


def test_children_of_a_refused_candidate_have_the_time_of_a_drain(machine: Machine) -> None:
    """Their rules never held."""
    machine.take(ev.ReloadAsked(1, False), ev.ConfigLoaded(ruled("second", wants(2))))
    machine.take(ev.ChildReady(2), ev.ChildExited(3, "exit code 1"))
    assert machine.births(ChildPhase.DRAINING) == [2]
    assert machine.wait(60.1).receivers(ChildOrder.FINISH) == [2]
