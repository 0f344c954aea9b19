"""Standard error as the log's sink: a pipe, a socket, a file."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import ROOT, faults
from unpd.sinks import Sink, standard_error


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
