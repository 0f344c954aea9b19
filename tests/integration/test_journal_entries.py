"""The log's journal sink, in one process: an event becomes an entry with its fields.
What the socket does not take becomes a line on the stream. Nothing blocks.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_journald import FakeJournald, parse
from unpd.logs import Field, Journal, Level, Log, Sink

SMALLEST_SNDBUF = 4608
"""The smallest send buffer that the kernel gives (SOCK_MIN_SNDBUF)."""


class Stream:
    """The standard error that journald reads, in memory. It takes nothing while it is
    ``full``.
    """

    def __init__(self) -> None:
        self.written = b""
        self.full = False
        self.sink = Sink(-1, self._write)

    def _write(self, line: bytes) -> int:
        if self.full:
            raise BlockingIOError
        self.written += line
        return len(line)


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[FakeJournald]:
    """Provide a journald."""
    found = FakeJournald(tmp_path / "socket")
    yield found
    found.stop()


@pytest.fixture
def stream() -> Stream:
    """Provide the fallback stream."""
    return Stream()


@pytest.fixture
def log(journald: FakeJournald, stream: Stream) -> Iterator[Log]:
    """Provide a log that writes to the journal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        yield Log(Journal(stream.sink, sock, str(journald.path)), "debug", "journal", role="master")


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")]
)
def test_the_level_is_a_priority(
    journald: FakeJournald, log: Log, level: Level, priority: str
) -> None:
    """Each level has its priority from syslog(3)."""
    log.event(level, "some.event")
    (entry,) = journald.entries()
    assert entry["PRIORITY"] == priority


def test_an_event_is_an_entry_with_its_fields(
    journald: FakeJournald, stream: Stream, log: Log
) -> None:
    """The message is the line of the text format without timestamp and level. Each
    field is also a field of the entry, unescaped. Nothing goes to the stream.
    """
    log.warning(
        "worker.died",
        pool="default",
        index=0,
        respawn_in_s=0.1,
        final=False,
        reason="a b",
        trace="one\ntwo",
    )
    (entry,) = journald.entries()
    assert entry.fields == (
        ("PRIORITY", "4"),
        (
            "MESSAGE",
            (
                r"worker.died role=master pool=default index=0 respawn_in_s=0.1 final=false"
                r' reason="a b" trace="one\ntwo"'
            ),
        ),
        ("SYSLOG_IDENTIFIER", "unpd"),
        ("UNPD_EVENT", "worker.died"),
        ("UNPD_ROLE", "master"),
        ("UNPD_POOL", "default"),
        ("UNPD_INDEX", "0"),
        ("UNPD_RESPAWN_IN_S", "0.1"),
        ("UNPD_FINAL", "false"),
        ("UNPD_REASON", "a b"),
        ("UNPD_TRACE", "one\ntwo"),
    )
    assert stream.written == b""


class Paper:
    """Keeps the last line in memory."""

    def __init__(self) -> None:
        self.written = b""
        self.sink = Sink(-1, self._write)

    def _write(self, line: bytes) -> int:
        self.written = line
        return len(line)


@given(st.text(st.characters(codec=None), max_size=2000))
def test_any_text_is_one_entry(text: str) -> None:
    """A field's text creates neither a field nor a line of its own. The message stays
    one printable line.
    """
    paper = Paper()
    Log(paper.sink, "info", "journal").info("some.event", peer=text, last=1)
    fields = parse(paper.written)
    assert [name for name, _ in fields] == [
        "PRIORITY",
        "MESSAGE",
        "SYSLOG_IDENTIFIER",
        "UNPD_EVENT",
        "UNPD_PEER",
        "UNPD_LAST",
    ]
    assert dict(fields)["MESSAGE"].isprintable()
    assert (
        text.encode("utf-8", "backslashreplace").decode().startswith(dict(fields)["UNPD_PEER"][:60])
    )


