"""The lame time before a graceful stop: the daemon serves as before, and says to load
balancers, to people and to the service manager that it will stop.
"""

import time
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM

import pytest

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.operating import ask, reload_behind_a_stop, status
from tests.support.waiting import until

LASTING = """
[daemon]
lame_duck_s = 600
grace_s = 1
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""
SHORT_S = 2.0
SHORT = LASTING.replace("600", f"{SHORT_S}")


def lame(launch: Launch, text: str = LASTING) -> Unpd:
    """Start a daemon, and order it to stop."""
    unpd = launch(text)
    unpd.signal(SIGTERM)
    unpd.wait_event("master.lame", by="SIGTERM")
    return unpd


def stopped(unpd: Unpd) -> None:
    """End the lame time, and wait for the end of the stop."""
    unpd.signal(SIGTERM)
    assert unpd.wait_exit() == 0


def test_a_lame_daemon_serves_and_is_not_ready(launch: Launch) -> None:
    """New clients are served and old ones go on, while /readyz says 503. Status,
    process title and page name the phase.
    """
    unpd = launch(LASTING)
    with clients.connect(unpd.address("echo")) as old:
        old.sendall(b"before")
        assert clients.read_exactly(old, 6) == b"before"
        assert unpd.get("/readyz").status == 200
        unpd.signal(SIGTERM)
        unpd.wait_event("master.lame", lame_duck_s=600.0, by="SIGTERM")
        answer = unpd.get("/readyz")
        assert (answer.status, answer.body) == (503, b"the daemon will stop soon\n")
        assert unpd.get("/healthz").status == 200
        assert b"<title>unpd: lame</title>" in unpd.get("/").body
        clients.converse(unpd.address("echo"), b"new")
        old.sendall(b"after")
        assert clients.read_exactly(old, 5) == b"after"
    shown = status(unpd)
    assert (shown["phase"], shown["ready"], shown["degraded"]) == ("lame", False, [])
    assert shown["stop_ends_at"]
    assert shown["services"][0]["listeners"]
    assert procs.title(unpd.pid).startswith("unpd: master lame")
    checked = unpd.run("status", "--check", "--config", str(unpd.config_path))
    assert checked.returncode == 4
    assert b": lame, pid" in checked.stdout
    assert not unpd.log_events("master.stopping")
    stopped(unpd)


@pytest.mark.slow
def test_the_stop_follows(launch: Launch) -> None:
    """It begins when lame_duck_s is over."""
    unpd = launch(SHORT)
    with clients.connect(unpd.address("echo")) as held:
        held.sendall(b"x")
        assert clients.read_exactly(held, 1) == b"x"
        began = time.monotonic()
        unpd.signal(SIGTERM)
        assert clients.read_all(held) == b""
        assert time.monotonic() - began >= SHORT_S
    assert unpd.wait_exit() == 0
    assert time.monotonic() - began < 10 * (SHORT_S + 1.0)
    assert unpd.log_events("master.stopping", quick=False, by="SIGTERM")
    assert unpd.log_events("master.stopped", reason="stopped by SIGTERM")


def test_a_second_order_ends_the_lame_time(launch: Launch) -> None:
    """By a signal or by the command; the stop itself is graceful."""
    stopped(lame(launch))
    unpd = lame(launch)
    done = unpd.run("stop", "--config", str(unpd.config_path))
    assert (done.returncode, done.stdout) == (0, b"stopped\n")
    assert unpd.wait_exit() == 0
    assert unpd.log_events("master.stopping", quick=False)


@pytest.mark.slow
def test_the_command_makes_lame_too(launch: Launch) -> None:
    """It waits for the end of the process, also for the lame time."""
    unpd = launch(SHORT)
    began = time.monotonic()
    done = unpd.run("stop", "--config", str(unpd.config_path))
    assert (done.returncode, done.stdout) == (0, b"stopped\n")
    assert time.monotonic() - began >= SHORT_S
    assert unpd.log_events("master.lame")
    assert unpd.wait_exit() == 0


@pytest.mark.parametrize("lame_first", [False, True])
def test_a_quick_stop_does_not_wait(launch: Launch, lame_first: bool) -> None:
    """Neither for a lame time to come, nor for the rest of one."""
    unpd = lame(launch) if lame_first else launch(LASTING)
    assert unpd.stop(SIGINT, timeout_s=10.0) == 0
    assert bool(unpd.log_events("master.lame")) is lame_first


def test_a_reload_is_refused(launch: Launch) -> None:
    """A command gets the reason. After a signal the log has it."""
    unpd = lame(launch)
    unpd.expect_errors("reload.refused")
    done = unpd.run("reload", "--config", str(unpd.config_path))
    assert done.returncode == 1
    assert b"reload failed: the daemon is stopping" in done.stderr
    unpd.signal(SIGHUP)
    until(
        lambda: len(unpd.log_events("reload.refused", reason="the daemon is stopping")) == 2,
        10.0,
        "both refusals in the log",
    )
    preview = unpd.run("reload", "--dry-run", "--config", str(unpd.config_path))
    assert preview.returncode == 1
    assert b"reload would fail: the daemon is stopping" in preview.stderr
    waited = unpd.run("wait", "ready", "--config", str(unpd.config_path))
    assert waited.returncode == 4
    assert waited.stderr == b"unpd: not ready: the daemon is stopping\n"
    stopped(unpd)


def test_a_reload_of_the_same_turn_is_refused(launch: Launch) -> None:
    """The order to stop is taken first, wherever the request stands."""
    unpd = launch(LASTING)
    unpd.expect_errors("reload.refused")
    answer = reload_behind_a_stop(unpd)
    assert answer["ok"] is False
    assert "stopping" in answer["reason"]
    assert status(unpd)["phase"] == "lame"
    stopped(unpd)


def test_workers_that_die_are_replaced(launch: Launch) -> None:
    """Clients still come."""
    unpd = lame(launch)
    before = unpd.workers()
    procs.kill(before, SIGKILL)
    unpd.wait_respawned(before)
    clients.converse(unpd.address("echo"), b"served")
    stopped(unpd)


def test_a_listener_that_is_opened_anew_is_served(launch: Launch, tmp_path: Path) -> None:
    """A cleaner removes the file of a UNIX listener. New workers serve the new one, and
    the daemon stays lame.
    """
    path = tmp_path / "echo.sock"
    unpd = lame(launch, LASTING.replace("tcp://127.0.0.1:0", f"unix://{path}"))
    path.unlink()
    unpd.wait_event("listener.renewed", service="echo")
    unpd.wait_event("reload.succeeded", generation=2)
    assert clients.converse(str(path), b"served") == b"served"
    until(lambda: status(unpd)["degraded"] == [], 10.0, "the fault to end")
    assert status(unpd)["phase"] == "lame"
    stopped(unpd)


def test_a_service_can_be_drained_meanwhile(launch: Launch) -> None:
    """Whoever knows that the load balancers have noticed need not wait."""
    unpd = lame(launch)
    assert ask(unpd.control, verb="drain", service="echo")["halted"] == "draining"
    stopped(unpd)


@pytest.mark.slow
def test_the_service_manager_hears_of_it(launch: Launch, systemd: FakeSystemd) -> None:
    """STOPPING comes at once, requests for more time and signs of life for as long as
    the daemon is lame.
    """
    unpd = systemd.start(launch, LASTING, watchdog_s=2.0)
    systemd.wait("READY")
    unpd.signal(SIGTERM)
    systemd.wait("STOPPING", "1")
    assert systemd.wait("STATUS", "lame, generation 1, 2 of 2 workers ready, 0 connections")
    beats = len(systemd.heard("WATCHDOG"))
    until(
        lambda: (
            len(systemd.heard("WATCHDOG")) >= beats + 2
            and len(systemd.heard("EXTEND_TIMEOUT_USEC")) >= 3
        ),
        20.0,
        "signs of life and requests for more time",
    )
    stopped(unpd)
