"""The examination of a daemon after its end finds what the daemon did wrong. A fake
daemon misbehaves in one way at a time.
"""

import os
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT, procs
from tests.support.configs import compose
from tests.support.daemon import held_here
from tests.support.launch import Launch
from tests.support.waiting import until

PATIENCE_S = 0.3
"""How long the fake's orphans and zombies may last before the examination reports them.
"""

FAKE = """
import json, os, signal, socket, sys, time, tomllib

mode = os.environ["FAKE"]
with open(sys.argv[-1], "rb") as file:
    config = tomllib.load(file)["daemon"]

def say(event, level="info", **fields):
    line = {"time": "", "level": level, "event": event, **fields}
    os.write(2, (json.dumps(line) + "\\n").encode())

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
listener = socket.create_server(("127.0.0.1", 0))
os.set_inheritable(listener.fileno(), True)
for path in config.values():
    with open(path, "w") as file:
        file.write(str(os.getpid()))
if mode == "refuses":
    sys.exit(78)
if mode in ("orphan", "hidden_orphan", "zombie"):
    if (child := os.fork()) == 0:
        if mode == "zombie":
            os._exit(0)
        if mode == "hidden_orphan":
            os.setsid()
            if os.fork():
                os._exit(0)
            os.execve(sys.executable, [sys.executable, "-c", "import signal; signal.pause()"], {})
        signal.pause()
    if mode == "hidden_orphan":
        os.waitpid(child, 0)
    if mode == "zombie":
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
say("listener.opened", service="echo", address="tcp://127.0.0.1:%d" % listener.getsockname()[1])
say("master.ready", generation=1)
if mode == "error":
    say("connection.failed", level="error", service="echo", error="x", trace="x", suppressed=0)
if mode == "unlisted":
    say("worker.lost")
signal.sigwait({signal.SIGTERM})
if mode == "deaf":
    signal.sigwait({signal.SIGUSR2})
if mode == "traceback":
    os.write(2, b"Traceback (most recent call last):\\n")
if mode != "files":
    for path in config.values():
        os.unlink(path)
sys.exit(3 if mode == "exit" else 0)
"""


def examined(tmp_path: Path, mode: str) -> str:
    """Return the findings on a daemon that misbehaves in ``mode``."""
    launch = fake(tmp_path)
    unpd = launch(command=command(tmp_path), env={"FAKE": mode})
    unpd.orphans_s = PATIENCE_S
    return "\n".join(launch.finish())


def fake(tmp_path: Path) -> Launch:
    """Write the script of the fake, and return a launcher."""
    (tmp_path / "fake.py").write_text(FAKE)
    return Launch(tmp_path)


def command(tmp_path: Path) -> tuple[str, ...]:
    """Return the command that starts the fake instead of unpd."""
    return sys.executable, str(tmp_path / "fake.py")


def test_nothing_is_found_on_a_daemon_that_behaves(tmp_path: Path) -> None:
    """A daemon that ends normally gives no finding."""
    assert examined(tmp_path, "good") == ""


@pytest.mark.parametrize(
    ("mode", "finding"),
    [
        ("orphan", "orphans when the master left"),
        ("zombie", "zombies while it ran"),
        ("error", "an error line that the test does not name"),
        ("unlisted", "against the table of log events: the event is not in the table"),
        ("traceback", "a traceback on standard error"),
        ("files", "left behind:"),
        ("exit", "exit code 3, expected was 0"),
    ],
)
def test_what_a_daemon_does_wrong_is_found(tmp_path: Path, mode: str, finding: str) -> None:
    """Each kind of misbehaviour gives its finding."""
    assert finding in examined(tmp_path, mode)


def test_an_orphan_holding_a_listener_is_found_and_removed(tmp_path: Path) -> None:
    """The examination kills a child that outlives its master and holds the listener,
    and the port is free after it.
    """
    launch = fake(tmp_path)
    unpd = launch(command=command(tmp_path), env={"FAKE": "orphan"})
    unpd.orphans_s = PATIENCE_S
    orphan = procs.children(unpd.pid)[0]
    findings = "\n".join(launch.finish())
    assert f"pid={orphan.pid}" in findings
    assert "still taken" not in findings
    assert not procs.alive(orphan.pid)


def test_an_orphan_without_session_environment_or_parent_is_still_seen(tmp_path: Path) -> None:
    """A process that detached itself and cleared its environment becomes a child of the
    test run, where the check after every test finds it.
    """
    before = procs.child_pids(os.getpid())
    launch = fake(tmp_path)
    launch(command=command(tmp_path), env={"FAKE": "hidden_orphan"})
    launch.finish()
    hidden = [child for child in procs.children(os.getpid()) if child.pid not in before]
    assert len(hidden) == 1
    procs.kill_and_reap(hidden)


