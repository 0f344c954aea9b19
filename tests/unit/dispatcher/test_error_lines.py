"""The standard error of programs as lines of the log."""

from collections import deque

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
        log = Log(self.memory.sink, "info", "text")
        self.lines = ErrorLines("cat", self.stderr, log)  # type: ignore[arg-type]

    def texts(self, now: float = 1.0) -> list[str]:
        """Read once; the lines that were logged since the last time."""
        before = len(self.memory.lines)
        self.lines.read(now)
        return [line.partition(" text=")[2].split(" ")[0] for line in self.memory.lines[before:]]


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
