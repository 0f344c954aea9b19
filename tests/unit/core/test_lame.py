"""The lame time before a stop: the daemon serves on, and gives its children listeners
that had to be opened anew, but begins nothing else.
"""

import pytest

from tests.support.machine import booted, proving, running, wants
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import next_deadline
from unpd.core.policy import LAST_SHARE
from unpd.names import ChildOrder, ChildPhase, ExitCode, MasterPhase

LAME_S = 5.0


def test_a_lame_daemon_serves_on_and_stops_then() -> None:
    """No child gets an order and no listener is closed before lame_duck_s is over. Then
    the graceful stop begins, and has its whole grace.
    """
    machine = running(wants(2, exporter=True, lame_duck_s=LAME_S, grace_s=10.0))
    done = machine.stop()
    assert machine.state.phase is MasterPhase.LAME
    assert done.log_lines("master.lame") == [{"lame_duck_s": LAME_S, "by": "a test"}]
    assert not done.orders
    assert not done.of_type(fx.CloseListeners)
    assert not machine.wait(LAME_S - 0.01)
    done = machine.wait(0.02)
    assert done.receivers(ChildOrder.FINISH) == [2, 3]
    assert len(done.of_type(fx.CloseListeners)) == 1
    assert done.log_lines("master.stopping") == [{"quick": False, "by": "a test"}]
    assert not machine.wait(7.9).receivers(ChildOrder.KILL)
    assert machine.wait(0.2).receivers(ChildOrder.KILL) == [2, 3]
    machine.exit(2, 3)
    assert machine.exit(1).of_type(fx.Leave) == [fx.Leave(ExitCode.DONE, "stopped by a test")]


def test_the_end_of_the_stop_is_known_from_the_beginning() -> None:
    """What the status shows of it does not change when the lame time is over."""
    machine = running(wants(1, lame_duck_s=LAME_S, grace_s=10.0))
    asked_at = machine.clock.now
    machine.stop()
    ends_at = machine.state.sessions_end_at
    assert ends_at == asked_at + LAME_S + LAST_SHARE * 10.0
    machine.wait(LAME_S)
    assert machine.state.phase is MasterPhase.STOPPING
    assert machine.state.sessions_end_at == ends_at


def test_a_second_order_ends_the_lame_time() -> None:
    """The graceful stop then begins at once; a third order changes nothing."""
    machine = running(wants(2, lame_duck_s=LAME_S))
    machine.stop()
    machine.wait(1.0)
    done = machine.stop()
    assert machine.state.phase is MasterPhase.STOPPING
    assert done.receivers(ChildOrder.FINISH) == [1, 2]
    assert machine.stop() == ()


def test_a_quick_stop_is_never_lame() -> None:
    """Neither at once, nor in a lame time that has begun."""
    machine = running(wants(1, lame_duck_s=LAME_S))
    assert machine.stop(quick=True).receivers(ChildOrder.LEAVE) == [1]
    machine = running(wants(1, lame_duck_s=LAME_S))
    machine.stop()
    assert machine.stop(quick=True).receivers(ChildOrder.LEAVE) == [1]
    assert machine.state.phase is MasterPhase.STOPPING


def test_a_child_that_dies_is_replaced() -> None:
    """Clients still come. The new child finishes with the others."""
    machine = running(wants(2, lame_duck_s=LAME_S))
    machine.wait(20.0)
    machine.stop()
    assert [child.birth for child in machine.exit(1).spawned] == [3]
    machine.ready(3)
    assert machine.births(ChildPhase.READY) == [2, 3]
    assert machine.wait(LAME_S).receivers(ChildOrder.FINISH) == [2, 3]


def test_a_child_that_hangs_is_replaced() -> None:
    """Its heartbeat counts as before."""
    machine = running(wants(1, lame_duck_s=60.0, heartbeat_timeout_s=1.0))
    machine.wait(1.0)
    machine.beat(1)
    machine.stop()
    machine.wait(1.5)
    assert machine.beat().receivers(ChildOrder.ABORT) == [1]


def test_a_child_that_fails_to_start_ends_nothing() -> None:
    """Only in the first start a failure stops the daemon."""
    machine = running(wants(1, lame_duck_s=LAME_S))
    machine.wait(20.0)
    machine.stop()
    machine.exit(1)
    machine.take(ev.ChildFailed(2, "the moon is full", ExitCode.PRIVILEGE))
    assert machine.state.phase is MasterPhase.LAME
    machine.exit(2)
    assert [child.birth for child in machine.wait(1.0).spawned] == [3]


