"""The start: from the first spawns to ready, or to the end with a reason."""

import pytest

from tests.support.machine import booted, running, wants, wants_iterative
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.converge import SPAWNS_PER_STEP
from unpd.names import ChildKind, ChildOrder, ChildPhase, ExitCode, MasterPhase


def test_the_first_generation_is_spawned() -> None:
    """Every wanted slot gets a child of generation 1. Births count from 1."""
    machine = booted(wants({"default": 2, "slow": 1}, exporter=True))
    children = list(machine.state.children.values())
    assert [(child.birth, str(child.slot)) for child in children] == [
        (1, "exporter/0"),
        (2, "default/0"),
        (3, "default/1"),
        (4, "slow/0"),
    ]
    assert {(child.generation, child.phase) for child in children} == {(1, ChildPhase.STARTING)}
    assert machine.state.phase is MasterPhase.STARTING


def test_many_children_are_spawned_in_batches() -> None:
    """One step spawns a bounded number of children. The rest is due at once."""
    machine = booted(wants(100))
    assert len(machine.state.children) == SPAWNS_PER_STEP
    assert machine.due_in_s is not None
    assert machine.due_in_s <= 0
    assert len(machine.take(ev.TimePassed()).spawned) == SPAWNS_PER_STEP
    machine.wait(0.0)
    assert len(machine.state.children) == 100
    assert machine.due_in_s == pytest.approx(10.0)


def test_the_daemon_is_ready_when_each_pool_has_a_ready_worker() -> None:
    """One ready worker of each pool is enough. The exporter is not required."""
    machine = booted(wants({"default": 2, "slow": 1}, exporter=True))
    assert not machine.ready(2, 3).of_type(fx.AnnounceReady)
    done = machine.ready(4)
    assert done.log_lines("worker.ready") == [
        {"pool": "slow", "index": 0, "birth": 4, "generation": 1}
    ]
    assert done.of_type(fx.AnnounceReady) == [fx.AnnounceReady()]
    assert done.log_lines("master.ready") == [{"generation": 1}]
    assert machine.state.phase is MasterPhase.RUNNING


def test_the_daemon_is_ready_when_each_iterative_service_has_its_worker() -> None:
    """No other worker can take the place of the one of a service. Its lines name the
    service.
    """
    machine = booted(wants_iterative("daytime", "echo"))
    done = machine.ready(2)
    assert not done.of_type(fx.AnnounceReady)
    (line,) = done.log_lines("iterative.ready")
    assert line == {
        "pool": "default",
        "index": 1,
        "birth": 2,
        "generation": 1,
        "service": "echo",
    }
    assert machine.ready(1).of_type(fx.AnnounceReady)


def test_a_start_without_an_iterative_service_names_it() -> None:
    """The reason names the service, and not the other one, which was ready."""
    machine = booted(wants_iterative("daytime", "echo", start_timeout_s=3.0))
    machine.ready(2)
    (note,) = machine.wait(3.1).log_lines("master.start_failed")
    assert note["reason"] == (
        "no iterative worker of service daytime was ready within 3 s (iterative worker daytime was"
        " not ready in time)"
    )


def test_ready_is_announced_once() -> None:
    """Later events of workers do not announce readiness again."""
    machine = running(wants(1))
    machine.wait(60)
    machine.exit(1)
    assert not machine.ready(2).of_type(fx.AnnounceReady)


def test_the_ready_exporter_is_not_enough() -> None:
    """A ready exporter is not enough, because it serves no client."""
    machine = booted(wants(1, exporter=True))
    assert not machine.ready(1).of_type(fx.AnnounceReady)


def test_a_start_that_takes_too_long_ends_with_the_reason() -> None:
    """A start that is not ready within start_timeout_s kills the children and leaves
    with exit code 1. The reason names the pool and what was missing.
    """
    machine = booted(wants({"default": 1, "slow": 1}, start_timeout_s=3.0))
    machine.ready(1)
    assert not machine.wait(2.9)
    done = machine.wait(0.2)
    reason = "no worker of pool slow was ready within 3 s (worker slow/0 was not ready in time)"
    assert done.log_lines("master.start_failed") == [{"reason": reason}]
    assert machine.state.phase is MasterPhase.STOPPING
    assert done.orders == [(2, ChildOrder.KILL), (1, ChildOrder.LEAVE)]
    assert machine.exit(1, 2).of_type(fx.Leave) == [fx.Leave(ExitCode.FAILED, reason)]


def test_a_crash_loop_at_the_start_ends_with_its_cause() -> None:
    """A worker that always dies is respawned until start_timeout_s is over. The reason
    says how the last one ended. No exit code of a child ends the master at once.
    """
    machine = booted(wants(1))
    for birth in range(1, 7):
        done = machine.exit(birth, ended="killed by SIGSEGV")
        assert machine.state.phase is MasterPhase.STARTING
        assert not done.of_type(fx.Leave)
        machine.wait(0.1 * 2 ** (birth - 1))
    machine.exit(7, ended="exit code 77")
    assert not machine.wait(9.9 - 6.3)
    done = machine.wait(0.2)
    reason = (
        "no worker of pool default was ready within 10 s (worker default/0 ended before it was"
        " ready: exit code 77)"
    )
    assert done.of_type(fx.Leave) == [fx.Leave(ExitCode.FAILED, reason)]


