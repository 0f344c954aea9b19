"""The pid file: its lock decides which daemon runs; its text is for people."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import ROOT, procs
from unpd.errors import AlreadyRunningError, CannotCreateError
from unpd.kernel.pidfile import PidFile

OURS = f"{os.getpid()}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the pid file; no file is there yet."""
    return tmp_path / "unpd.pid"


@contextmanager
def held_by_another(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the lock."""
    script = (
        "import sys, pathlib\nfrom unpd.kernel.pidfile import PidFile\nassert"
        " PidFile(pathlib.Path(sys.argv[1])).acquire()\nprint('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.kill()


def test_the_file_holds_our_pid_while_we_run(path: Path) -> None:
    """The file holds our pid while we hold the lock, and is gone afterwards."""
    with PidFile(path) as pidfile:
        assert path.read_text() == OURS
        assert pidfile.read() == str(os.getpid())
    assert not path.exists()


def test_a_second_instance_is_refused_and_touches_nothing(path: Path) -> None:
    """A second daemon gets an error that names the pid of the first; the file does not
    change, also when the second one ends.
    """
    with held_by_another(path) as holder:
        before = path.read_bytes(), path.stat()
        second = PidFile(path)
        with pytest.raises(
            AlreadyRunningError,
            match=rf"^unpd is already running \(pid {holder.pid}\): it holds the lock on {path};"
            r" a second instance needs a daemon\.pid_file and a daemon\.control of its own, which"
            r" /etc/unpd/NAME/unpd\.toml, the configuration of unpd@NAME, has by leaving both keys"
            r" out$",
        ):
            second.__enter__()
        second.release()
        assert (path.read_bytes(), path.stat()) == before


def test_a_crash_frees_the_lock(path: Path) -> None:
    """After a crash the file remains, but its lock is free."""
    with held_by_another(path) as holder:
        holder.kill()
        holder.wait()
        assert path.exists()
        with PidFile(path):
            assert path.read_text() == OURS


@pytest.mark.parametrize(
    "content", [b"", b"999999999\n", b"1\n", b"not a number \xff\x00", b"-1", b"9" * 100_000]
)
def test_the_text_of_a_stale_file_does_not_matter(path: Path, content: bytes) -> None:
    """The pid in a stale file does not matter, even if that process lives."""
    path.write_bytes(content)
    with PidFile(path):
        assert path.read_bytes() == OURS.encode()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "unknown"),
        (b" \n", "unknown"),
        (b"12\n", "12"),
        (b"\xff\n", "\ufffd"),
        (b"9" * 1000, "9" * 20),
    ],
)
def test_the_text_for_a_message_is_bounded(path: Path, content: bytes, text: str) -> None:
    """The text for a message is at most 20 characters long, whatever the file holds."""
    path.write_bytes(content)
    assert PidFile(path).read() == text


def test_a_missing_file_has_no_text(path: Path) -> None:
    """The text of a missing file is "unknown"."""
    assert PidFile(path).read() == "unknown"


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path, target: path.symlink_to(target), "Too many levels of symbolic links"),
        (lambda path, _: os.mkfifo(path), "this is not a regular file, and unpd leaves it alone"),
        (lambda path, _: path.mkdir(), "Is a directory"),
    ],
)
def test_anything_but_a_regular_file_is_refused_and_stays(
    path: Path, tmp_path: Path, prepare: Callable[[Path, Path], None], reason: str
) -> None:
    """A link, a FIFO or a directory is refused and left alone: the link could point to
    any file, and the others belong to somebody.
    """
    target = tmp_path / "target"
    target.write_text("precious")
    prepare(path, target)
    before = os.lstat(path)
    with pytest.raises(CannotCreateError, match=f"^cannot create the pid file {path}: {reason}$"):
        PidFile(path).__enter__()
    assert os.lstat(path).st_ino == before.st_ino
    assert target.read_text() == "precious"


@pytest.mark.parametrize("locked", [False, True])
def test_a_hard_link_is_refused_and_its_target_stays(
    path: Path, tmp_path: Path, *, locked: bool
) -> None:
    """A file with a second name is refused, and keeps its text and mode: the name may
    lead to any file of ours. A lock on that file means no other daemon.
    """
    target = tmp_path / "target"
    target.write_text("precious")
    target.chmod(0o644)
    path.hardlink_to(target)
    reason = "this file has 2 names (hard links), and unpd leaves it alone"
    with target.open() as file:
        if locked:
            fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CannotCreateError) as refused:
            PidFile(path).__enter__()
    assert str(refused.value) == f"cannot create the pid file {path}: {reason}"
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("precious", 0o644)
    assert path.samefile(target)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
def test_the_mode_does_not_depend_on_the_umask(path: Path, mask: int) -> None:
    """The file has mode 0600, whatever the umask."""
    before = os.umask(mask)
    try:
        with PidFile(path):
            assert path.stat().st_mode & 0o7777 == 0o600
    finally:
        os.umask(before)


def test_a_device_is_not_removed(path: Path) -> None:
    """The pid file /dev/null is refused; root could remove the device."""
    with pytest.raises(CannotCreateError):
        PidFile(Path(os.devnull)).__enter__()
    assert Path(os.devnull).is_char_device()


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """A missing directory is an error with the reason."""
    with pytest.raises(CannotCreateError, match="No such file or directory"):
        PidFile(tmp_path / "missing" / "unpd.pid").__enter__()


def test_the_file_of_a_successor_is_not_removed(path: Path) -> None:
    """If our file was removed by hand and another daemon has made its own, releasing
    ours leaves that file alone.
    """
    first, second = PidFile(path), PidFile(path)
    assert first.acquire()
    path.unlink()
    assert second.acquire()
    first.release()
    assert path.exists()
    assert not PidFile(path).acquire()
    second.release()
    assert not path.exists()


def test_a_lock_on_a_removed_file_guards_nothing(path: Path) -> None:
    """If the file disappears between open and lock, acquire() tries again with the file
    that is there now.
    """

    class Unlucky(PidFile):
        """A pid file that disappears during the first attempt."""

        attempts = 0

        def _open(self) -> int:
            fd = super()._open()
            self.attempts += 1
            if self.attempts == 1:
                self.path.unlink()
            return fd

    unlucky = Unlucky(path)
    assert unlucky.acquire()
    assert unlucky.attempts == 2
    assert not PidFile(path).acquire(), "what it holds now is the file that others see"
    unlucky.release()


def test_releasing_twice_or_without_the_lock_does_nothing(path: Path) -> None:
    """Releasing twice, or without the lock, does nothing; a foreign file stays."""
    path.write_text("1\n")
    pidfile = PidFile(path)
    pidfile.release()
    assert path.exists()
    assert pidfile.acquire()
    pidfile.release()
    pidfile.release()


def test_the_lock_is_not_inherited_by_programs(path: Path) -> None:
    """A program that the daemon starts does not inherit the lock."""
    with (
        PidFile(path),
        subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"up\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"up\n", (
            "the dynamic loader opens files too, and closes them before this"
        )
        assert str(path) not in procs.fds(child.pid).values()


def test_it_is_a_plain_flock(path: Path) -> None:
    """The lock is a plain flock(2), so flock(1) on the file can wait for the daemon's
    end.
    """
    with PidFile(path), path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