def test_a_reload_is_refused_and_logged() -> None:
    """Whoever asks. The configuration is not read."""
    machine = running(wants(1, lame_duck_s=LAME_S))
    machine.stop()
    done = machine.take(ev.ReloadAsked(4))
    assert done.answers == [(4, "the daemon is stopping")]
    line = {"reason": "the daemon is stopping", "generation": 1}
    assert done.log_lines("reload.refused") == [line]
    assert machine.take(ev.ReloadAsked(None)).log_lines("reload.refused") == [line]
    assert not done.of_type(fx.LoadConfig)


def test_renewed_listeners_get_children() -> None:
    """They come beside the old ones, which are retired when the new ones serve. The
    phase and its end stay as they are, and the stop ends all of them.
    """
    wanted = wants(2, lame_duck_s=LAME_S, grace_s=10.0)
    machine = running(wanted)
    machine.stop()
    ends_at = next_deadline(machine.state)
    machine.wait(1.0)
    done = machine.renew(wanted)
    assert done.of_type(fx.ReuseConfig)
    assert not done.of_type(fx.LoadConfig)
    assert [child.birth for child in done.spawned] == [3, 4]
    assert not machine.ready(3).orders
    done = machine.ready(4)
    assert done.orders == [(1, ChildOrder.RETIRE), (2, ChildOrder.RETIRE)]
    assert done.of_type(fx.AdoptConfig) == [fx.AdoptConfig(2)]
    assert not done.of_type(fx.CountReload)
    assert machine.state.phase is MasterPhase.LAME
    machine.exit(1, 2)
    assert next_deadline(machine.state) == ends_at
    assert machine.wait(LAME_S).receivers(ChildOrder.FINISH) == [3, 4]


def test_a_second_renewal_waits_for_the_first() -> None:
    """The shell asks again. It may do so as soon as the first has ended."""
    wanted = wants(1, lame_duck_s=LAME_S)
    machine = running(wanted)
    machine.stop()
    machine.renew(wanted)
    assert machine.take(ev.ListenersRenewed()) == ()
    machine.ready(2)
    assert [child.birth for child in machine.renew(wanted).spawned] == [3]


def test_a_renewal_that_fails_ends_nothing() -> None:
    """The old children go on, and the lame time still ends when it should."""
    wanted = wants(1, lame_duck_s=LAME_S)
    machine = running(wanted)
    machine.stop()
    machine.renew(wanted)
    done = machine.take(ev.ChildFailed(2, "the moon is full", ExitCode.FAILED))
    assert done.log_lines("reload.refused") == [{"reason": "the moon is full", "generation": 1}]
    assert done.of_type(fx.DropConfig)
    machine.take(ev.ListenersRenewed())
    done = machine.take(ev.ConfigRefused("no descriptor is left", renewal=True))
    assert len(done.log_lines("reload.refused")) == 1
    assert machine.births(ChildPhase.READY) == [1]
    machine.exit(2)
    machine.wait(LAME_S)
    assert machine.state.phase is MasterPhase.STOPPING


def test_a_stop_ends_a_renewal() -> None:
    """At the end of the lame time its configuration is dropped, and its children finish
    with the others.
    """
    wanted = wants(1, lame_duck_s=LAME_S)
    machine = running(wanted)
    machine.stop()
    machine.renew(wanted)
    done = machine.wait(LAME_S)
    assert done.of_type(fx.DropConfig)
    assert done.receivers(ChildOrder.FINISH) == [1, 2]
    machine.exit(1)
    assert machine.exit(2).of_type(fx.Leave)


@pytest.mark.parametrize("reached", [MasterPhase.LOADING, MasterPhase.PROVING])
def test_a_renewal_under_way_goes_on(reached: MasterPhase) -> None:
    """The order to stop does not end it, whatever it waits for; a reload after it is
    refused, whether a command asked for it or a signal.
    """
    wanted = wants(1, lame_duck_s=LAME_S)
    machine = running(wanted)
    machine.take(ev.ListenersRenewed())
    loaded = ev.ConfigLoaded(machine.edited(wanted), renewal=True)
    if reached is MasterPhase.PROVING:
        machine.take(loaded)
    machine.take(ev.ReloadAsked(9))
    assert machine.state.phase is reached
    done = machine.stop()
    assert done.answers == [(9, "the daemon is stopping (stopped by a test)")]
    line = {"reason": "the daemon is stopping (stopped by a test)", "generation": 1}
    assert done.log_lines("reload.refused") == [line]
    assert not done.of_type(fx.DropConfig)
    if reached is MasterPhase.LOADING:
        machine.take(loaded)
    assert machine.state.phase is MasterPhase.LAME
    assert machine.ready(2).orders == [(1, ChildOrder.RETIRE)]


