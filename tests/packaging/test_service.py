"""The installed unit under a real systemd: start, stop, watchdog, hardening."""

import json
import os
import re
import socket
import time
from signal import SIGSTOP

import pytest

from tests.packaging.installed import DAYTIME, ECHO, SERVICE, SOCKETS, Installed
from tests.support import ROOT, clients, procs
from tests.support.waiting import holds, until

pytestmark = pytest.mark.packaging

CTIME = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\r?\n")
KILLED = re.compile("Killing process|timed out|left-over process|SIGKILL")


def test_start_means_served(unpd: Installed) -> None:
    """When `systemctl start unpd` returns, the daemon serves: `nc -N localhost 13`
    prints the time, and the status line names the generation.
    """
    unpd.start()
    assert CTIME.fullmatch(unpd.machine.run("nc", "-N", "localhost", "13").stdout)
    assert unpd.show("Type") == "notify"
    assert "generation 1" in unpd.show("StatusText")


def test_both_clients(unpd: Installed) -> None:
    """The packaged clients get answers from the packaged daemon."""
    unpd.start()
    assert CTIME.fullmatch(unpd.machine.run("unpd", "client", "daytime", "localhost").stdout)
    assert (
        unpd.machine.run("unpd", "client", "echo", "localhost", stdin="one\ntwo\n").stdout
        == "one\ntwo\n"
    )


def test_who_serves(unpd: Installed) -> None:
    """No process runs as root, and none can gain privileges."""
    unpd.start()
    until(
        lambda: all(" ready" in procs.title(pid) for pid in unpd.children("unpd: ")),
        10.0,
        "all children to be ready",
    )
    account = unpd.machine.run("id", "--user", "unpd").stdout.strip()
    for pid in (unpd.pid, *unpd.children("unpd: ")):
        ids = procs.credentials(pid)
        assert set(ids.uids) == {int(account)}
        assert ids.no_new_privileges
    for pid in unpd.children("unpd: "):
        sets = procs.credentials(pid).capabilities
        assert {name: mask for name, mask in sets.items() if mask and name != "CapBnd"} == {}


def test_the_main_process_is_closed_to_its_own_user(unpd: Installed) -> None:
    """The user that the workers run as can look into a worker, but not into the main
    process; the zombies of the main process are still counted.
    """
    unpd.start()
    look = "import os, sys; open(f'/proc/{sys.argv[1]}/mem', 'rb')"
    status = json.loads(unpd.machine.run("unpd", "status", "--json").stdout)
    worker = next(child["pid"] for child in status["children"] if child["kind"] == "worker")
    as_unpd = ("setpriv", "--reuid", "unpd", "--regid", "unpd", "--clear-groups")
    for pid, opened in ((unpd.show("MainPID"), False), (str(worker), True)):
        done = unpd.machine.run(*as_unpd, "python3", "-c", look, pid, check=False)
        assert (done.returncode == 0) is opened, (pid, done.stderr)
    assert unpd.samples()["unpd_zombies", frozenset()] == 0


def test_exposure(unpd: Installed) -> None:
    """The exposure of the unit, which binds ports 7 and 13 itself, is the one that
    unpd(8) and the README tell.
    """
    page = (ROOT / "packaging/man/unpd.8").read_text()
    readme = " ".join((ROOT / "README.md").read_text().split())
    figure = unpd.exposure()
    assert f" instead of {figure}.\n" in page
    assert f" exposure of the packaged service at {figure}," in readme


def test_systemd_likes_the_units(unpd: Installed) -> None:
    """`systemd-analyze verify` prints no complaint."""
    verified = unpd.machine.run("systemd-analyze", "verify", "--man=no", SERVICE, *SOCKETS)
    assert verified.stdout + verified.stderr == ""


def test_a_refused_configuration_is_not_tried_again(unpd: Installed) -> None:
    """A start with a broken configuration fails once; the journal has the reason."""
    unpd.configure("[daemon]\ngrace = 1\n")
    assert unpd.systemctl("start", "unpd", check=False).returncode != 0
    assert any('did you mean "grace_s"?' in line for line in unpd.messages())
    assert unpd.show("ActiveState") == "failed"
    assert unpd.show("ExecMainStatus") == "78"
    assert unpd.show("NRestarts") == "0"


