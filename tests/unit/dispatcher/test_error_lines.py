"""The standard error of programs as lines of the log."""

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterator

from tests.support.memory_sink import MemorySink
from unpd.dispatcher.error_lines import (
    LINES_PER_S,
    MAX_LINE_BYTES,
    MAX_WRITERS,
    PIECES,
    ErrorLines,
)
from unpd.logs import Log


class FakeStderr:
    """Pieces that processes have written."""

    def __init__(self, *pieces: tuple[int, bytes]) -> None:
        self.pieces = deque(pieces)

    def read(self) -> tuple[int, bytes] | None:
        """The next piece."""
        return self.pieces.popleft() if self.pieces else None


class Scene:
    """The lines of a service."""

    def __init__(self, *pieces: tuple[int, bytes]) -> None:
        self.stderr = FakeStderr(*pieces)
        self.memory = MemorySink()
        self.running: list[int] = []
        log = Log(self.memory.sink, "info", "text")
        self.lines = ErrorLines("cat", self.stderr, log, lambda: self.running)  # type: ignore[arg-type]

    def texts(self, now: float = 1.0) -> list[str]:
        """Read once; the lines that were logged since the last time."""
        before = len(self.memory.lines)
        self.lines.read(now)
        return [line.partition(" text=")[2].split(" ")[0] for line in self.memory.lines[before:]]

    def owners(self) -> list[int]:
        """The program of each line that was logged."""
        pids = [line.partition(" session_pid=")[2].split(" ")[0] for line in self.memory.lines]
        return list(map(int, pids))


def test_pieces_become_lines() -> None:
    """Whatever their borders; those of two processes do not mix."""
    scene = Scene((1, b"a"), (2, b"x\ny"), (1, b"b\nc"), (2, b"z\n"), (1, b"\n"))
    assert scene.texts() == ["x", "ab", "yz", "c"]


def test_the_last_line_needs_no_end() -> None:
    """It is logged when its process has ended, and it is the last one."""
    scene = Scene((1, b"first\nlast"), (2, b"other\n"))
    scene.texts()
    assert scene.lines.forget(1, 1.0) == "last"
    assert scene.lines.forget(2, 1.0) == "other"
    assert scene.lines.forget(2, 1.0) == ""
    assert "text=last" in scene.memory.lines[-1]


def test_a_long_line_is_cut() -> None:
    """With and without an end."""
    for end in (b"\n", b""):
        scene = Scene((1, b"a" * (2 * MAX_LINE_BYTES + 5) + end))
        texts = [*scene.texts(), scene.lines.forget(1, 1.0)]
        assert [len(text) for text in texts[:3]] == [MAX_LINE_BYTES, MAX_LINE_BYTES, 5]


def test_lines_beyond_the_limit_are_counted() -> None:
    """In the next line that is allowed."""
    scene = Scene((1, b"x\n" * (LINES_PER_S + 7)))
    assert len(scene.texts()) == LINES_PER_S
    scene.stderr.pieces.append((1, b"y\n"))
    assert scene.texts(3.0) == ["y"]
    assert scene.memory.lines[-1].rstrip().endswith("suppressed=7")


def test_the_memory_of_writers_is_bounded() -> None:
    """The oldest beginnings of lines are logged as they are."""
    scene = Scene(*((pid, b"x") for pid in range(1, MAX_WRITERS + 3)))
    logged = []
    for _ in range(MAX_WRITERS // PIECES + 1):
        logged += scene.texts()
    assert logged == ["x", "x"]


def test_a_line_of_a_child_is_one_of_its_program() -> None:
    """Also the line that it has begun, and the last one of the program."""
    with child_of_a_program() as (program, child):
        scene = Scene((child, b"whole\nbegun"))
        scene.running = [1, program]
        scene.texts()
        assert scene.owners() == [program]
        assert scene.lines.forget(program, 1.0) == "begun"
        assert scene.owners() == [program, program]


@contextlib.contextmanager
def child_of_a_program() -> Iterator[tuple[int, int]]:
    """A process that leads a session, and a child of it."""
    command = ["/bin/sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        try:
            yield leader.pid, child
        finally:
            os.kill(child, signal.SIGKILL)  # and its parent has waited for it


def test_a_line_of_a_writer_that_is_gone() -> None:
    """It is of the only program that runs; of several, nobody knows which."""
    gone = dead_pid()
    for running, owner in (([7], 7), ([7, 8], gone), ([], gone)):
        scene = Scene((gone, b"x\n"))
        scene.running = running
        scene.texts()
        assert scene.owners() == [owner]


def dead_pid() -> int:
    """The pid of a process that has ended."""
    with subprocess.Popen(["/bin/true"]) as process:
        return process.pid


def test_the_rest_of_an_ended_program_is_no_others() -> None:
    """It may come after its end, when only one other program runs."""
    gone = dead_pid()
    scene = Scene((gone, b"first\n"))
    scene.running = [gone, 7]
    scene.texts()
    assert scene.lines.forget(gone, 1.0) == "first"
    scene.running = [7]
    scene.stderr.pieces.append((gone, b"rest\n"))
    scene.texts()
    assert scene.owners() == [gone, gone]


def test_a_line_of_another_session_is_its_own() -> None:
    """A writer that has left the session of its program, or whose program has ended."""
    with child_of_a_program() as (_, child):
        scene = Scene((child, b"x\n"))
        scene.running = [1]
        scene.texts()
        assert scene.owners() == [child]


def test_a_turn_is_bounded() -> None:
    """What is left is read in the next one."""
    scene = Scene(*((1, b"x\n") for _ in range(PIECES + 1)))
    assert (len(scene.texts()), len(scene.texts())) == (PIECES, 1)


def test_the_end_of_the_socket_is_told() -> None:
    """A program has shut it down: it would be readable for ever."""
    scene = Scene((1, b"last\n"), (0, b""))
    assert not scene.lines.read(1.0)
    assert "text=last" in scene.memory.lines[-1]
    assert scene.lines.read(1.0), "nothing to read is no end"
