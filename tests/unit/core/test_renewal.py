"""The reload that gives renewed listeners to the children."""

from tests.support.machine import running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.names import MasterPhase


def test_renewed_listeners_reach_new_children_without_reading_the_file() -> None:
    """A renewal proves and adopts a new generation of the running configuration. The
    configuration file, which may have changed meanwhile, is not read.
    """
    machine = running(wants(1))
    begun = machine.take(ev.ListenersRenewed())
    assert begun == (fx.ReuseConfig(),)
    machine.take(ev.ConfigLoaded(wants(1, recipes={"default": "new"})))
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
    machine.take(ev.ConfigLoaded(wants(1, recipes={"default": "new"})))
    assert machine.ready(2).answers == [(5, "")]
    assert machine.state.phase is MasterPhase.RUNNING
