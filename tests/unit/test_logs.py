"""The log: one event, one line, whatever is in it; and a sink that can neither block
nor kill.
"""

import json
import os
import re
import select
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.logs import FIELD_LIMITS, Field, Level, Log, Sink, open_file, standard_error

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Paper:
    """A sink that takes ``patience`` bytes at a time, and no byte when that is 0 (as a
    full pipe does).
    """

    def __init__(self, patience: int = 10**9) -> None:
        self.patience = patience
        self.written = b""
        self.sink = Sink(-1, self._write)

    def _write(self, line: bytes) -> int:
        if not self.patience:
            raise BlockingIOError
        taken = line[: self.patience]
        self.written += taken
        return len(taken)

    @property
    def lines(self) -> list[str]:
        """What was written, by line."""
        return self.written.decode().splitlines()


def said(event: str, style: str = "text", level: Level = "info", **fields: Field) -> str:
    """The one line that this event becomes, without its stamp."""
    paper = Paper()
    Log(paper.sink, "debug", "json" if style == "json" else "text").event(level, event, **fields)
    (line,) = paper.written.decode().split("\n")[:-1]
    return re.sub(rf"^{STAMP} ", "", line)


def test_a_line_of_text() -> None:
    """Stamp, level, event, fields in order."""
    assert said(
        "worker.died", level="warning", pool="default", index=0, respawn_in_s=0.1, final=False
    ) == ("warning worker.died pool=default index=0 respawn_in_s=0.1 final=false")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("tcp://[::1]:7", "tcp://[::1]:7"),
        ("a b", '"a b"'),
        ("", '""'),
        ('say "hi"', r'"say \"hi\""'),
        ("a=b", '"a=b"'),
        ("back\\slash", r'"back\\slash"'),
        ("Zoë", '"Zoë"'),
        ("x\n2026-01-01 error fake", r'"x\n2026-01-01 error fake"'),
        ("\x1b[31mred", r'"\u001b[31mred"'),
        ("\x7f", r'"\u007f"' if json.dumps("\x7f") != '"\x7f"' else '"\x7f"'),
        ("\x00\x85\u2028\u2029", r'"\u0000\u0085\u2028\u2029"'),
        ("\u202egnp.exe", r'"\u202egnp.exe"'),
        ("\udc80", r'"\udc80"'),
        ("%s {} $(x)", '"%s {} $(x)"'),
        (None, "None"),
        (True, "true"),
        (-1.5, "-1.5"),
    ],
)
def test_values_are_quoted_and_escaped(value: Field, shown: str) -> None:
    """A value that is more than a word stands in quotes; nothing in it can end the
    line, colour it, or turn its direction.
    """
    assert said("x", peer=value) == f"info    x peer={shown}"


@given(st.text(st.characters(codec=None), max_size=50), st.sampled_from(("text", "json")))
def test_any_text_is_one_printable_line(text: str, style: str) -> None:
    """Control characters, line separators and lone surrogates come out escaped; JSON
    gives back what went in.
    """
    line = said("x", style, peer=text)
    assert line.isprintable()
    if style == "json":
        assert json.loads(line)["peer"] == text


def test_a_line_of_json() -> None:
    """One object, with the time, the level and the event first; numbers stay
    numbers.
    """
    line = said(
        "worker.died", "json", level="error", index=0, grace_s=1.5, final=True, nothing=None
    )
    fields = json.loads(line)
    assert list(fields) == ["time", "level", "event", "index", "grace_s", "final", "nothing"]
    assert re.fullmatch(STAMP, fields.pop("time"))
    assert fields == {
        "level": "error",
        "event": "worker.died",
        "index": 0,
        "grace_s": 1.5,
        "final": True,
        "nothing": None,
    }


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_field_is_cut(style: str) -> None:
    """One long field keeps as much as is of use."""
    assert said("x", style, reason="y" * 10**6).count("y") == FIELD_LIMITS[0]


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_line_outgrows_what_a_pipe_takes_whole(style: str) -> None:
    """Several long fields whose every character needs many bytes are cut shorter, and
    the line stays one whole line.
    """
    long = "\U0001f600" * 10**4
    line = said("x", style, one=long, two=long, three=long, four=long)
    assert len(line.encode()) < select.PIPE_BUF
    assert line.endswith("}" if style == "json" else '"')


