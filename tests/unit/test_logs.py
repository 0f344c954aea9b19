"""The log: one event is one line, whatever its fields hold. The sink neither blocks nor
raises.
"""

import json
import os
import re
import select
import stat
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.logs import FIELD_LIMITS, Field, Level, Log, Sink, open_file

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Paper:
    """A sink that takes ``patience`` bytes at a time. It takes none when that is 0, as
    a full pipe does.
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
        """Return the written lines."""
        return self.written.decode().splitlines()


def said(event: str, style: str = "text", level: Level = "info", **fields: Field) -> str:
    """Return the one line of this event, without its timestamp."""
    paper = Paper()
    Log(paper.sink, "debug", "json" if style == "json" else "text").event(level, event, **fields)
    (line,) = paper.written.decode().split("\n")[:-1]
    return re.sub(rf"^{STAMP} ", "", line)


def test_a_line_of_text() -> None:
    """A text line is timestamp, level, event, and the fields in order."""
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
    """A value of more than a word is quoted. Nothing in it can end the line, change its
    colour or its direction.
    """
    assert said("x", peer=value) == f"info    x peer={shown}"


@given(
    st.dictionaries(
        st.text(string.ascii_lowercase, min_size=1),
        st.text(st.characters(codec=None), max_size=200)
        | st.integers()
        | st.booleans()
        | st.none(),
    )
)
def test_any_event_is_one_line_of_json(fields: dict[str, Field]) -> None:
    """A JSON line gives every field back unchanged, lone surrogates too. The line is
    printable ASCII.
    """
    line = said("some.event", "json", "info", **{f"x_{name}": fields[name] for name in fields})
    assert re.fullmatch(r"[ -~]*", line)
    found = json.loads(line)
    assert {name: found[f"x_{name}"] for name in fields} == fields


@given(st.text(st.characters(codec=None), max_size=200))
def test_any_event_is_one_line_of_text(value: str) -> None:
    """In the text format no value makes a second line or a second field: control
    characters, line separators, quotes and backslashes are escaped.
    """
    line = said("some.event", peer=value, last=1)
    assert line.isprintable()
    found = re.fullmatch(
        r'info    some\.event peer=(?P<peer>[^\s"\\]+|"(?:[^"\\\n]|\\.)*") last=1', line
    )
    assert found, line
    assert (json.loads(found["peer"]) if found["peer"].startswith('"') else found["peer"]) == value


def test_a_line_of_json() -> None:
    """A JSON line is one object with time, level and event first. Numbers stay
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
    """A long field is cut to the first limit."""
    assert said("x", style, reason="y" * 10**6).count("y") == FIELD_LIMITS[0]


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_line_is_longer_than_a_pipe_takes_whole(style: str) -> None:
    """Several long fields of multi-byte characters are cut shorter. The line stays
    below PIPE_BUF and complete.
    """
    long = "\U0001f600" * 10**4
    line = said("x", style, one=long, two=long, three=long, four=long)
    assert len(line.encode()) < select.PIPE_BUF
    assert line.endswith("}" if style == "json" else '"')


@pytest.mark.parametrize(
    ("level", "heard"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_the_level_is_a_threshold(level: Level, heard: int) -> None:
    """Events below the level are not written. The level can change while the program
    runs.
    """
    paper = Paper()
    log = Log(paper.sink, "error", "text")
    log.set_level(level)
    for say in (log.debug, log.info, log.warning, log.error):
        say("x")
    assert len(paper.lines) == heard
    assert log.debugging is (level == "debug")


def test_a_child_log_adds_its_fields() -> None:
    """A child's log adds its fields to every line and keeps the format, the sink and
    the level.
    """
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
    """A full sink does not wait. It loses whole lines, counts each, and writes the next
    one that fits.
    """
    paper = Paper(patience=0)
    drops: list[None] = []
    paper.sink.on_drop = lambda: drops.append(None)
    for _ in range(3):
        paper.sink.put(b"lost\n")
    paper.patience = 100
    paper.sink.put(b"kept\n")
    assert (paper.written, paper.sink.dropped, len(drops)) == (b"kept\n", 3, 3)


def test_a_half_written_line_is_finished_first() -> None:
    """A line that was written by half is finished before the next one. Lines that come
    meanwhile are dropped, so lines never mix.
    """
    paper = Paper(patience=4)
    paper.sink.put(b"first line\n")
    paper.sink.put(b"second\n")
    assert paper.written == b"first li"
    paper.patience = 100
    paper.sink.put(b"third\n")
    assert (paper.written, paper.sink.dropped) == (b"first line\nthird\n", 1)


@given(st.lists(st.integers(0, 12), max_size=30))
def test_only_whole_lines_whatever_the_sink_takes(patience: list[int]) -> None:
    """Whatever number of bytes the sink takes, only whole lines arrive, in order. The
    missing ones are counted.
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
    """A sink that raises any error drops the line, and the service goes on."""

    def refuse(line: bytes) -> int:
        raise error

    sink = Sink(-1, refuse)
    sink.put(b"x\n")
    assert sink.dropped == 1


def test_a_log_file_is_not_for_everybody(tmp_path: Path) -> None:
    """A log file is created with mode 0640 at most, appended to, and not inherited by
    started programs.
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
    """A child opens the log file but never creates it, because it would belong to the
    wrong user.
    """
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
def test_a_log_must_be_a_plain_file(
    tmp_path: Path, prepare: Callable[[Path, Path], None], create: bool
) -> None:
    """A link, a FIFO or a directory at the log's path is refused and not changed. The
    log's directory may belong to another user, who must not redirect the master.
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
    """After a rotation the logs of all roles write to the new file, under the same
    descriptor number, which faulthandler remembers.
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


def test_a_child_does_not_finish_its_parents_line() -> None:
    """A line that the parent wrote by half before the fork stays the parent's to
    finish.
    """
    paper = Paper(patience=3)
    log = Log(paper.sink, "info", "json")
    log.info("parent")
    paper.patience = 1000
    log.child(role="worker").info("child")
    assert json.loads(paper.written[3:])["event"] == "child"
