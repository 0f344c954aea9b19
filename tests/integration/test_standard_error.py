"""Standard error as the log's sink: a pipe, a socket, a file."""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import ROOT, faults
from unpd.sinks import Inherited, Sink, standard_error


@contextmanager
def as_standard_error(fd: int) -> Iterator[None]:
    """Make ``fd`` descriptor 2 for the length of the block."""
    saved = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def fill(put: Callable[[bytes], None], sink: Sink) -> None:
    """Write until a line is lost."""
    for _ in range(10**5):
        put(b"x" * 1000 + b"\n")
        if sink.dropped:
            return
    raise AssertionError("the sink never fills")


def test_standard_error_that_is_a_pipe_does_not_block_nor_change_for_others() -> None:
    """A full pipe loses lines. The flags of the inherited descriptor do not change."""
    reader, writer = os.pipe()
    with as_standard_error(writer):
        sink = standard_error()
    sink.put(b"hello\n")
    assert os.read(reader, 100) == b"hello\n"
    fill(sink.put, sink)
    assert os.get_blocking(writer)
    for fd in (reader, writer, sink.fd):
        os.close(fd)


@faults.requires_root
def test_standard_error_of_another_user_does_not_block() -> None:
    """The pipe of another user cannot be opened again (su, sudo -u). Lines are written
    while it has room, and dropped when it is full.
    """
    script = """
import os
from unpd.sinks import open_again, standard_error
os.setuid(65534)
assert open_again(2) is None
sink = standard_error()
for _ in range(1000):
    sink.put(b"x" * 1000 + b"\\n")
print(sink.fd, sink.dropped > 0, os.get_blocking(2))
"""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", script]
    ended = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=writer, timeout=30, check=True
    )
    assert ended.stdout == b"2 True True\n"
    assert os.read(reader, 1002) == b"x" * 1000 + b"\nx"
    for fd in (reader, writer):
        os.close(fd)


def test_standard_error_that_is_a_socket_does_not_block_nor_change_for_others() -> None:
    """A full socket loses lines, as under systemd. A reader that has closed causes
    neither a signal nor an error.
    """
    ours, theirs = socket.socketpair()
    with ours, as_standard_error(ours.fileno()):
        sink = standard_error()
        sink.put(b"hello\n")
        assert theirs.recv(100) == b"hello\n"
        fill(sink.put, sink)
        assert os.get_blocking(2)
        theirs.close()
        dropped = sink.dropped
        sink.put(b"into the void\n")
        assert sink.dropped == dropped + 1
    with pytest.warns(ResourceWarning):  # a daemon keeps its sink to the end
        del sink


def test_standard_error_that_is_a_file_is_shared_with_others(tmp_path: Path) -> None:
    """Lines of the log and lines that a library writes to descriptor 2 alternate in
    order.
    """
    path = tmp_path / "stderr"
    with path.open("wb") as file, as_standard_error(file.fileno()):
        sink = standard_error()
        for text in (b"one\n", b"three\n"):
            sink.put(text)
            os.write(2, b"two\n")
    assert path.read_bytes() == b"one\ntwo\nthree\ntwo\n"


def test_a_child_without_a_reader_shares_nothing_with_its_parent(tmp_path: Path) -> None:
    """A FIFO that nobody reads cannot be opened again. A child that starts then drops
    and counts its lines: it must not hold the parent's description.
    """
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    with as_standard_error(writer):
        sink = standard_error()
        fd = sink.fd
        os.close(reader)
        sink.separate()
        assert sink.fd == 2
        assert os.readlink("/proc/self/fd/2") == os.devnull
        sink.put(b"lost\n")
        assert sink.dropped == 1
    for number in (writer, fd):
        os.close(number)


@contextmanager
def inherited() -> Iterator[tuple[Inherited, int]]:
    """Make a sink that cannot be opened again. Yields it, and the reader of its
    descriptor 2.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with as_standard_error(writer):
        sink = Inherited()
        yield sink, reader
    for fd in (reader, writer, sink.inlet, sink.outlet):
        os.close(fd)


def test_only_whole_lines_of_children_are_passed_on() -> None:
    """A child may have written the beginning of a line, which waits for its end; the
    master's own line goes between two lines.
    """
    with inherited() as (sink, reader):
        os.write(sink.outlet, b"one\ntw")
        sink.relay()
        sink.put(b"the master's\n")
        os.write(sink.outlet, b"o\n")
        sink.relay()
        sink.relay()
        assert os.read(reader, 100) == b"one\nthe master's\ntwo\n"
        assert sink.dropped == 0


def test_a_line_without_an_end_is_passed_on_in_pieces() -> None:
    """A faulty child that never ends its line does not stop the log of the others."""
    text = b"x" * (select.PIPE_BUF + 10) + b"\nnext\n"
    with inherited() as (sink, reader):
        os.write(sink.outlet, text)
        sink.relay_rest()
        assert os.read(reader, 10000) == text


def test_lines_of_children_that_find_no_room_are_counted() -> None:
    """The master takes them from the children, drops them and counts each."""
    with inherited() as (sink, _):
        fill(sink.put, sink)
        before = sink.dropped
        os.write(sink.outlet, b"lost\n" * 7)
        sink.relay()
        assert sink.dropped == before + 7
