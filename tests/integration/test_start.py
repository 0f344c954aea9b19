"""``unpd start`` detaches. It returns when the daemon is ready, or has failed, with the
reason and its exit code.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import ROOT, clients, faults, procs
from tests.support.configs import compose
from tests.support.launch import Launch
from tests.support.operating import nothing_remains

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


def start(
    directory: Path, text: str, *, prefix: Sequence[str] = (), complete: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run an ``unpd start`` that fails. Assert that nothing of it remains."""
    config = directory / "unpd.toml"
    config.write_text(
        compose(text, directory, log_file=directory / "unpd.log") if complete else text
    )
    command = [*prefix, sys.executable, "-m", "unpd", "start", "--config", str(config)]
    with nothing_remains():
        ended = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30.0,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    assert not (directory / "unpd.pid").exists()
    assert not (directory / "control.sock").exists()
    return ended


def test_it_returns_when_the_daemon_is_ready(launch: Launch) -> None:
    """The command exits with 0 and prints nothing. At that moment the daemon accepts,
    in its own session, without terminal, in the directory /.
    """
    unpd = launch(ECHO, detached=True, ready=False)
    assert unpd.process.wait(20.0) == 0
    assert clients.converse(unpd.address("echo"), b"at once") == b"at once"
    unpd.wait_ready()
    assert unpd.stderr() == ""
    found = procs.stat(unpd.pid)
    assert found is not None
    assert found.session not in (
        os.getsid(0),
        unpd.process.pid,
        unpd.pid,
    ), "a process whose session leader is gone can never get a terminal"
    with procs.may_look():
        assert os.readlink(f"/proc/{unpd.pid}/cwd") == "/"
    assert procs.status(unpd.pid)["Umask"] == "0027"
    assert {procs.fds(unpd.pid)[fd] for fd in (0, 1, 2)} == {"/dev/null"}
    assert unpd.log_path.stat().st_mode & 0o777 == 0o640
    assert unpd.run("stop", "--control", str(unpd.control)).returncode == 0
    assert unpd.wait_exit() == 0


def test_its_callers_pipes_are_closed(launch: Launch) -> None:
    """A caller that reads standard output and error to their end does not wait for the
    daemon, which inherits no descriptor.
    """
    reader, writer = os.pipe()
    unpd = launch(ECHO, detached=True, pass_fds=[writer], preexec=lambda: os.dup2(writer, 1))
    os.close(writer)
    with open(reader, "rb") as pipe:
        for pid in (unpd.pid, *procs.child_pids(unpd.pid)):
            assert os.readlink(f"/proc/self/fd/{reader}") not in procs.fds(pid).values()
        assert pipe.read() == b""


def test_a_reload_works_in_a_detached_daemon(launch: Launch) -> None:
    """A reload finds the configuration after the change of directory, also when its
    path was relative.
    """
    unpd = launch(ECHO, detached=True)
    done = unpd.run("reload", "--config", unpd.config_path.name)
    assert b"reloaded: generation 2\n" in done.stdout


def test_an_address_in_use_is_reported(tmp_path: Path) -> None:
    """An address in use exits with 69 and one sentence that names service, address, and
    the command that shows the other program.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = start(
            tmp_path, f'[services.echo]\nlisten = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:{port}"]\n'
        )
    assert ended.returncode == 69
    assert (
        ended.stderr
        == f"unpd: service echo cannot listen on tcp://127.0.0.1:{port}: the address is in use by"
        f" another program (ss -ltnp sport = :{port} shows it)\n"
    )
    assert ended.stdout == ""


def test_a_missing_address_is_reported(tmp_path: Path) -> None:
    """An address that this host does not have exits with 69."""
    ended = start(tmp_path, '[services.echo]\nlisten = ["tcp://192.0.2.1:7007"]\n')
    assert (ended.returncode, ended.stderr) == (
        69,
        "unpd: service echo cannot listen on tcp://192.0.2.1:7007: this host has no such address\n",
    )


def test_an_invalid_configuration_is_reported_before_anything_is_made(tmp_path: Path) -> None:
    """An invalid configuration exits with 78 and every fault with its line. No log file
    is created.
    """
    ended = start(
        tmp_path,
        f'[log]\nfile = "{tmp_path}/unpd.log"\nlevle = "info"\n\n[services.echo]\nlisten = "7"\n',
        complete=False,
    )
    assert ended.returncode == 78
    assert [f"unpd.toml:{line}: " in ended.stderr for line in (3, 6)] == [True, True], ended.stderr
    assert not (tmp_path / "unpd.log").exists()


def test_a_log_file_is_needed(tmp_path: Path) -> None:
    """Without ``log.file`` the log would be lost. The command exits with 78 and says
    what to do.
    """
    ended = start(tmp_path, ECHO, complete=False)
    assert ended.returncode == 78
    assert "log.file: a daemon without a terminal needs a log file" in ended.stderr


def test_a_log_file_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    """A log file that cannot be created exits with 73, its path and the missing
    directory.
    """
    directory = tmp_path / "missing"
    ended = start(tmp_path, f'[log]\nfile = "{directory}/unpd.log"\n' + ECHO)
    assert ended.returncode == 73
    assert ended.stderr == (
        f"unpd: cannot open the log file {directory}/unpd.log: there is no directory {directory}:"
        " make it, or let systemd make it (LogsDirectory= in the unit)\n"
    )


@faults.requires_root
def test_an_unknown_user_is_reported(tmp_path: Path) -> None:
    """A configured user that does not exist exits with 78."""
    ended = start(tmp_path, '[daemon]\nuser = "no-such-user"\n' + ECHO)
    assert ended.returncode == 78
    assert 'daemon.user: there is no user "no-such-user"' in ended.stderr


@faults.requires_strace()
@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("capset:error=EPERM", 77, "cannot drop privileges"),
        ("capset:signal=SIGKILL", 1, "killed by SIGKILL"),
    ],
)
def test_workers_that_cannot_start_are_reported(
    tmp_path: Path, fault: str, code: int, reason: str
) -> None:
    """The reason of a worker's failure, or its death, reaches the command, at the
    latest after ``start_timeout_s``.
    """
    prefix = faults.strace_prefix(tmp_path / "trace", "capset", fault)
    ended = start(tmp_path, "[daemon]\nstart_timeout_s = 0.5\n" + ECHO, prefix=prefix)
    assert (ended.returncode, reason in ended.stderr) == (code, True), ended.stderr
    assert '"event":"master.refused"' in (tmp_path / "unpd.log").read_text()
