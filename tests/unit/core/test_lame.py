"""The lame time before a stop: the daemon serves on, and begins nothing new."""

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
    assert machine.take(ev.ListenersRenewed()) == ()


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
    """The answer to LoadConfig crosses the order."""
    machine = running(wants(1, lame_duck_s=LAME_S))
    machine.take(ev.ReloadAsked(1))
    assert machine.stop().of_type(fx.DropConfig)
    assert machine.take(ev.ConfigLoaded(wants(3))) == ()
    assert machine.state.phase is MasterPhase.LAME


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
