"""The pid file: its lock decides which instance runs. The number in it is never
trusted.
"""

import fcntl
import os
import pwd
import shutil
import stat
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.support import clients, faults
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import degraded, nothing_remains
from tests.support.ports import free_port

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


def with_pid_file(path: Path) -> str:
    """Return a configuration with its pid file at ``path``."""
    return f'[daemon]\npid_file = "{path}"\n' + ECHO


def fingerprint(*paths: Path) -> list[tuple[int, int, int, int]]:
    """Return what changes when a file is touched: inode, time of change, size,
    owner.
    """
    return [
        (status.st_ino, status.st_ctime_ns, status.st_size, status.st_uid)
        for status in (path.lstat() for path in paths)
    ]


def refused(launch: Launch, text: str, code: int) -> Unpd:
    """Start a daemon whose start fails with ``code``."""
    unpd = launch(text, ready=False)
    unpd.expect_exit(code)
    unpd.wait_exit()
    return unpd


@pytest.mark.parametrize(
    "content", [b"999999999\n", b"\x00\xff garbage " * 100], ids=["dead", "garbage"]
)
def test_a_stale_pid_file_is_no_obstacle(launch: Launch, tmp_path: Path, content: bytes) -> None:
    """Whatever an unlocked pid file says, the daemon starts, writes its own pid, and
    removes the file at its end.
    """
    path = tmp_path / "stale.pid"
    path.write_bytes(content)
    unpd = launch(with_pid_file(path))
    assert path.read_text() == f"{unpd.pid}\n"
    assert unpd.stop() == 0
    assert not path.exists()


def test_the_pid_of_another_process_is_ignored(launch: Launch, tmp_path: Path) -> None:
    """A pid in the file that another process has by now is not taken for an instance,
    and that process is left alone.
    """
    path = tmp_path / "recycled.pid"
    path.write_text(f"{os.getpid()}\n")
    unpd = launch(with_pid_file(path))
    assert path.read_text() == f"{unpd.pid}\n"


@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_second_instance_is_refused_and_touches_nothing(
    launch: Launch, tmp_path: Path, verb: str
) -> None:
    """The second instance exits with 75. Pid file, sockets and log are the same
    unchanged files, and the first instance goes on.
    """
    unpd = launch(
        f'[services.echo]\nlisten = ["tcp://127.0.0.1:0", "unix://{tmp_path}/echo.sock"]\n',
        detached=True,
    )
    paths = (unpd.pid_file, unpd.control, tmp_path / "echo.sock", unpd.log_path)
    unpd.wait_event("worker.ready", after=1)
    before = fingerprint(*paths)
    with nothing_remains():
        second = unpd.run(verb, "--config", str(unpd.config_path))
    assert second.returncode == 75
    assert (
        f"unpd is already running (pid {unpd.pid}): it holds the lock on {unpd.pid_file}"
        in second.stderr.decode()
    )
    assert fingerprint(*paths) == before
    assert clients.converse(unpd.address("echo"), b"mine") == b"mine"
    assert clients.converse(str(tmp_path / "echo.sock"), b"mine") == b"mine"


def test_a_lock_counts_whatever_the_file_says(launch: Launch, tmp_path: Path) -> None:
    """A locked and empty file, as of an instance that is just starting, refuses the
    start and stays unchanged.
    """
    path = tmp_path / "locked.pid"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = fingerprint(path)
        refused(launch, with_pid_file(path), 75)
        assert fingerprint(path) == before


def test_a_symbolic_link_is_not_followed(launch: Launch, tmp_path: Path) -> None:
    """A symbolic link at the pid file's path is refused with 73, and its target is not
    touched.
    """
    target, link = tmp_path / "precious", tmp_path / "link.pid"
    target.write_text("precious")
    link.symlink_to(target)
    unpd = refused(launch, with_pid_file(link), 73)
    assert f"cannot create the pid file {link}" in unpd.stderr()
    assert target.read_text() == "precious"
    assert link.is_symlink()


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_refused_and_stays(launch: Launch, tmp_path: Path, kind: str) -> None:
    """A directory or a FIFO at the pid file's path is refused with 73 and stays.
    Nothing hangs.
    """
    path = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    refused(launch, with_pid_file(path), 73)
    assert path.is_fifo() if kind == "fifo" else path.is_dir()


@faults.requires_root
def test_another_users_pid_file_is_replaced(launch: Launch, tmp_path: Path) -> None:
    """A stale file of another user is replaced. That user could write any number into
    it, and root would kill that process.
    """
    path = tmp_path / "foreign.pid"
    path.write_text("1\n")
    os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    unpd = launch(with_pid_file(path))
    assert path.stat().st_uid == 0
    assert path.stat().st_mode & 0o022 == 0
    assert path.read_text() == f"{unpd.pid}\n"


