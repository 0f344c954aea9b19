"""A reload leaves a pool alone whose recipe did not change: only the pools that changed
get a new generation.
"""

import pytest

from tests.support.machine import Machine, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import Asked
from unpd.core.readiness import throttled
from unpd.names import ChildOrder, ChildPhase, MasterPhase

BOTH = wants({"default": 2, "other": 1})
"""Workers 1 and 2 are of the pool default, worker 3 is of the pool other."""


def generations(machine: Machine) -> dict[str, int]:
    """Return the generation of each pool."""
    return {name: pool.generation for (_, name), pool in machine.state.wanted.pools.items()}


def test_a_reload_that_changes_nothing_is_answered_at_once() -> None:
    """When no recipe changed, nothing is spawned, ordered or waited for. The number of
    the generation goes up all the same, and the children keep theirs.
    """
    machine = running(wants(2, exporter=True))
    before = machine.state.children
    done = machine.reload(wants(2, exporter=True, reload_grace_s=5.0), 7, changed=())
    assert done.answers == [(7, "")]
    assert not done.spawned
    assert not done.orders
    assert done.of_type(fx.AdoptConfig) == [fx.AdoptConfig(2)]
    assert done.outcomes == {"exporter": "unchanged 1", "default": "unchanged 2"}
    assert machine.state.children == before
    assert (machine.state.phase, machine.state.generation) == (MasterPhase.RUNNING, 2)
    assert machine.state.wanted.limits.reload_grace_s == 5.0


def test_only_the_pool_that_changed_gets_new_children() -> None:
    """Only the children of a changed pool are spawned, proved and, at the end, retired.
    The other pool keeps its children and its generation.
    """
    machine = running(BOTH)
    done = machine.reload(BOTH, changed=("other",))
    assert [(child.birth, str(child.slot), child.generation) for child in done.spawned] == [
        (4, "other/0", 2)
    ]
    done = machine.ready(4)
    assert done.orders == [(3, ChildOrder.RETIRE)]
    assert done.outcomes == {"default": "unchanged 2", "other": "respawned 1"}
    assert generations(machine) == {"default": 1, "other": 2}
    assert machine.births(ChildPhase.READY) == [1, 2, 4]


def test_a_child_of_a_kept_pool_is_replaced_in_its_own_generation() -> None:
    """A child of a kept pool that dies later is replaced in its pool's generation, and
    is watched with the new limits.
    """
    machine = running(BOTH)
    machine.reload(wants({"default": 2, "other": 1}, start_timeout_s=3.0), changed=("other",))
    machine.ready(4)
    machine.wait(20.0)
    (child,) = machine.exit(1).spawned
    assert (child.generation, child.deadline_at) == (1, machine.clock.now + 3.0)
    machine.ready(child.birth)
    assert machine.births(ChildPhase.READY) == [2, 4, 5]


def test_a_removed_pool_drains_and_an_added_one_is_proved() -> None:
    """A pool that the configuration no longer has drains after the proof of the one
    that it adds.
    """
    machine = running(BOTH)
    done = machine.reload(wants({"default": 2, "slow": 1}), changed=("slow",))
    assert [str(child.slot) for child in done.spawned] == ["slow/0"]
    assert machine.ready(4).orders == [(3, ChildOrder.RETIRE)]


def test_a_pool_that_grows_keeps_its_children() -> None:
    """Another number of workers alone is no other recipe: the pool grows by new workers
    of its own generation, which are proved before the answer, or it shrinks.
    """
    machine = running(wants(2))
    done = machine.reload(wants(4), 5, changed=())
    assert [(child.slot.index, child.generation) for child in done.spawned] == [(2, 1), (3, 1)]
    assert not machine.ready(3).answers
    assert machine.ready(4).answers == [(5, "")]
    assert machine.births(ChildPhase.READY) == [1, 2, 3, 4]
    done = machine.reload(wants(1), 6, changed=())
    assert done.answers == [(6, "")]
    assert done.receivers(ChildOrder.RETIRE) == [2, 3, 4]
    assert machine.births(ChildPhase.READY) == [1]


