"""The reload that gives renewed listeners to the children."""

import pytest

from tests.support.machine import running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.names import ChildOrder, ChildPhase, MasterPhase

NEW = {"default": "new"}
"""The recipe of the default pool, whose listeners were renewed."""


def test_renewed_listeners_reach_new_children_without_reading_the_file() -> None:
    """A renewal proves and adopts a new generation of the running configuration. The
    configuration file, which may have changed meanwhile, is not read.
    """
    machine = running(wants(1))
    begun = machine.take(ev.ListenersRenewed())
    assert begun == (fx.ReuseConfig(),)
    machine.take(ev.ConfigLoaded(wants(1, recipes=NEW)))
    done = machine.ready(2)
    assert done.of_type(fx.AdoptConfig)
    assert machine.state.phase is MasterPhase.RUNNING


def test_a_renewal_during_a_reload_does_not_disturb_it() -> None:
    """The reload under way has the renewed listeners already, or the shell asks again
    after it: nothing is queued.
    """
    machine = running(wants(1))
    machine.take(ev.ReloadAsked(5))
    assert machine.take(ev.ListenersRenewed()) == ()
    machine.take(ev.ConfigLoaded(wants(1, recipes=NEW)))
    assert machine.ready(2).answers == [(5, "")]
    assert machine.state.phase is MasterPhase.RUNNING


@pytest.mark.parametrize("end", ["success", "failed proof", "failed load"])
def test_a_renewal_does_not_count_as_a_reload(end: str) -> None:
    """A renewal is counted and recorded as no reload, however it ends, so that a
    reload that was refused before stays the last one. The next reload counts again.
    """
    machine = running(wants(1))
    machine.take(ev.ListenersRenewed())
    if end == "failed load":
        done = machine.take(ev.ConfigRefused("too many open files"))
    else:
        machine.take(ev.ConfigLoaded(wants(1, recipes=NEW)))
        done = machine.ready(2) if end == "success" else machine.exit(2)
    if end == "success":
        assert done.of_type(fx.AdoptConfig)
    else:
        assert done.log_lines("reload.refused")
    assert not done.of_type(fx.CountReload)
    machine.take(ev.ReloadAsked(5))
    done = machine.take(ev.ConfigRefused("nonsense"))
    assert done.of_type(fx.CountReload) == [fx.CountReload("nonsense")]


def test_a_reload_that_waits_for_a_renewal_counts() -> None:
    """A reload that was asked for during a renewal reads the file after it, and
    counts.
    """
    machine = running(wants(1))
    machine.take(ev.ListenersRenewed(), ev.ReloadAsked(5))
    done = machine.take(ev.ConfigRefused("too many open files"))
    assert done.of_type(fx.LoadConfig)
    assert not done.answers
    done = machine.take(ev.ConfigRefused("nonsense"))
    assert done.of_type(fx.CountReload) == [fx.CountReload("nonsense")]
    assert done.answers == [(5, "nonsense")]


@pytest.mark.parametrize(("delta", "left"), [(1, 3), (-1, 1)])
def test_a_renewal_keeps_the_workers_of_signals(delta: int, left: int) -> None:
    """A renewal wants as many workers as there are, also where signals have changed
    their number since the configuration was read.
    """
    machine = running(wants(2))
    machine.ready(
        *(child.birth for child in machine.take(ev.PoolResized("default", delta)).spawned)
    )
    machine.take(ev.ListenersRenewed())
    done = machine.take(ev.ConfigLoaded(wants(2, recipes=NEW)))
    assert len(done.spawned) == left
    machine.ready(*(child.birth for child in done.spawned))
    assert machine.state.wanted.workers == {"default": left}
    assert len(machine.births(ChildPhase.READY)) == left


def test_signals_during_a_renewal_last() -> None:
    """A signal that changes the number of workers during a renewal changes what it
    proves too.
    """
    machine = running(wants(2))
    machine.take(ev.ListenersRenewed(), ev.PoolResized("default", 1))
    done = machine.take(ev.ConfigLoaded(wants(2, recipes=NEW)))
    assert [child.slot.index for child in done.spawned] == [0, 1, 2]
    added = machine.take(ev.PoolResized("default", 1)).spawned
    assert [(child.slot.index, child.generation) for child in added] == [(3, 1), (3, 2)]
    done = machine.take(ev.PoolResized("default", -2))
    assert {machine.child(birth).slot.index for birth in done.receivers(ChildOrder.RETIRE)} == {
        2,
        3,
    }
    machine.ready(*machine.births(ChildPhase.STARTING))
    assert machine.state.generation == 2
    assert machine.state.wanted.workers == {"default": 2}