def test_a_daemon_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """A daemon that ignores TERM is reported and killed."""
    launch = fake(tmp_path)
    unpd = launch(command=command(tmp_path), env={"FAKE": "deaf"})
    unpd.stop_s = 0.2
    assert "did not end within" in "\n".join(launch.finish())
    assert not procs.alive(unpd.pid)


def test_expectations_are_no_findings(tmp_path: Path) -> None:
    """An expected exit code and expected error events are no findings. A different exit
    code is one.
    """
    launch = fake(tmp_path)
    unpd = launch(command=command(tmp_path), env={"FAKE": "error"})
    unpd.expect_errors("connection.failed")
    unpd.expect_exit(5)
    assert launch.finish() == [f"{unpd.directory.name}: exit code 0, expected was 5"]


def test_a_start_that_fails_shows_its_standard_error(tmp_path: Path) -> None:
    """Waiting for readiness ends when the daemon ends, not at the timeout."""
    launch = fake(tmp_path)
    with pytest.raises(AssertionError, match="ended with 78 before it was ready"):
        launch(command=command(tmp_path), env={"FAKE": "refuses"})
    assert "exit code 78" in "\n".join(launch.finish())


def test_a_killed_master_is_no_finding_where_it_is_expected(tmp_path: Path) -> None:
    """After an expected SIGKILL, files may remain and the exit code is the signal."""
    launch = fake(tmp_path)
    unpd = launch(command=command(tmp_path), env={"FAKE": "good"})
    unpd.expect_exit(-signal.SIGKILL)
    assert unpd.stop(signal.SIGKILL) == -signal.SIGKILL
    assert launch.finish() == []


@pytest.mark.slow
def test_a_process_left_by_a_test_fails_that_test(tmp_path: Path) -> None:
    """The check after every test fails a test that leaves a process behind, and removes
    the process.
    """
    (tmp_path / "test_leak.py").write_text(
        "import subprocess, sys\n\n\ndef test_leak(tmp_path):\n    child ="
        " subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n   "
        f" open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n    globals()['kept'] ="
        " child\n"
    )
    code, printed = run_pytest(tmp_path, {})
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "processes left behind" in printed
    assert not procs.alive(int((tmp_path / "pid").read_text()))


SKIPPING = (
    "import pytest\n\n\n@pytest.mark.skip(reason='no frobnicator')\ndef test_skip():\n   "
    " pass\n\n\ndef test_pass():\n    pass\n"
)


@pytest.mark.slow
def test_a_skip_fails_the_run_where_skips_are_forbidden(tmp_path: Path) -> None:
    """With UNPD_TEST_NO_SKIP=1 a run with a skipped test fails, and names the test and
    the reason. Without it the run passes.
    """
    (tmp_path / "test_skip.py").write_text(SKIPPING)
    code, printed = run_pytest(tmp_path, {"UNPD_TEST_NO_SKIP": "1"})
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "test_skip.py::test_skip: Skipped: no frobnicator" in printed
    assert run_pytest(tmp_path, {"UNPD_TEST_NO_SKIP": "0"})[0] == pytest.ExitCode.OK


def run_pytest(directory: Path, env: dict[str, str]) -> tuple[int, str]:
    """Run pytest with our conftest on the tests in ``directory``."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir",
            ".",
            ".",
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def test_compose_fills_in_only_what_is_missing(tmp_path: Path) -> None:
    """compose() keeps the keys that the test set, adds the missing ones, and returns
    TOML.
    """
    config = tomllib.loads(
        compose(
            "[daemon]\ngrace_s = 3\n\n[pools.default]\nworkers = 7\n\n[services.echo]\nlisten ="
            ' ["tcp://[::1]:0"]\n',
            tmp_path,
        )
    )
    assert config["daemon"] == {
        "grace_s": 3,
        "pid_file": str(tmp_path / "unpd.pid"),
        "control": str(tmp_path / "control.sock"),
    }
    assert config["pools"] == {"default": {"workers": 7}}
    assert config["services"] == {"echo": {"listen": ["tcp://[::1]:0"]}}
    assert config["log"] == {"format": "json", "level": "debug"}


def test_until_fails_with_its_message() -> None:
    """A condition that does not come true raises an AssertionError with the message."""
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the moon"):
        until(lambda: False, 0.01, "the moon")


def test_a_listener_of_this_run_is_recognised() -> None:
    """held_here() is true for a port on which one of our processes listens, and false
    for a free port.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ("127.0.0.1", int(listener.getsockname()[1]))
        assert held_here(address)
    assert not held_here(address)