def test_a_renewal_does_not_wait_for_room() -> None:
    """The end of the lame time must not wait. The drains that are in the way go on; the
    next renewal has room if they have ended.
    """
    wanted = wants(1, lame_duck_s=60.0)
    machine = running(wanted, 2)
    machine.reload(wanted)
    machine.ready(2)
    machine.stop()
    done = machine.renew(wanted)
    line = {"reason": "there is no room for the new children yet", "generation": 2}
    assert done.log_lines("reload.refused") == [line]
    assert not done.receivers(ChildOrder.FINISH)
    machine.exit(1)
    assert [child.birth for child in machine.renew(wanted).spawned] == [3]


def test_a_renewal_that_waited_for_room_is_refused() -> None:
    """In the order to stop, before the old drains have ended."""
    wanted = wants(1, lame_duck_s=60.0)
    machine = running(wanted, 2)
    machine.reload(wanted)
    machine.ready(2)
    waiting = machine.renew(wanted)
    assert waiting.receivers(ChildOrder.FINISH) == [1]
    assert not waiting.spawned
    done = machine.stop()
    assert len(done.log_lines("reload.refused")) == 1
    assert done.of_type(fx.DropConfig)
    assert machine.state.phase is MasterPhase.LAME


def test_a_pool_is_resized_but_not_scaled() -> None:
    """A signal adds a worker for what is left of the time. A number of workers that
    would be kept over reloads is refused.
    """
    machine = running(wants(1, lame_duck_s=LAME_S))
    machine.stop()
    assert len(machine.take(ev.PoolResized("default", 1)).spawned) == 1
    (answer,) = machine.take(ev.PoolScaled(7, "default", 3, 1)).of_type(fx.AnswerScale)
    assert answer.refused == "the daemon is stopping"


def test_a_reload_under_way_ends() -> None:
    """The daemon drops the candidate, retires its children, and goes on with those that
    served.
    """
    machine = proving(wants(2, lame_duck_s=LAME_S), wants(2, lame_duck_s=LAME_S), 9)
    machine.take(ev.ReloadAsked(10))
    machine.ready(3)
    done = machine.stop()
    assert machine.state.phase is MasterPhase.LAME
    reason = "the daemon is stopping (stopped by a test)"
    assert done.answers == [(9, reason), (10, reason)]
    assert done.log_lines("reload.refused") == [{"reason": reason, "generation": 1}]
    assert done.of_type(fx.DropConfig)
    assert done.orders == [(3, ChildOrder.RETIRE), (4, ChildOrder.RETIRE)]
    assert machine.births(ChildPhase.READY) == [1, 2]
    assert machine.state.candidate is None
    machine.exit(3, 4)
    assert machine.births() == [1, 2]


def test_a_configuration_that_was_being_read_is_ignored() -> None:
    """The answer to LoadConfig crosses the order. It is not taken for the answer to a
    renewal.
    """
    machine = running(wants(1, lame_duck_s=LAME_S))
    machine.take(ev.ReloadAsked(1))
    assert machine.stop().of_type(fx.DropConfig)
    assert machine.take(ev.ConfigLoaded(wants(3))) == ()
    assert machine.state.phase is MasterPhase.LAME
    machine.take(ev.ListenersRenewed())
    assert machine.take(ev.ConfigLoaded(wants(3)), ev.ConfigRefused("nonsense")) == ()
    renewed = ev.ConfigLoaded(machine.edited(wants(1)), renewal=True)
    assert [child.birth for child in machine.take(renewed).spawned] == [2]


def test_a_daemon_that_starts_stops_at_once() -> None:
    """Nobody sends it clients yet."""
    machine = booted(wants(1, lame_duck_s=LAME_S))
    assert not machine.stop().log_lines("master.lame")
    assert machine.state.phase is MasterPhase.STOPPING


@pytest.mark.parametrize("lame_duck_s", [0.1, 3600.0])
def test_the_machine_asks_to_be_called_when_the_time_is_over(lame_duck_s: float) -> None:
    """Also where nothing else would wake it."""
    machine = running(wants(1, lame_duck_s=lame_duck_s))
    machine.stop()
    assert next_deadline(machine.state) == machine.clock.now + lame_duck_s