def test_a_killed_instance_does_not_keep_the_next_from_starting(
    launch: Launch, tmp_path: Path
) -> None:
    """After SIGKILL the pid file and the sockets remain. The next start replaces
    them.
    """
    text = (
        f'[daemon]\npid_file = "{tmp_path}/unpd.pid"\ncontrol ='
        f' "{tmp_path}/control.sock"\n\n[services.echo]\nlisten = ["unix://{tmp_path}/echo.sock"]\n'
    )
    first = launch(text)
    first.expect_exit(-SIGKILL)
    assert first.stop(SIGKILL) == -SIGKILL
    assert (tmp_path / "unpd.pid").exists()
    second = launch(text)
    assert clients.converse(str(tmp_path / "echo.sock"), b"again") == b"again"
    assert second.stop() == 0
    assert not list(tmp_path.glob("*.sock"))


@pytest.mark.slow
def test_a_removed_pid_file_is_made_again(launch: Launch, tmp_path: Path) -> None:
    """When a cleaner removes more than the runtime directory, the fault is logged and
    shown. Once the directory can be made again, so can the file with its lock: a second
    instance is refused.
    """
    place = tmp_path / "run" / "unpd"
    place.mkdir(parents=True)
    unpd = launch(with_pid_file(place / "unpd.pid"))
    unpd.expect_errors("pidfile.lost")
    shutil.rmtree(place.parent)
    lost = unpd.wait_event("pidfile.lost", path=str(place / "unpd.pid"))
    assert lost.fields["reason"] == "the directory does not exist"
    unpd.metric_becomes(1, "unpd_degraded", reason="pid_file_lost")
    assert "a second daemon could start" in degraded(unpd)[0]
    place.parent.mkdir()
    unpd.wait_event("pidfile.renewed", path=str(place / "unpd.pid"))
    assert (place / "unpd.pid").read_text() == f"{unpd.pid}\n"
    assert degraded(unpd) == []
    assert unpd.run("run", "--config", str(unpd.config_path)).returncode == 75
    (place / "unpd.pid").unlink()
    unpd.wait_event("pidfile.renewed", after=1)
    assert len(unpd.log_events("pidfile.lost")) == 1
    assert unpd.stop() == 0
    assert not (place / "unpd.pid").exists()


@pytest.mark.slow
def test_a_removed_runtime_directory_is_made_again(launch: Launch, tmp_path: Path) -> None:
    """A start makes the directory of the pid file, so its repair does; the daemon is
    not degraded meanwhile, and the control socket is there again, too.
    """
    place = tmp_path / "run"
    text = f'[daemon]\npid_file = "{place}/unpd.pid"\ncontrol = "{place}/control.sock"\n' + ECHO
    unpd = launch(text)
    mode = stat.S_IMODE(place.stat().st_mode)
    unpd.expect_errors("control.lost")
    shutil.rmtree(place)
    unpd.wait_event("pidfile.renewed", path=str(place / "unpd.pid"))
    unpd.wait_event("control.renewed", path=str(place / "control.sock"))
    assert stat.S_IMODE(place.stat().st_mode) == mode
    assert unpd.run("run", "--config", str(unpd.config_path)).returncode == 75
    assert unpd.log_events("pidfile.lost") == []
    assert degraded(unpd) == []


@pytest.mark.slow
def test_a_pid_file_that_was_away_is_found_again(launch: Launch, tmp_path: Path) -> None:
    """The daemon leaves the file of another program alone, says so, and finds its own
    file when that comes back.
    """
    path = tmp_path / "unpd.pid"
    unpd = launch(with_pid_file(path))
    unpd.expect_errors("pidfile.lost")
    path.rename(tmp_path / "aside")
    path.write_text("somebody else's\n")
    assert "another file" in unpd.wait_event("pidfile.lost").fields["reason"]
    assert path.read_text() == "somebody else's\n"
    (tmp_path / "aside").replace(path)
    unpd.wait_event("pidfile.renewed")
    assert path.read_text() == f"{unpd.pid}\n"
    assert degraded(unpd) == []
    assert unpd.stop() == 0


def test_a_replaced_pid_file_is_not_removed(launch: Launch) -> None:
    """A pid file that another program put in the place of ours stays at our end."""
    unpd = launch(ECHO)
    unpd.expect_errors("pidfile.lost")
    unpd.pid_file.unlink()
    unpd.pid_file.write_text("somebody else's\n")
    unpd.expect_leftover(unpd.pid_file)
    assert unpd.stop() == 0
    assert unpd.pid_file.read_text() == "somebody else's\n"


@faults.requires_root
def test_a_full_disk_under_the_pid_file_refuses_the_start(launch: Launch, tmp_path: Path) -> None:
    """When the pid cannot be written, the daemon does not start (code 73), and nothing
    listens.
    """
    port = free_port()
    with faults.small_disk(tmp_path / "full") as disk:
        with (disk / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                pass
        path = disk / "unpd.pid"
        unpd = refused(
            launch,
            f'[daemon]\npid_file = "{path}"\n\n[services.echo]\nlisten ='
            f' ["tcp://127.0.0.1:{port}"]\n',
            73,
        )
        assert f"cannot create the pid file {path}: No space left on device" in unpd.stderr()
        assert not path.exists()
        assert not unpd.control.exists()