def test_a_long_event_is_cut(journald: FakeJournald, stream: Stream, log: Log) -> None:
    """An entry is shorter than what any socket takes as one datagram."""
    long = "x" * 10**5
    log.info("some.event", one=long, two=long, three=long, four=long)
    (entry,) = journald.entries()
    assert sum(len(name) + len(value) + 2 for name, value in entry.fields) < SMALLEST_SNDBUF
    assert stream.written == b""


def test_a_full_queue_drops_and_counts(journald: FakeJournald, stream: Stream, log: Log) -> None:
    """While journald does not read, entries are lost, each is counted, and none goes to
    the stream. When there is room again the next entry arrives.
    """
    drops: list[None] = []
    log.sink.on_drop = lambda: drops.append(None)
    sent = 5000
    for number in range(sent):
        log.info("some.event", number=number)
        if log.sink.dropped == 3:
            sent = number + 1
            break
    assert (len(drops), log.sink.dropped) == (3, 3)
    assert len(journald.entries()) == sent - 3
    log.info("heard")
    assert [entry["UNPD_EVENT"] for entry in journald.entries()] == ["heard"]
    assert stream.written == b""


@pytest.mark.parametrize("remove", [True, False])
def test_a_missing_journald_is_replaced_by_the_stream_until_it_returns(
    journald: FakeJournald, stream: Stream, log: Log, remove: bool
) -> None:
    """Without journald, whether the socket's file is gone or refuses, events are lines
    with a priority and no timestamp on the stream. Nothing is lost, and a new socket is
    found without help.
    """
    log.info("first")
    assert len(journald.entries()) == 1
    journald.stop(remove=remove)
    log.error("second", pool="default")
    log.debug("third", text="a\nb")
    assert (
        stream.written == b'<3>second role=master pool=default\n<7>third role=master text="a\\nb"\n'
    )
    journald.start()
    log.info("fourth")
    assert [entry["UNPD_EVENT"] for entry in journald.entries()] == ["fourth"]
    assert log.sink.dropped == 0


def test_a_stream_that_is_full_as_well_drops_and_counts(
    journald: FakeJournald, stream: Stream, log: Log
) -> None:
    """An event that neither socket nor stream takes is lost and counted once."""
    journald.stop()
    stream.full = True
    log.info("lost")
    assert (stream.written, log.sink.dropped) == (b"", 1)


def test_an_entry_that_is_too_big_goes_to_the_stream(
    journald: FakeJournald, stream: Stream, log: Log
) -> None:
    """An entry that is too big for the system's sockets (EMSGSIZE) arrives on the
    stream.
    """
    with socket.socket(fileno=os.dup(log.sink.fds[1])) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
    fields: dict[str, Field] = {f"field_{number}": "\U0001f600" * 100 for number in range(20)}
    log.info("some.event", **fields)
    assert journald.entries() == []
    assert stream.written.startswith(b"<6>some.event role=master field_0=")
    assert stream.written.endswith(b'"\n')
    assert log.sink.dropped == 0


def test_a_child_uses_the_same_socket(journald: FakeJournald, log: Log) -> None:
    """A child's log uses the same socket and format, with the child's own fields."""
    log.child(role="worker", index=3).info("worker.ready")
    (entry,) = journald.entries()
    assert (entry["UNPD_ROLE"], entry["UNPD_INDEX"], entry.get("UNPD_POOL")) == (
        "worker",
        "3",
        None,
    )


def test_the_descriptors_are_the_streams_and_the_sockets(
    journald: FakeJournald, stream: Stream, log: Log
) -> None:
    """The sink's descriptors are the stream's, which receives traces, and the socket's.
    Started programs inherit neither.
    """
    first, second = log.sink.fds
    assert first == log.sink.fd == stream.sink.fd
    with closing(socket.socket(fileno=os.dup(second))) as sock:
        assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_DGRAM)
    assert not os.get_inheritable(second)
