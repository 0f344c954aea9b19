"""The log under journald: an event is an entry with its fields; what the socket does
not take is a line on the stream; nothing blocks.
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
"""What the kernel gives at least (SOCK_MIN_SNDBUF), whatever is asked for."""


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
    """A journald to write to."""
    found = FakeJournald(tmp_path / "socket")
    yield found
    found.stop()


@pytest.fixture
def stream() -> Stream:
    """A stream to fall back on."""
    return Stream()


@pytest.fixture
def log(journald: FakeJournald, stream: Stream) -> Iterator[Log]:
    """A log in the journal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        yield Log(Journal(stream.sink, sock, str(journald.path)), "debug", "journal", role="master")


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")]
)
def test_the_level_is_a_priority(
    journald: FakeJournald, log: Log, level: Level, priority: str
) -> None:
    """As syslog(3) counts."""
    log.event(level, "some.event")
    (entry,) = journald.entries()
    assert entry["PRIORITY"] == priority


def test_an_event_is_an_entry_with_its_fields(
    journald: FakeJournald, stream: Stream, log: Log
) -> None:
    """The message is the line of the text format without stamp and level; each field
    stands by itself too, unescaped; nothing goes to the stream.
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
    """Keeps what is put."""

    def __init__(self) -> None:
        self.written = b""
        self.sink = Sink(-1, self._write)

    def _write(self, line: bytes) -> int:
        self.written = line
        return len(line)


@given(st.text(st.characters(codec=None), max_size=2000))
def test_any_text_is_one_entry(text: str) -> None:
    """A field's text makes neither a field nor a line of its own; the message stays one
    printable line.
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
    """An entry stays below what any socket takes as one datagram."""
    long = "x" * 10**5
    log.info("some.event", one=long, two=long, three=long, four=long)
    (entry,) = journald.entries()
    assert sum(len(name) + len(value) + 2 for name, value in entry.fields) < SMALLEST_SNDBUF
    assert stream.written == b""


def test_a_full_queue_drops_and_counts(journald: FakeJournald, stream: Stream, log: Log) -> None:
    """Nobody reads: entries are lost, each is counted, none goes to the stream; and
    when there is room again the next one comes.
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
def test_a_journald_that_is_gone_is_replaced_by_the_stream_until_it_comes_back(
    journald: FakeJournald, stream: Stream, log: Log, remove: bool
) -> None:
    """Whether its socket's file is gone too or refuses: the line has its priority in
    front and no stamp, nothing is lost, and a new socket is found by itself.
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
    """Neither socket nor stream takes the event: it is lost and counted, once."""
    journald.stop()
    stream.full = True
    log.info("lost")
    assert (stream.written, log.sink.dropped) == (b"", 1)


def test_an_entry_that_is_too_big_goes_to_the_stream(
    journald: FakeJournald, stream: Stream, log: Log
) -> None:
    """Where the system's sockets take less than our bounds allow (EMSGSIZE) the message
    still arrives.
    """
    with socket.socket(fileno=os.dup(log.sink.fds[1])) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
    fields: dict[str, Field] = {f"field_{number}": "\U0001f600" * 100 for number in range(20)}
    log.info("some.event", **fields)
    assert journald.entries() == []
    assert stream.written.startswith(b"<6>some.event role=master field_0=")
    assert stream.written.endswith(b'"\n')
    assert log.sink.dropped == 0


def test_a_child_is_heard_through_the_same_socket(journald: FakeJournald, log: Log) -> None:
    """In the same style, with its own fields."""
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
    """A child keeps both; a trace, which is written piece by piece, goes to the first;
    a program that is started inherits none of ours.
    """
    first, second = log.sink.fds
    assert first == log.sink.fd == stream.sink.fd
    with closing(socket.socket(fileno=os.dup(second))) as sock:
        assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_DGRAM)
    assert not os.get_inheritable(second)