def test_forks_that_fail_at_the_start_end_with_their_cause() -> None:
    """Forks that always fail are retried until start_timeout_s is over, and the reason
    says why they failed.
    """
    machine = booted(wants(1, start_timeout_s=0.5))
    for birth in (1, 2):
        machine.take(ev.ForkFailed(birth, "Resource temporarily unavailable"))
        assert machine.wait(0.1 * 2 ** (birth - 1)).spawned
    machine.take(ev.ForkFailed(3, "Resource temporarily unavailable"))
    reason = (
        "no worker of pool default was ready within 0.5 s (fork failed: Resource temporarily"
        " unavailable)"
    )
    assert machine.wait(0.5).of_type(fx.Leave) == [fx.Leave(ExitCode.FAILED, reason)]


def test_the_reason_of_a_failed_start_is_the_last_trouble() -> None:
    """An exporter's report after the last death of a worker is named."""
    machine = booted(wants(1, exporter=True))
    machine.exit(1, 2)
    machine.wait(0.1)
    assert machine.births(ChildPhase.STARTING, kind=ChildKind.EXPORTER) == [3]
    machine.take(ev.ChildFailed(3, "its port is taken", ExitCode.FAILED))
    (note,) = machine.wait(9.9).log_lines("master.start_failed")
    assert note["reason"] == ("no worker of pool default was ready within 10 s (its port is taken)")


def test_a_worker_that_reports_why_it_cannot_serve_ends_the_start() -> None:
    """The reason and the exit code that a worker reports become the master's. The other
    children leave at once.
    """
    machine = booted(wants(3, exporter=True))
    done = machine.take(
        ev.ChildFailed(
            2, "cannot drop privileges to unpd: Operation not permitted", ExitCode.PRIVILEGE
        )
    )
    assert machine.state.phase is MasterPhase.STOPPING
    assert done.receivers(ChildOrder.LEAVE) == [1, 2, 3, 4]
    assert done.of_type(fx.CloseListeners)
    done = machine.exit(1, 2, 3, 4)
    assert done.of_type(fx.Leave) == [
        fx.Leave(ExitCode.PRIVILEGE, "cannot drop privileges to unpd: Operation not permitted")
    ]


def test_an_exporter_that_cannot_serve_does_not_end_the_start() -> None:
    """An exporter that cannot serve is respawned, because services do not depend
    on it.
    """
    machine = booted(wants(1, exporter=True))
    machine.take(ev.ChildFailed(1, "no", ExitCode.FAILED))
    machine.exit(1, ended="exit code 1")
    assert machine.state.phase is MasterPhase.STARTING
    assert [child.slot.kind for child in machine.wait(0.1).spawned] == [ChildKind.EXPORTER]


def test_a_failure_of_an_unwanted_worker_does_not_end_the_start() -> None:
    """A worker whose slot TTOU removed may report a failure without ending the
    start.
    """
    machine = booted(wants(2))
    machine.take(ev.PoolResized("default", -1))
    machine.take(ev.ChildFailed(2, "no", ExitCode.PRIVILEGE))
    assert machine.state.phase is MasterPhase.STARTING


def test_a_respawned_worker_that_cannot_serve_does_not_end_the_daemon() -> None:
    """After the start a failure report is a log line, and the respawn is delayed."""
    machine = running(wants(2))
    machine.wait(60)
    machine.exit(1)
    done = machine.take(
        ev.ChildFailed(3, "the disk is on fire", ExitCode.CONFIGURATION),
        ev.ChildExited(3, "exit code 78"),
    )
    assert done.log_lines("worker.failed")[0]["reason"] == "the disk is on fire"
    assert done.log_lines("worker.died")[0]["respawn_in_s"] == pytest.approx(0.1)
    assert machine.state.phase is MasterPhase.RUNNING


def test_the_start_timeout_ends_with_the_start() -> None:
    """A running master has no deadline."""
    machine = running(wants(2, exporter=True))
    assert machine.due_in_s is None
    assert not machine.wait(10**6)


def test_a_late_respawn_is_killed_and_delayed() -> None:
    """A worker that is not ready within start_timeout_s is killed, and its death counts
    as an early one.
    """
    machine = running(wants(2))
    machine.wait(60)
    machine.exit(1)
    done = machine.wait(10.0)
    assert done.orders == [(3, ChildOrder.KILL)]
    assert done.log_lines("worker.start_timed_out")[0]["after_s"] == 10.0
    assert not machine.exit(3, ended="killed by SIGKILL").spawned
    assert machine.due_in_s == pytest.approx(0.1)
    assert machine.state.phase is MasterPhase.RUNNING


def test_a_reload_that_is_asked_for_during_the_start_follows_it() -> None:
    """A reload request during the start is kept, and begins when the start is done."""
    machine = booted(wants(1))
    assert not machine.take(ev.ReloadAsked(7)).of_type(fx.LoadConfig)
    assert machine.ready(1).of_type(fx.LoadConfig)
    assert machine.take(ev.ConfigRefused("nonsense")).answers == [(7, "nonsense")]


def test_a_reload_that_waits_for_a_start_that_fails_is_answered() -> None:
    """A reload request that waits for a start that fails is answered."""
    machine = booted(wants(1))
    machine.take(ev.ReloadAsked(7), ev.ReloadAsked(None), ev.ReloadAsked(8))
    done = machine.take(ev.ChildFailed(1, "no", ExitCode.FAILED))
    assert done.answers == [(7, "the daemon is stopping (no)"), (8, "the daemon is stopping (no)")]
