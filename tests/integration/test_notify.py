"""Notifications to the service manager: ready, reloading, stopping, status and
watchdog. A service manager that does not read never delays the daemon.
"""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support import clients, procs
from tests.support.fake_systemd import FakeSystemd, fake_systemd
from tests.support.launch import Launch
from tests.support.operating import refused_reload, reload
from tests.support.waiting import holds, until

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


def test_each_phase_is_notified(launch: Launch, systemd: FakeSystemd) -> None:
    """The service manager receives READY when the services are ready, STOPPING with
    more time at the stop, and a correct status line at each step.
    """
    unpd = systemd.start(launch, ECHO)
    systemd.wait("READY", "1")
    assert systemd.wait("STATUS", "generation 1, 2 of 2 workers ready, 0 connections")
    with clients.connect(unpd.address("echo")) as sock:
        sock.sendall(b"x")
        assert clients.read_exactly(sock, 1) == b"x"
        systemd.wait("STATUS", "generation 1, 2 of 2 workers ready, 1 connection")
    systemd.wait("STATUS", "generation 1, 2 of 2 workers ready, 0 connections", after=1)
    assert not systemd.heard("STOPPING")
    assert unpd.stop() == 0
    assert systemd.heard("STOPPING") == ["1"]
    assert systemd.heard("EXTEND_TIMEOUT_USEC")
    assert any(status.startswith("stopping, generation 1") for status in systemd.heard("STATUS"))
    assert systemd.heard("READY") == ["1"]


def test_a_reload_is_notified_before_it_is_answered(launch: Launch, systemd: FakeSystemd) -> None:
    """RELOADING with a time of the monotonic clock and then READY are sent before
    ``unpd reload`` returns, refused or not.
    """
    unpd = systemd.start(launch, ECHO)
    systemd.wait("READY")
    before = time.monotonic_ns() // 1000
    assert reload(unpd) == 2
    told = [(name, value) for name, value in systemd.hear() if name in ("READY", "RELOADING")]
    assert told == [("READY", "1"), ("RELOADING", "1"), ("READY", "1")]
    (at,) = map(int, systemd.heard("MONOTONIC_USEC"))
    assert before < at < time.monotonic_ns() // 1000
    unpd.expect_errors("reload.refused")
    assert "no.such.host" in refused_reload(unpd, ECHO.replace("127.0.0.1", "no.such.host"))
    assert systemd.heard("RELOADING") == ["1", "1"]
    assert systemd.heard("READY") == ["1", "1", "1"]
    systemd.wait("STATUS", "generation 2, 2 of 2 workers ready, 0 connections")


def test_a_drain_asks_for_more_time(launch: Launch, systemd: FakeSystemd) -> None:
    """A stop asks for more time again and again, so that the unit's own limit does not
    cut a long grace short.
    """
    unpd = systemd.start(launch, "[daemon]\ngrace_s = 6\n" + ECHO)
    with clients.connect(unpd.address("echo")) as sock:
        sock.sendall(b"x")
        assert clients.read_exactly(sock, 1) == b"x"
        systemd.wait("READY")
        os.kill(unpd.pid, signal.SIGTERM)
        until(
            lambda: len(systemd.heard("EXTEND_TIMEOUT_USEC")) >= 3,
            6.0,
            "more time to be requested three times",
        )
        assert {int(usec) for usec in systemd.heard("EXTEND_TIMEOUT_USEC")} == {10_000_000}
    assert unpd.wait_exit() == 0


@pytest.mark.slow
def test_the_status_says_what_is_wrong(launch: Launch, systemd: FakeSystemd) -> None:
    """The status is degraded, with the reason, while a pool has no ready worker, and
    normal again afterwards.
    """
    unpd = systemd.start(launch, "[pools.default]\nworkers = 1\n" + ECHO)
    systemd.wait("STATUS", "generation 1, 1 of 1 workers ready, 0 connections")

    def kill_until_degraded() -> list[str]:
        """Kill workers until the back-off leaves the slot empty for more than one
        sweep. A killed worker may stay on the list for a moment, so the number of kills
        is not the number of deaths.
        """
        procs.kill(unpd.workers(), signal.SIGKILL)
        return [said for said in systemd.heard("STATUS") if "degraded" in said]

    status = until(kill_until_degraded, 20.0, "a degraded status")[0]
    assert "; degraded: " in status
    systemd.wait(
        "STATUS",
        "generation 1, 1 of 1 workers ready, 0 connections",
        after=len(systemd.heard("STATUS")),
        timeout_s=40.0,
    )


