"""What the service manager hears: ready, reloading, stopping, how it stands, that it
lives; and nothing that could hold the daemon up.
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


def test_the_whole_of_a_life_is_told(launch: Launch, systemd: FakeSystemd) -> None:
    """READY once services are ready, STOPPING with more time at the stop, and a status
    line that tells the truth at each.
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


def test_a_reload_is_told_before_it_is_answered(launch: Launch, systemd: FakeSystemd) -> None:
    """RELOADING with a time of the monotonic clock, then READY; both have been said
    when ``unpd reload`` returns, refused or not.
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
    """As long as it stops, it says so again and again: a long grace is not cut short by
    the unit's own limit.
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
            "more time to be asked for three times",
        )
        assert {int(usec) for usec in systemd.heard("EXTEND_TIMEOUT_USEC")} == {10_000_000}
    assert unpd.wait_exit() == 0


def test_what_is_wrong_stands_in_the_status(launch: Launch, systemd: FakeSystemd) -> None:
    """Degraded, with the reason, while a pool has no ready worker; and no more when it
    has one.
    """
    unpd = systemd.start(launch, "[pools.default]\nworkers = 1\n" + ECHO)
    systemd.wait("STATUS", "generation 1, 1 of 1 workers ready, 0 connections")

    def complaints_over_early_deaths() -> list[str]:
        """Until the back-off leaves the slot empty for more than a look. (A killed
        worker may be on the list for a moment: a number of kills is no number of
        deaths.)
        """
        procs.kill(unpd.workers(), signal.SIGKILL)
        return [said for said in systemd.heard("STATUS") if "degraded" in said]

    status = until(complaints_over_early_deaths, 20.0, "a degraded status")[0]
    assert "; degraded: " in status
    systemd.wait(
        "STATUS",
        "generation 1, 1 of 1 workers ready, 0 connections",
        after=len(systemd.heard("STATUS")),
        timeout_s=40.0,
    )


def test_a_refused_start_says_why(launch: Launch, systemd: FakeSystemd) -> None:
    """``systemctl status`` shows the reason of a start that failed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        unpd = systemd.start(launch, ECHO.replace(":0", f":{port}"), ready=False)
        unpd.expect_exit(69)
        assert unpd.wait_exit() == 69
    assert systemd.heard("STATUS") == [
        (
            "not started: service echo cannot listen on"
            f" tcp://127.0.0.1:{port}: the address is in use"
            " by another program"
        )
    ]
    assert not systemd.heard("READY")


def test_a_socket_without_a_path(launch: Launch, tmp_path: Path) -> None:
    """The service manager may listen on an abstract name."""
    with fake_systemd(tmp_path, abstract=True) as systemd:
        unpd = systemd.start(launch, ECHO)
        systemd.wait("READY", "1")
        assert unpd.stop() == 0


@pytest.mark.parametrize("address", ["/nowhere/at/all", "relative"])
def test_nobody_hears(launch: Launch, address: str) -> None:
    """A socket that is not there, or is none, costs nothing: the daemon serves, reloads
    and stops.
    """
    unpd = launch(
        ECHO, env={"NOTIFY_SOCKET": address, "FDSTORE": "512", "WATCHDOG_USEC": "2000000"}
    )
    assert clients.converse(unpd.address("echo"), b"served") == b"served"
    assert reload(unpd) == 2
    assert unpd.stop() == 0


def test_a_full_socket_holds_nothing_up(launch: Launch, systemd: FakeSystemd) -> None:
    """A service manager that reads nothing: the daemon serves all the same, and what
    matters is heard once it reads again.
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


def test_a_healthy_daemon_gives_signs_of_life(launch: Launch, systemd: FakeSystemd) -> None:
    """Twice an interval, from the start on."""
    unpd = systemd.start(launch, ECHO, watchdog_s=0.6)
    before, began = len(systemd.heard("WATCHDOG")), time.monotonic()
    until(lambda: len(systemd.heard("WATCHDOG")) >= before + 6, 10.0, "six signs of life")
    assert 1.2 < time.monotonic() - began < 2.9
    assert unpd.stop() == 0


def test_workers_that_stand_still_are_no_life(launch: Launch, systemd: FakeSystemd) -> None:
    """The master's loop turns, but no worker beats: the signs cease, the log says why,
    and they come back with the workers.
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


def test_the_watchdog_of_another_process_is_none_of_ours(
    launch: Launch, systemd: FakeSystemd
) -> None:
    """WATCHDOG_PID names somebody else: nobody waits for our signs."""
    unpd = systemd.start(launch, ECHO, watchdog_s=0.5, env={"WATCHDOG_PID": "1"})
    systemd.wait("READY")
    assert reload(unpd) == 2
    assert unpd.stop() == 0
    assert not systemd.heard("WATCHDOG")
