"""Sinks: they can neither block nor kill the process that writes, and lose whole lines
only.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import faults
from tests.support.memory_sink import PLENTY, MemorySink
from unpd.logs import Log
from unpd.sinks import Sink, open_file, refusal


def test_a_full_sink_drops_and_counts() -> None:
    """A full sink is not waited for: whole lines are lost, each is counted, and the
    next line that fits is written.
    """
    memory = MemorySink(at_a_time=0)
    drops: list[None] = []
    memory.sink.on_drop = lambda: drops.append(None)
    for _ in range(3):
        memory.sink.put(b"lost\n")
    memory.at_a_time = PLENTY
    memory.sink.put(b"kept\n")
    assert (memory.written, memory.sink.dropped, len(drops)) == (b"kept\n", 3, 3)


def test_a_line_that_was_written_in_part_is_finished_first() -> None:
    """Lines never mix: a line that comes before the first is finished is dropped."""
    memory = MemorySink(at_a_time=4)
    memory.sink.put(b"first line\n")
    memory.sink.put(b"second\n")
    assert memory.written == b"first li"
    memory.at_a_time = PLENTY
    memory.sink.put(b"third\n")
    assert (memory.written, memory.sink.dropped) == (b"first line\nthird\n", 1)


@given(st.lists(st.integers(0, 12), max_size=30))
def test_only_whole_lines_are_written(sizes: list[int]) -> None:
    """However much the sink takes each time, whole lines arrive in order, and every
    missing one was counted.
    """
    memory = MemorySink()
    for number, memory.at_a_time in enumerate(sizes):
        memory.sink.put(b"line %d\n" % number)
    memory.at_a_time = PLENTY
    memory.sink.put(b"")
    assert all(line in {f"line {number}" for number in range(len(sizes))} for line in memory.lines)
    assert memory.lines == sorted(memory.lines, key=lambda line: int(line.split()[1]))
    assert len(memory.lines) + memory.sink.dropped == len(sizes)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "No space left on device"), BlockingIOError()]
)
def test_a_broken_sink_drops_the_line(error: OSError) -> None:
    """A write that fails raises nothing: the service goes on."""

    def refuse(_fd: int, line: bytes) -> int:
        raise error

    sink = Sink(-1, refuse)
    sink.put(b"x\n")
    assert sink.dropped == 1


def test_a_log_file_is_private(tmp_path: Path) -> None:
    """A new log file has mode 0640 at most; it is appended to, and programs that we
    start do not inherit its descriptor.
    """
    path = tmp_path / "unpd.log"
    for text in (b"one\n", b"two\n"):
        fd = open_file(str(path), (os.getuid(), os.getgid()))
        Sink(fd).put(text)
        assert not os.get_inheritable(fd)
        os.close(fd)
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0


@pytest.mark.parametrize(
    "prepare",
    [
        Path.symlink_to,
        Path.hardlink_to,
        lambda path, _: os.mkfifo(path),
        lambda path, _: path.mkdir(),
    ],
)
def test_only_a_plain_file_becomes_the_log(
    tmp_path: Path, prepare: Callable[[Path, Path], None]
) -> None:
    """The directory may belong to another user, who wants the master to write
    elsewhere: links and pipes are not followed, and nothing is changed.
    """
    target, path = tmp_path / "target", tmp_path / "unpd.log"
    target.write_bytes(b"precious\n")
    prepare(path, target)
    before = os.lstat(path)
    with pytest.raises(OSError, match=r"unpd\.log"):
        open_file(str(path), (os.getuid(), os.getgid()))
    assert target.read_bytes() == b"precious\n"
    assert os.lstat(path).st_ino == before.st_ino


@pytest.mark.parametrize(
    ("number", "name", "words"),
    [
        (errno.ENOENT, "missing/unpd.log", ("there is no directory", "missing", "LogsDirectory=")),
        (
            errno.EROFS,
            "unpd.log",
            ("is read-only", "/var/log/unpd,", "unpd@NAME.service /var/log/unpd-NAME"),
        ),
        (errno.EACCES, "there.log", ("may not write it", "`create 0640")),
        (errno.EACCES, "unpd.log", ("may make no file in",)),
        (errno.ENOSPC, "unpd.log", ("No space left on device",)),
    ],
)
def test_a_refusal_says_what_would_be_right(
    tmp_path: Path, number: int, name: str, words: tuple[str, ...]
) -> None:
    """One clause, which names the directory or the user."""
    (tmp_path / "there.log").touch()
    said = refusal(str(tmp_path / name), OSError(number, os.strerror(number)))
    assert all(word in said for word in words), said
    assert "\n" not in said


def linked(path: Path) -> None:
    """Make a symbolic link."""
    path.symlink_to(path.with_name("real.log"))


def hard_linked(path: Path) -> None:
    """Make a file that has two names."""
    path.touch()
    path.with_name("other").hardlink_to(path)


def bound(path: Path) -> None:
    """Make the file of a socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def owned(path: Path) -> None:
    """Make a file of another user."""
    path.touch()
    os.chown(path, 65534, -1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (linked, ("it is a symbolic link, which unpd does not follow", "name ", "/real.log")),
        (os.mkfifo, ("it is no plain file", "standard error")),
        (bound, ("it is no plain file", "standard error")),
        (Path.mkdir, ("it is a directory", "name a file in it")),
        (hard_linked, ("it has another name", "hard link", "remove")),
        pytest.param(owned, ("it belongs to", "change its owner to"), marks=faults.requires_root),
    ],
)
def test_the_refusal_of_what_is_no_log_file(
    tmp_path: Path, make: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    """It says what the file is, and what would be right."""
    path = tmp_path / "unpd.log"
    make(path)
    with pytest.raises(OSError, match=r"unpd\.log") as caught:
        open_file(str(path))
    said = refusal(str(path), caught.value)
    assert all(word in said for word in words), said


def test_a_fifo_that_is_read_is_no_log_file_either(tmp_path: Path) -> None:
    """The kernel would open it, but it is no plain file."""
    path = tmp_path / "unpd.log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match=r"unpd\.log") as caught:
        open_file(str(path))
    assert "it is no plain file" in refusal(str(path), caught.value)
    os.close(reader)


def test_every_log_follows_its_sink(tmp_path: Path) -> None:
    """After a rotation the logs of all roles write to the new file, through a
    descriptor of the same number, which others remember.
    """
    fd, new = open_file(str(tmp_path / "old")), open_file(str(tmp_path / "new"))
    sink = Sink(fd)
    log = Log(sink, "info", "text").child(role="worker")
    log.event("log.reopened", file="before")
    sink.switch_to(new)
    log.event("log.reopened", file="after")
    assert sink.fd == fd
    assert [
        word in (tmp_path / name).read_text()
        for word in ("before", "after")
        for name in ("old", "new")
    ] == [True, False, False, True]
    assert not os.get_inheritable(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(new)
    os.close(fd)


def test_a_rest_can_be_left_to_the_parent() -> None:
    """A forked child leaves the rest of a line to the process that wrote its
    beginning.
    """
    memory = MemorySink(at_a_time=3)
    memory.sink.put(b"a long line\n")
    memory.sink.forget_rest()
    memory.at_a_time = PLENTY
    memory.sink.put(b"mine\n")
    assert memory.written == b"a lmine\n"
