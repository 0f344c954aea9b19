"""unpd scale: a pool has another number of workers until the file wants another one."""

from typing import Any

import pytest

from tests.support.machine import Effects, Machine, booted, proving, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.names import MAX_WORKERS, ChildOrder, ChildPhase

REQUEST = 9


def scale(machine: Machine, workers: int, pool: str = "default", configured: int = 2) -> Effects:
    """Ask for a number of workers."""
    return machine.take(ev.PoolScaled(REQUEST, pool, workers, configured))


def answer(done: Effects) -> fx.AnswerScale:
    """The only answer to the request."""
    (answered,) = done.of_type(fx.AnswerScale)
    assert answered.request == REQUEST
    return answered


def scales(machine: Machine) -> dict[str, int]:
    """The numbers that the state has from operators."""
    return {pool: scale.workers for pool, scale in machine.state.scales.items()}


def test_a_pool_grows_at_once() -> None:
    """By new children in the next slots; the answer has the number before."""
    machine = running(wants(2))
    done = scale(machine, 4)
    assert [child.slot.index for child in done.spawned] == [2, 3]
    found = answer(done)
    assert (found.refused, found.pool, found.workers, found.before, found.configured) == (
        "",
        "default",
        4,
        2,
        2,
    )
    assert done.log_lines("pool.scaled") == [{"pool": "default", "workers": 4, "before": 2}]
    assert scales(machine) == {"default": 4}


def test_a_pool_shrinks_as_after_a_reload() -> None:
    """The workers of the last slots drain, and none takes their places."""
    machine = running(wants(3))
    done = scale(machine, 1, configured=3)
    assert done.orders == [(2, ChildOrder.RETIRE), (3, ChildOrder.RETIRE)]
    assert machine.births(ChildPhase.READY) == [1]
    assert not machine.exit(3).spawned


def test_the_configured_number_is_no_live_change() -> None:
    """It ends the scale."""
    machine = running(wants(2))
    scale(machine, 4)
    assert answer(scale(machine, 2)).before == 4
    assert scales(machine) == {}


def test_a_worker_that_dies_comes_back_in_a_scaled_pool() -> None:
    """As any other."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    machine.wait(100.0)
    assert [child.slot.index for child in machine.exit(3).spawned] == [2]


def test_a_reload_keeps_the_number_if_the_file_wants_as_many_as_before() -> None:
    """Also if it replaces the pool; then each slot has a new child."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    machine.reload(wants(2), changed=())
    assert machine.state.wanted.workers == {"default": 3}
    machine.reload(wants(2))
    machine.ready(4, 5, 6)
    assert machine.state.wanted.workers == {"default": 3}
    assert machine.births(ChildPhase.READY) == [4, 5, 6]
    assert scales(machine) == {"default": 3}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_reload_with_another_number_ends_the_scale(workers: int) -> None:
    """Also if it is the one that the operator wanted."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    done = machine.reload(wants(workers), changed=())
    assert machine.state.wanted.workers == {"default": workers}
    assert scales(machine) == {}
    assert done.log_lines("pool.scale_ended") == [{"pool": "default", "workers": workers}]


def test_a_refused_reload_keeps_the_scale() -> None:
    """It changes nothing."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    machine.take(ev.ReloadAsked(None), ev.ConfigRefused("the file is gone"))
    assert scales(machine) == {"default": 3}
    assert machine.state.wanted.workers == {"default": 3}


def test_a_renewal_of_listeners_keeps_the_scale() -> None:
    """Nobody asked for it, and it reads no file."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    machine.take(ev.ListenersRenewed(), ev.ConfigLoaded(machine.edited(wants(2))))
    machine.ready(4, 5, 6)
    assert scales(machine) == {"default": 3}
    assert machine.births(ChildPhase.READY) == [4, 5, 6]


def test_a_signal_changes_the_number_that_is_kept() -> None:
    """SIGTTIN of a scaled pool: one more than the operator wanted."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    machine.take(ev.PoolResized("default", 1))
    machine.ready(4)
    machine.reload(wants(2), changed=())
    assert machine.state.wanted.workers == {"default": 4}


def test_a_signal_back_to_the_configured_number_ends_the_scale() -> None:
    """It is no live change any more, so that another number in the file ends none."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    machine.take(ev.PoolResized("default", -1))
    machine.exit(3)
    assert scales(machine) == {}
    done = machine.reload(wants(1), changed=())
    assert not done.log_lines("pool.scale_ended")


@pytest.mark.parametrize(("delta", "kept"), [(1, {"default": 4}), (-1, {})])
def test_a_signal_during_a_reload_holds_after_it(delta: int, kept: dict[str, int]) -> None:
    """If the reload keeps the scale; the new children are as many as wanted now."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    machine.take(ev.ReloadAsked(None), ev.ConfigLoaded(machine.edited(wants(2))))
    machine.take(ev.PoolResized("default", delta))
    workers = 3 + delta
    machine.ready(*machine.births(ChildPhase.STARTING))
    assert machine.state.candidate is None, "it is adopted"
    assert machine.state.wanted.workers == {"default": workers}
    assert len(machine.births(ChildPhase.READY)) == workers
    assert scales(machine) == kept


def test_two_signals_during_a_reload_cancel_each_other() -> None:
    """Also where the number is that of the file between them."""
    machine = running(wants(2))
    scale(machine, 3)
    machine.ready(3)
    machine.take(ev.ReloadAsked(None), ev.ConfigLoaded(machine.edited(wants(2))))
    machine.take(ev.PoolResized("default", -1), ev.PoolResized("default", 1))
    machine.ready(*machine.births(ChildPhase.STARTING))
    assert machine.state.wanted.workers == {"default": 3}


def test_a_scale_without_room_ends_at_the_reload() -> None:
    """The pools of the new file come first."""
    machine = running(wants({"default": 1, "slow": 1}))
    scale(machine, 3, configured=1)
    machine.ready(3, 4)
    machine.take(
        ev.ReloadAsked(None),
        ev.ConfigLoaded(machine.edited(wants({"default": 1, "slow": MAX_WORKERS - 1}), ())),
    )
    candidate = machine.state.candidate
    assert candidate is not None
    assert candidate.workers == {"default": 1, "slow": MAX_WORKERS - 1}


CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "an unknown pool": (
        lambda: running(wants(2)),
        {"workers": 3, "pool": "slow"},
        "the pool slow has no workers",
    ),
    "too many": (
        lambda: running(wants({"default": 2, "slow": MAX_WORKERS - 3})),
        {"workers": 4},
        f"all pools together would have {MAX_WORKERS + 1} workers, but at most {MAX_WORKERS} fit",
    ),
    "during the start": (
        lambda: booted(wants(2)),
        {"workers": 3},
        "the daemon is starting: ask again when it is running",
    ),
    "during a reload": (
        lambda: proving(wants(2), wants(2)),
        {"workers": 3},
        "the daemon is proving: ask again when it is running",
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_what_cannot_be_is_refused_in_one_sentence(case: str) -> None:
    """Nothing changes."""
    make, asked, sentence = CASES[case]
    machine = make()
    before = machine.state.wanted
    done = scale(machine, **asked)
    assert answer(done).refused == sentence
    assert (machine.state.wanted, scales(machine)) == (before, {})
    assert not done.orders
    assert not done.spawned


def test_a_stop_refuses() -> None:
    """The daemon starts no worker any more."""
    machine = running(wants(2))
    machine.stop()
    assert answer(scale(machine, 3)).refused == "the daemon is stopping"