def test_the_doctor_knows_the_listeners_that_systemd_keeps(unpd: Installed) -> None:
    """While the unit waits to start again, those in its store are a note."""
    unpd.drop_in("[Service]\nRestartSec=60\n")
    unpd.start()
    unpd.kill_main()
    until(lambda: unpd.show("SubState") == "auto-restart", 10.0, "systemd to notice")
    printed = unpd.machine.run("unpd", "doctor", "--json", check=False).stdout
    found = [one for one in json.loads(printed)["findings"] if one["check"] == "ports"]
    assert all(one["note"] for one in found)
    kept = {one["subject"] for one in found if "for the next start of unpd" in one["problem"]}
    assert kept == {"services.daytime.listen", "services.echo.listen", "metrics.listen"}


def test_stop_in_time_with_clients(unpd: Installed) -> None:
    """`systemctl stop` ends within grace_s, with clients that neither leave nor read,
    and systemd kills no process.
    """
    unpd.edit(("grace_s = 10", "grace_s = 3"))
    unpd.start()
    with clients.idle(ECHO, 200) as quiet:
        assert clients.send_until_blocked(quiet[0], 64 << 20, stall_s=0.5) < 64 << 20
        began = time.monotonic()
        unpd.systemctl("stop", "unpd")
        assert time.monotonic() - began < 4.0
    ended_well(unpd)


def test_a_drain_longer_than_the_units_patience(unpd: Installed) -> None:
    """While it drains, the daemon asks systemd for more time: a TimeoutStopSec= shorter
    than grace_s kills no process.
    """
    unpd.edit(("grace_s = 10", "grace_s = 6"))
    unpd.drop_in("[Service]\nTimeoutStopSec=2\n")
    unpd.start()
    with clients.connect(ECHO) as busy:
        began = time.monotonic()
        stopping = unpd.machine.start("systemctl", "stop", "unpd")
        while stopping.poll() is None and not cut(busy):
            pass
        stopping.communicate(timeout=10.0)
        assert time.monotonic() - began > 3.0, (
            "the daemon did not wait for the client that kept talking"
        )
    ended_well(unpd)


def cut(sock: socket.socket) -> bool:
    """Send some dozens of bytes a second. True if the server has ended the session."""
    try:
        return clients.send_slowly(sock, b"x", 0.02) < 1
    except OSError:
        return True


def ended_well(unpd: Installed) -> None:
    """Assert that the unit stopped in order: systemd killed no process."""
    assert unpd.show("ActiveState") == "inactive"
    assert unpd.show("Result") == "success"
    assert not [line for line in unpd.systemd_messages() if KILLED.search(line)]
    with pytest.raises(ConnectionRefusedError):
        clients.connect(ECHO).close()


def test_the_watchdog_catches_a_stopped_main_process(unpd: Installed) -> None:
    """If the main process is stopped, systemd kills it. Its children die with it, and
    the restarted daemon serves.
    """
    assert unpd.show("WatchdogUSec") == "30s"
    assert unpd.show("TimeoutAbortUSec") == "5s"
    unpd.drop_in("[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\n")
    unpd.start()
    os.kill(unpd.pid, SIGSTOP)
    unpd.wait_restarts(1, timeout_s=4 + 1 + 5)
    assert any("Watchdog timeout" in line for line in unpd.systemd_messages())
    assert clients.converse(ECHO, b"hello") == b"hello"


def test_the_watchdog_leaves_a_quiet_daemon_alone(unpd: Installed) -> None:
    """A daemon without clients sends its signs of life in time."""
    unpd.drop_in("[Service]\nWatchdogSec=2\n")
    unpd.start()
    holds(lambda: unpd.show("NRestarts") == "0", 5.0, "a healthy daemon was restarted")
    assert clients.ask(DAYTIME)