def test_a_pool_that_cannot_grow_refuses_the_reload() -> None:
    """A new worker of a growing pool that fails refuses the reload. The pool has its
    old workers, and only those.
    """
    machine = running(wants(1))
    machine.reload(wants(3), 5, changed=())
    machine.ready(2)
    done = machine.exit(3, ended="killed by SIGSEGV")
    assert [reason.partition(": ")[2] for _, reason in done.answers] == ["killed by SIGSEGV"]
    assert done.orders == [(2, ChildOrder.RETIRE)]
    assert machine.births(ChildPhase.READY) == [1]
    assert machine.state.wanted.workers == {"default": 1}


def test_a_death_in_a_kept_pool_does_not_refuse_the_reload() -> None:
    """A child of a kept pool that dies during the proof is replaced. The reload goes
    on: it does not prove that child.
    """
    machine = running(BOTH)
    machine.reload(BOTH, 5, changed=("other",))
    done = machine.exit(1, ended="killed by SIGSEGV")
    assert not done.answers
    machine.wait(0.1)
    assert machine.child(5).slot.pool == "default"
    assert machine.child(5).generation == 1
    assert machine.ready(4).answers == [(5, "")]


def test_a_refused_reload_leaves_every_pool_as_it_was() -> None:
    """A refused reload leaves the generations and the children of all pools as they
    were.
    """
    machine = running(BOTH)
    before = machine.state.wanted
    machine.reload(BOTH, 5, changed=("other",))
    assert not machine.exit(4).receivers(ChildOrder.RETIRE)
    assert machine.state.wanted == before
    assert machine.births(ChildPhase.READY) == [1, 2, 3]


@pytest.mark.parametrize("queued", [False, True])
def test_a_reload_of_every_pool_replaces_all(queued: bool) -> None:
    """A reload that asks for every pool replaces the children of unchanged pools too,
    also if it had to wait for another reload. The next reload does not.
    """
    machine = running(BOTH)
    if queued:
        machine.take(ev.ReloadAsked(1), ev.ReloadAsked(2, every_pool=True), ev.ReloadAsked(3))
        done = machine.take(ev.ConfigLoaded(BOTH))
        assert (done.answers, done.spawned) == ([(1, "")], [])
        assert machine.state.asked == Asked((2, 3), every_pool=True)
    else:
        machine.take(ev.ReloadAsked(2, every_pool=True))
    done = machine.take(ev.ConfigLoaded(BOTH))
    births = [child.birth for child in done.spawned]
    assert births == [4, 5, 6]
    done = machine.ready(*births)
    assert done.receivers(ChildOrder.RETIRE) == [1, 2, 3]
    assert not machine.reload(BOTH, changed=()).spawned


def test_a_reload_ends_the_back_offs_of_kept_pools() -> None:
    """A reload retries a child at once that waits after early deaths, because the cause
    may be mended, also where the configuration is not the cause.
    """
    machine = running(BOTH)
    for _ in range(3):
        machine.exit(*machine.births(ChildPhase.STARTING), *machine.births(ChildPhase.READY)[:1])
        machine.wait(0.05)
    assert throttled(machine.state)
    born_before = machine.state.next_birth
    done = machine.reload(BOTH, changed=())
    assert done.spawned
    assert all(child.birth >= born_before for child in done.spawned)
    assert not machine.state.throttles


def test_signals_change_a_kept_pool_until_the_next_reload() -> None:
    """Workers that a signal added or removed last until the next reload, also where
    that leaves the pool alone otherwise.
    """
    machine = running(wants(2))
    machine.ready(*(child.birth for child in machine.take(ev.PoolResized("default", 1)).spawned))
    assert machine.reload(wants(2), changed=()).receivers(ChildOrder.RETIRE) == [3]
    assert machine.take(ev.PoolResized("default", -1)).receivers(ChildOrder.RETIRE) == [2]
    (child,) = machine.reload(wants(2), 5, changed=()).spawned
    assert (child.slot.index, child.generation) == (1, 1)
    assert machine.ready(child.birth).answers == [(5, "")]


def test_a_signal_during_the_proof_of_a_growing_pool() -> None:
    """A worker that a signal adds and the candidate wants too is spawned once. If the
    reload is refused, the worker stays, because the signal asked for it.
    """
    machine = running(wants({"default": 1, "other": 1}))
    machine.reload(wants({"default": 2, "other": 1}), changed=("other",))
    assert machine.births(ChildPhase.STARTING) == [3, 4]
    machine.ready(3)
    assert not machine.take(ev.PoolResized("default", 1)).spawned
    machine.exit(4)
    assert machine.births(ChildPhase.READY) == [1, 2, 3]