@pytest.mark.parametrize(
    ("level", "heard"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_the_level_is_a_threshold(level: Level, heard: int) -> None:
    """What is below it is not written; it can be changed while the program runs."""
    paper = Paper()
    log = Log(paper.sink, "error", "text")
    log.set_level(level)
    for say in (log.debug, log.info, log.warning, log.error):
        say("x")
    assert len(paper.lines) == heard
    assert log.debugging is (level == "debug")


def test_a_child_log_says_who_it_is() -> None:
    """On every line, in the same style, to the same sink, from the same level on."""
    paper = Paper()
    log = Log(paper.sink, "warning", "json").child(role="worker", index=3)
    log.info("unheard")
    log.error("heard", why="so")
    fields = json.loads(paper.lines[0])
    assert (len(paper.lines), fields["role"], fields["index"], fields["why"]) == (
        1,
        "worker",
        3,
        "so",
    )


def test_a_full_sink_drops_and_counts() -> None:
    """It does not wait; whole lines are lost, each is counted, and the next that fits
    is written.
    """
    paper = Paper(patience=0)
    drops: list[None] = []
    paper.sink.on_drop = lambda: drops.append(None)
    for _ in range(3):
        paper.sink.put(b"lost\n")
    paper.patience = 100
    paper.sink.put(b"kept\n")
    assert (paper.written, paper.sink.dropped, len(drops)) == (b"kept\n", 3, 3)


def test_a_line_that_was_written_by_half_is_finished_first() -> None:
    """Lines never mix: what comes meanwhile is dropped."""
    paper = Paper(patience=4)
    paper.sink.put(b"first line\n")
    paper.sink.put(b"second\n")
    assert paper.written == b"first li"
    paper.patience = 100
    paper.sink.put(b"third\n")
    assert (paper.written, paper.sink.dropped) == (b"first line\nthird\n", 1)


@given(st.lists(st.integers(0, 12), max_size=30))
def test_only_whole_lines_whatever_the_sink_takes(patience: list[int]) -> None:
    """However much it takes each time: what arrives are whole lines in order, and those
    that are missing were counted.
    """
    paper = Paper()
    for number, paper.patience in enumerate(patience):
        paper.sink.put(b"line %d\n" % number)
    paper.patience = 100
    paper.sink.put(b"")
    lines = paper.written.decode().splitlines()
    assert all(line in {f"line {number}" for number in range(len(patience))} for line in lines)
    assert lines == sorted(lines, key=lambda line: int(line.split()[1]))
    assert len(lines) + paper.sink.dropped == len(patience)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "No space left on device"), BlockingIOError()]
)
def test_a_broken_sink_is_survived(error: OSError) -> None:
    """Whatever is wrong with the log, the service goes on."""

    def refuse(line: bytes) -> int:
        raise error

    sink = Sink(-1, refuse)
    sink.put(b"x\n")
    assert sink.dropped == 1


def test_a_log_file_is_not_for_everybody(tmp_path: Path) -> None:
    """It is made with mode 0640 at most, appended to, and not inherited by programs
    that are started.
    """
    path = tmp_path / "unpd.log"
    for text in (b"one\n", b"two\n"):
        sink = open_file(str(path), (os.getuid(), os.getgid()))
        sink.put(text)
        assert not os.get_inheritable(sink.fd)
        os.close(sink.fd)
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0


def test_a_child_opens_the_log_file_but_never_makes_it(tmp_path: Path) -> None:
    """It would belong to the wrong user."""
    with pytest.raises(FileNotFoundError):
        open_file(str(tmp_path / "unpd.log"), create=False)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    "prepare",
    [
        Path.symlink_to,
        Path.hardlink_to,
        lambda path, _: os.mkfifo(path),
        lambda path, _: path.mkdir(),
    ],
)
def test_what_is_no_plain_file_is_no_log(
    tmp_path: Path, prepare: Callable[[Path, Path], None], create: bool
) -> None:
    """The directory may be another user's, who would like the master to write
    elsewhere: neither links nor pipes are followed, and nothing is changed.
    """
    target, path = tmp_path / "target", tmp_path / "unpd.log"
    target.write_bytes(b"precious\n")
    prepare(path, target)
    before = os.lstat(path)
    with pytest.raises(OSError, match=r"unpd\.log"):
        open_file(str(path), (os.getuid(), os.getgid()), create=create)
    assert target.read_bytes() == b"precious\n"
    assert os.lstat(path).st_ino == before.st_ino


def test_every_log_follows_its_sink(tmp_path: Path) -> None:
    """After a rotation the logs of all roles write to the new file, through a
    descriptor of the same number: others remember it.
    """
    sink, new = open_file(str(tmp_path / "old")), open_file(str(tmp_path / "new"))
    fd = sink.fd
    log = Log(sink, "info", "text").child(role="worker")
    log.info("before")
    sink.move_to(new)
    log.info("after")
    assert sink.fd == fd
    assert [
        word in (tmp_path / name).read_text()
        for word in ("before", "after")
        for name in ("old", "new")
    ] == [True, False, False, True]
    assert not os.get_inheritable(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(new.fd)
    os.close(fd)


def test_a_child_does_not_finish_the_line_of_its_parent() -> None:
    """What was written by half before the fork is the parent's."""
    paper = Paper(patience=3)
    paper.sink.put(b"a long line\n")
    paper.sink.forget_rest()
    paper.patience = 100
    paper.sink.put(b"mine\n")
    assert paper.written == b"a lmine\n"


@contextmanager
def as_standard_error(fd: int) -> Iterator[None]:
    """Descriptor 2 is this file for a while."""
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
    raise AssertionError("it never fills")


def test_standard_error_that_is_a_pipe_does_not_block_nor_change_for_others() -> None:
    """A full pipe loses lines; the flags of the inherited descriptor stay what they
    were.
    """
    reader, writer = os.pipe()
    with as_standard_error(writer):
        sink = standard_error()
    sink.put(b"hello\n")
    assert os.read(reader, 100) == b"hello\n"
    fill(sink.put, sink)
    assert os.get_blocking(writer)
    for fd in (reader, writer, sink.fd):
        os.close(fd)


def test_standard_error_that_is_a_socket_does_not_block_nor_change_for_others() -> None:
    """As under systemd; a reader that is gone is no signal and no end."""
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
    """What a library writes to descriptor 2 and what we write stand one behind the
    other.
    """
    path = tmp_path / "stderr"
    with path.open("wb") as file, as_standard_error(file.fileno()):
        sink = standard_error()
        for text in (b"one\n", b"three\n"):
            sink.put(text)
            os.write(2, b"two\n")
    assert path.read_bytes() == b"one\ntwo\nthree\ntwo\n"
