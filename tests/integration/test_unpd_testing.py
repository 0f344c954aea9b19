"""The fixture ``unpd_daemon`` for the tests of others, and the service of the manual
that is tested with it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, procs
from tests.support.manual import example
from unpd.testing import RunningDaemon, StartDaemon

pytest_plugins = ["unpd.testing"]

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix://{}"]\n'
DAYTIME = '[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\n'


SERVICE = '"""Answers what its client sends in upper case."""\n\nfrom unpd'
"""How the module of the service begins in the manual."""


def run_tests(directory: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests in a directory as their author does."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(directory)],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(map(str, (ROOT, *path)))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_plug_in_of_the_manual_passes_its_test(tmp_path: Path) -> None:
    """unpd-services(7) has a service that answers in upper case, its project file and
    its test: pip installs it, and pytest runs the test.
    """
    project, installed = tmp_path / "uppercase", tmp_path / "installed"
    project.mkdir()
    page = "unpd-services.7"
    (project / "uppercase.py").write_text(example(page, SERVICE))
    (project / "pyproject.toml").write_text(example(page, "[build-system]"))
    (project / "test_uppercase.py").write_text(example(page, '"""The service answers'))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-index", "--no-deps", "--no-build-isolation", "--target", str(installed)),
            str(project),
        ],
        check=True,
        timeout=60,
    )
    ended = run_tests(project, installed)
    assert ended.returncode == 0, ended.stdout
    assert "1 passed" in ended.stdout


BESIDE = """
pytest_plugins = ["unpd.testing"]


def test_it_starts(unpd_daemon):
    unpd_daemon('[services.echo]\\nlisten = ["tcp://127.0.0.1:0"]')
"""


@pytest.mark.slow
def test_a_module_beside_the_tests_is_not_in_the_daemon(tmp_path: Path) -> None:
    """Although it has the name of one that the daemon imports."""
    (tmp_path / "test_beside.py").write_text(BESIDE)
    (tmp_path / "setproctitle.py").write_text("raise SystemExit('not this one')\n")
    ended = run_tests(tmp_path)
    assert ended.returncode == 0, ended.stdout


FAILING = """
pytest_plugins = ["unpd.testing"]


def test_that_fails(unpd_daemon):
    unpd_daemon('[services.echo]\\nlisten = ["tcp://127.0.0.1:0"]')
    assert False, "on purpose"


def test_without_a_daemon(unpd_daemon):
    unpd_daemon('[services.echo]\\nlissten = ["tcp://127.0.0.1:0"]')
"""


@pytest.mark.slow
def test_a_test_that_fails_shows_why(tmp_path: Path) -> None:
    """The report has the log of the daemon, or why there is none."""
    (tmp_path / "test_failing.py").write_text(FAILING)
    ended = run_tests(tmp_path)
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 failed in" in ended.stdout
    assert "Captured unpd.log teardown" in ended.stdout
    assert '"event":"master.stopped"' in ended.stdout
    assert "unpd.toml:2: services.echo.lissten: unknown key; did you mean" in ended.stdout, (
        ended.stdout
    )


def test_a_daemon_has_its_addresses(unpd_daemon: StartDaemon, tmp_path: Path) -> None:
    """Its streams and datagrams can be used at once, also those of a second daemon."""
    path = tmp_path / "echo.sock"
    daemons = [unpd_daemon(ECHO.format(path)), unpd_daemon(DAYTIME)]
    for index in range(3):
        with daemons[0].connect("echo", index) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
    tcp, _, unix = daemons[0].addresses("echo")
    assert tcp[0] == "127.0.0.1"
    assert unix == str(path)
    assert b"HTTP/1.1 200" in scrape(daemons[0])
    with daemons[1].connect("daytime") as sock:
        assert sock.recv(100).endswith(b"\r\n")


def scrape(daemon: RunningDaemon) -> bytes:
    """The first bytes of the answer of the exporter."""
    with daemon.connect("metrics") as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return sock.recv(100)


def test_a_daemon_can_be_reloaded(unpd_daemon: StartDaemon) -> None:
    """The text of its configuration can be changed, and commands find it."""
    daemon = unpd_daemon(DAYTIME)
    with (daemon.directory / "unpd.toml").open("a") as config:
        config.write(ECHO.format(daemon.directory / "echo.sock"))
    ended = daemon.run("reload")
    assert ended.returncode == 0, ended.stderr
    with daemon.connect("echo") as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"
    (succeeded,) = daemon.events("reload.succeeded")
    assert succeeded["services_added"] == "echo"
    assert "reload.succeeded" in daemon.log


def test_an_error_in_the_log_fails_the_test(unpd_daemon: StartDaemon) -> None:
    """Unless the test expects it."""
    for expected in (False, True):
        daemon = unpd_daemon(DAYTIME)
        (daemon.directory / "unpd.toml").write_text("[services]\n")
        assert daemon.run("reload").returncode == 1
        if expected:
            daemon.expect_errors("reload.refused")
            daemon.stop()
        else:
            with pytest.raises(pytest.fail.Exception, match=r"does not expect: .*reload\.refused"):
                daemon.stop()


def test_a_daemon_that_dies_fails_the_test(unpd_daemon: StartDaemon) -> None:
    """The reason tells how."""
    daemon = unpd_daemon(DAYTIME)
    left = procs.children(daemon.pid)
    os.kill(daemon.pid, signal.SIGKILL)
    with pytest.raises(pytest.fail.Exception, match="unpd was killed by SIGKILL"):
        daemon.stop()
    procs.kill_and_reap(left)  # they end with their master, and this process is their reaper


def test_a_daemon_that_cannot_start_fails_the_test(unpd_daemon: StartDaemon) -> None:
    """The reason is that of unpd."""
    daemon = unpd_daemon(DAYTIME)
    (address,) = daemon.addresses("daytime")
    taken = f"tcp://{address[0]}:{address[1]}"
    with pytest.raises(pytest.fail.Exception) as failed:
        unpd_daemon(f'[services.echo]\nlisten = ["{taken}"]\n')
    assert str(failed.value).startswith("unpd did not start, it ended with exit code 69: ")
    assert taken in str(failed.value)
