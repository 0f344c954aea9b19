"""The log: one event is one line, whatever its fields hold, of the level that the table
of events gives it.
"""

import json
import re
import select
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.memory_sink import MemorySink
from unpd.log_events.row import Field, Level
from unpd.logs import FIELD_LIMITS, Log, Style, take_level

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"

ONE_OF_EACH_LEVEL: dict[Level, str] = {
    "debug": "child.spawned",
    "info": "master.ready",
    "warning": "worker.died",
    "error": "reload.refused",
}


def logged(event: str, style: Style = "text", **fields: Field) -> str:
    """The one line that this event becomes, without its stamp."""
    memory = MemorySink()
    Log(memory.sink, "debug", style).event(event, **fields)
    (line,) = memory.lines
    return re.sub(rf"^{STAMP} ", "", line)


def test_a_line_of_text() -> None:
    """A line of text has stamp, level, event and fields, in this order."""
    assert logged("worker.died", pool="default", index=0, respawn_in_s=0.1, final=False) == (
        "warning worker.died pool=default index=0 respawn_in_s=0.1 final=false"
    )


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
    """A value that is more than a word stands in quotes. Nothing in it can end the
    line, colour it, or turn its direction.
    """
    assert logged("master.ready", peer=value) == f"info    master.ready peer={shown}"


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
    line = logged("master.ready", "json", **{f"x_{name}": fields[name] for name in fields})
    assert re.fullmatch(r"[ -~]*", line)
    found = json.loads(line)
    assert {name: found[f"x_{name}"] for name in fields} == fields


@given(st.text(st.characters(codec=None), max_size=200))
def test_any_event_is_one_line_of_text(value: str) -> None:
    """In the text format no value makes a second line or a second field: control
    characters, line separators, quotes and backslashes are escaped.
    """
    line = logged("master.ready", peer=value, last=1)
    assert line.isprintable()
    found = re.fullmatch(
        r'info    master\.ready peer=(?P<peer>[^\s"\\]+|"(?:[^"\\\n]|\\.)*") last=1', line
    )
    assert found, line
    assert (json.loads(found["peer"]) if found["peer"].startswith('"') else found["peer"]) == value


def test_a_line_of_json() -> None:
    """A line of JSON is one object: time, level and event first. Numbers stay
    numbers.
    """
    line = logged("reload.refused", "json", index=0, grace_s=1.5, final=True, nothing=None)
    fields = json.loads(line)
    assert list(fields) == ["time", "level", "event", "index", "grace_s", "final", "nothing"]
    assert re.fullmatch(STAMP, fields.pop("time"))
    assert fields == {
        "level": "error",
        "event": "reload.refused",
        "index": 0,
        "grace_s": 1.5,
        "final": True,
        "nothing": None,
    }


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_field_is_cut(style: Style) -> None:
    """One long field keeps its first thousand characters."""
    assert logged("x", style, reason="y" * 10**6).count("y") == FIELD_LIMITS[0]


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_line_outgrows_what_a_pipe_takes_whole(style: Style) -> None:
    """Several long fields whose every character needs many bytes are cut shorter, and
    the line stays one whole line.
    """
    long = "\U0001f600" * 10**4
    line = logged("x", style, one=long, two=long, three=long, four=long)
    assert len(line.encode()) < select.PIPE_BUF
    assert line.endswith("}" if style == "json" else '"')