def test_a_refused_start_says_why(launch: Launch, systemd: FakeSystemd) -> None:
    """``systemctl status`` shows the reason of a failed start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        unpd = systemd.start(launch, ECHO.replace(":0", f":{port}"), ready=False)
        unpd.expect_exit(69)
        assert unpd.wait_exit() == 69
    assert systemd.heard("STATUS") == [
        (
            "not started: service echo cannot listen on"
            f" tcp://127.0.0.1:{port}: the address is in use"
            f" by another program (ss -ltnp sport = :{port} shows it)"
        )
    ]
    assert not systemd.heard("READY")


def test_a_socket_without_a_path(launch: Launch, tmp_path: Path) -> None:
    """The service manager's socket may have an abstract name."""
    with fake_systemd(tmp_path, abstract=True) as systemd:
        unpd = systemd.start(launch, ECHO)
        systemd.wait("READY", "1")
        assert unpd.stop() == 0


@pytest.mark.parametrize("address", ["/nowhere/at/all", "relative"])
def test_a_missing_notify_socket_is_ignored(launch: Launch, address: str) -> None:
    """A notify socket that does not exist or has no usable address costs nothing. The
    daemon serves, reloads and stops.
    """
    unpd = launch(
        ECHO, env={"NOTIFY_SOCKET": address, "FDSTORE": "512", "WATCHDOG_USEC": "2000000"}
    )
    assert clients.converse(unpd.address("echo"), b"served") == b"served"
    assert reload(unpd) == 2
    assert unpd.stop() == 0


def test_a_full_notify_socket_delays_nothing(launch: Launch, systemd: FakeSystemd) -> None:
    """While the service manager does not read, the daemon serves all the same.
    Important messages arrive once it reads again.
    """
    systemd.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as flood:
        flood.connect(systemd.path)
        sent = 0
        while sent < 10_000:
            try:
                flood.send(b"X_FLOOD=1")
                sent += 1
            except BlockingIOError:
                break
    unpd = launch(ECHO, env={"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "2000000"})
    assert clients.converse(unpd.address("echo"), b"served") == b"served"
    systemd.hear()
    systemd.wait("STATUS", "generation 1, 2 of 2 workers ready, 0 connections")
    assert unpd.stop() == 0


# the watchdog


@pytest.mark.slow
def test_a_healthy_daemon_gives_signs_of_life(launch: Launch, systemd: FakeSystemd) -> None:
    """The watchdog's sign of life comes twice per interval."""
    unpd = systemd.start(launch, ECHO, watchdog_s=0.6)
    before, began = len(systemd.heard("WATCHDOG")), time.monotonic()
    until(lambda: len(systemd.heard("WATCHDOG")) >= before + 6, 10.0, "six signs of life")
    assert 1.2 < time.monotonic() - began < 2.9
    assert unpd.stop() == 0


@pytest.mark.slow
def test_stopped_workers_end_the_signs_of_life(launch: Launch, systemd: FakeSystemd) -> None:
    """While the master's loop turns but no worker beats, no sign of life is sent, and
    the log says why. The signs resume with the workers.
    """
    unpd = systemd.start(launch, ECHO, watchdog_s=2.0)
    unpd.expect_errors("watchdog.withheld")
    systemd.wait("WATCHDOG")
    workers = unpd.workers()
    procs.kill(workers, signal.SIGSTOP)
    withheld = unpd.wait_event("watchdog.withheld")
    assert withheld.fields["reason"] == "service echo has no ready worker that beats"
    before = len(systemd.heard("WATCHDOG"))
    holds(lambda: len(systemd.heard("WATCHDOG")) == before, 1.5, "a sign of life was sent")
    procs.kill(workers, signal.SIGCONT)
    unpd.wait_event("watchdog.resumed")
    systemd.wait("WATCHDOG", after=before)


def test_the_watchdog_of_another_process_is_ignored(launch: Launch, systemd: FakeSystemd) -> None:
    """When WATCHDOG_PID names another process, no sign of life is sent."""
    unpd = systemd.start(launch, ECHO, watchdog_s=0.5, env={"WATCHDOG_PID": "1"})
    systemd.wait("READY")
    assert reload(unpd) == 2
    assert unpd.stop() == 0
    assert not systemd.heard("WATCHDOG")