@pytest.mark.parametrize(
    ("threshold", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_of_the_log_is_a_threshold(threshold: Level, written: list[Level]) -> None:
    """Events below the level of the log are not written; the level can change while the
    program runs.
    """
    memory = MemorySink()
    log = Log(memory.sink, "info" if threshold == "error" else "error", "json")
    log.set_level(threshold, connections=False)
    for event in ONE_OF_EACH_LEVEL.values():
        log.event(event)
    assert [json.loads(line)["level"] for line in memory.lines] == written


@pytest.mark.parametrize(
    ("threshold", "connections", "level"),
    [
        ("debug", False, "debug"),
        ("debug", True, "info"),
        ("info", False, None),
        ("info", True, "info"),
        ("warning", True, None),
    ],
)
def test_connections_are_logged_where_they_are_wanted(
    threshold: Level, connections: bool, level: Level | None
) -> None:
    """The lines of each connection have level info if the configuration asks for them,
    else level debug. A child logs as its parent does, until it gets another setting.
    """
    memory = MemorySink()
    log = Log(memory.sink, threshold, "json", connections=connections)
    other = Log(memory.sink, "error", "json", connections=not connections)
    other.set_level(threshold, connections=connections)
    for each in (log, log.child(role="worker"), other):
        each.event("connection.started", service="echo", peer="192.0.2.1:7")
        assert each.writes_connections is (level is not None)
    levels = [json.loads(line)["level"] for line in memory.lines]
    assert levels == ([level] * 3 if level else [])


def test_a_level_can_hold_whatever_is_configured() -> None:
    """In the log of a child, too, and until it is taken back; then the level that was
    configured last holds.
    """
    memory = MemorySink()
    log = Log(memory.sink, "warning", "text")
    log.override("debug")
    child = log.child(role="worker")
    for each in (log, child):
        levels = [each.level]
        each.set_level("error", connections=True)
        levels.append(each.level)
        each.override(None)
        assert [*levels, each.level] == ["debug", "debug", "error"]


@pytest.mark.parametrize("level", ["debug", "error", None])
def test_a_level_comes_by_a_message(level: Level | None) -> None:
    """What is no level changes nothing, and is answered by a sentence."""
    log = Log(MemorySink().sink, "info", "text")
    assert take_level(log, level) == {}
    assert log.level == (level or "info")
    others: tuple[object, ...] = ("loud", 7, ["debug"], {})
    for other in others:
        assert "level must be null or one of" in take_level(log, other)["error"]
    assert log.level == (level or "info")


@pytest.mark.parametrize(
    ("paused", "level", "written"), [(True, "warning", 1), (False, "debug", 0)]
)
def test_a_field_can_make_an_event_a_debug_line(paused: bool, level: Level, written: int) -> None:
    """A failed accept is a warning where the listener pauses, and a debug line where it
    goes on.
    """
    assert logged("accept.failed", paused=paused).split()[0] == level
    memory = MemorySink()
    Log(memory.sink, "info", "text").event("accept.failed", paused=paused)
    assert len(memory.lines) == written


def test_an_event_that_the_table_lacks_is_logged_as_an_error() -> None:
    """A mistake in a name ends no daemon, and is not overlooked."""
    memory = MemorySink()
    Log(memory.sink, "error", "text").event("no.such_event", why="a typing error")
    (line,) = memory.lines
    assert line.endswith(' error   no.such_event why="a typing error"')


def test_the_log_of_a_child_names_the_child() -> None:
    """Every line of a child begins with its fields, in the style of the parent, from
    the level of the parent on.
    """
    memory = MemorySink()
    log = Log(memory.sink, "warning", "json").child(role="worker", index=3)
    log.event("master.ready")
    log.event("worker.died", ended="exit code 1")
    (line,) = memory.lines
    assert list(json.loads(line).items())[1:] == [
        ("level", "warning"),
        ("event", "worker.died"),
        ("role", "worker"),
        ("index", 3),
        ("ended", "exit code 1"),
    ]


def test_a_recent_event_is_kept_whatever_the_level_of_the_log() -> None:
    """With its time, its level and its fields; not one that comes too often, one that
    the table lacks, or one of a child.
    """
    memory = MemorySink()
    log = Log(memory.sink, "error", "text", role="master")
    kept: list[tuple[object, ...]] = []
    log.on_event = lambda *event: kept.append(event)
    before = time.time()
    log.event("child.spawned", pid=7)
    log.event("child.unknown", pid=8)
    log.event("no.such_event")
    log.child(role="worker").event("child.spawned", pid=9)
    ((wall_s, *rest),) = kept
    assert isinstance(wall_s, float)
    assert before <= wall_s <= time.time()
    assert rest == ["debug", "child.spawned", {"pid": 7}]
    assert len(memory.lines) == 1


def test_a_child_does_not_finish_the_line_of_its_parent() -> None:
    """The parent finishes the line that it had written in part before the fork."""
    memory = MemorySink(at_a_time=3)
    log = Log(memory.sink, "info", "json")
    log.event("master.ready")
    child = log.child(role="worker")
    memory.at_a_time = 10**9
    child.event("worker.ready")
    assert memory.written.startswith(b'{"t{"time"')
    assert memory.sink.dropped == 0
