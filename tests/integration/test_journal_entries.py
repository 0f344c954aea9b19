"""The log under journald: an event is an entry with its fields; an entry that the
socket refuses is a line on the stream; nothing blocks.
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
from tests.support.memory_sink import MemorySink
from unpd.log_events.row import Field
from unpd.logs import Log
from unpd.sinks import Journal

SMALLEST_SNDBUF = 4608
"""The least send buffer that the kernel gives (SOCK_MIN_SNDBUF)."""


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[FakeJournald]:
    """Provide a journald."""
    found = FakeJournald(tmp_path / "socket")
    yield found
    found.stop()


@pytest.fixture
def stream() -> MemorySink:
    """The standard error that journald reads."""
    return MemorySink()


@pytest.fixture
def log(journald: FakeJournald, stream: MemorySink) -> Iterator[Log]:
    """A log in the journal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        yield Log(Journal(stream.sink, sock, str(journald.path)), "debug", "journal", role="master")


@pytest.mark.parametrize(
    ("event", "priority"),
    [
        ("child.spawned", "7"),
        ("master.ready", "6"),
        ("worker.died", "4"),
        ("reload.refused", "3"),
    ],
)
def test_the_level_is_a_priority(
    journald: FakeJournald, log: Log, event: str, priority: str
) -> None:
    """The priority of an entry is the number that syslog(3) gives the level."""
    log.event(event)
    (entry,) = journald.entries()
    assert entry["PRIORITY"] == priority


def test_an_event_is_an_entry_with_its_fields(
    journald: FakeJournald, stream: MemorySink, log: Log
) -> None:
    """The message is the line of the text format without stamp and level. Each field is
    a field of the entry too, unescaped. Nothing goes to the stream.
    """
    log.event(
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


@given(st.text(st.characters(codec=None), max_size=2000))
def test_any_text_is_one_entry(text: str) -> None:
    """The text of a field makes neither a field nor a line of its own, and the message
    stays one printable line.
    """
    memory = MemorySink()
    Log(memory.sink, "info", "journal").event("master.ready", peer=text, last=1)
    fields = parse(memory.written)
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


def test_a_long_event_is_cut(journald: FakeJournald, stream: MemorySink, log: Log) -> None:
    """An entry stays smaller than the datagram that every socket takes."""
    long = "x" * 10**5
    log.event("master.ready", one=long, two=long, three=long, four=long)
    (entry,) = journald.entries()
    assert sum(len(name) + len(value) + 2 for name, value in entry.fields) < SMALLEST_SNDBUF
    assert stream.written == b""


def test_a_full_queue_drops_and_counts(
    journald: FakeJournald, stream: MemorySink, log: Log
) -> None:
    """While journald does not read, entries are lost, each is counted, and none goes to
    the stream. The next entry comes when there is room again.
    """
    drops: list[None] = []
    log.sink.on_drop = lambda: drops.append(None)
    sent = 5000
    for number in range(sent):
        log.event("master.ready", generation=number)
        if log.sink.dropped == 3:
            sent = number + 1
            break
    assert (len(drops), log.sink.dropped) == (3, 3)
    assert len(journald.entries()) == sent - 3
    log.event("reload.succeeded")
    assert [entry["UNPD_EVENT"] for entry in journald.entries()] == ["reload.succeeded"]
    assert stream.written == b""


@pytest.mark.parametrize("remove", [True, False])
def test_the_stream_stands_in_for_a_journald_that_is_gone(
    journald: FakeJournald, stream: MemorySink, log: Log, remove: bool
) -> None:
    """Whether the file of the socket is gone or refuses, an event becomes a line with
    its priority in front and no stamp. Nothing is lost, and the next entry finds the
    socket of a journald that came back.
    """
    log.event("master.started")
    assert len(journald.entries()) == 1
    journald.stop(remove=remove)
    log.event("reload.refused", pool="default")
    log.event("child.spawned", text="a\nb")
    assert stream.lines == [
        "<3>reload.refused role=master pool=default",
        r'<7>child.spawned role=master text="a\nb"',
    ]
    journald.start()
    log.event("master.ready")
    assert [entry["UNPD_EVENT"] for entry in journald.entries()] == ["master.ready"]
    assert log.sink.dropped == 0


def test_a_stream_that_is_full_as_well_drops_and_counts(
    journald: FakeJournald, stream: MemorySink, log: Log
) -> None:
    """An event that neither socket nor stream takes is lost and counted once."""
    journald.stop()
    stream.at_a_time = 0
    log.event("master.ready")
    assert (stream.written, log.sink.dropped) == (b"", 1)


def test_an_entry_that_is_too_big_goes_to_the_stream(
    journald: FakeJournald, stream: MemorySink, log: Log
) -> None:
    """Where the sockets of the system take less than our bounds allow (EMSGSIZE), the
    message still arrives.
    """
    with socket.socket(fileno=os.dup(log.sink.fds[1])) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
    fields: dict[str, Field] = {f"field_{number}": "\U0001f600" * 100 for number in range(20)}
    log.event("master.ready", **fields)
    assert journald.entries() == []
    assert stream.written.startswith(b"<6>master.ready role=master field_0=")
    assert stream.written.endswith(b'"\n')
    assert log.sink.dropped == 0


def test_a_child_writes_to_the_same_socket(journald: FakeJournald, log: Log) -> None:
    """The entry of a child has the style of the parent and the fields of the child."""
    log.child(role="worker", index=3).event("worker.ready")
    (entry,) = journald.entries()
    assert (entry["UNPD_ROLE"], entry["UNPD_INDEX"], entry.get("UNPD_POOL")) == (
        "worker",
        "3",
        None,
    )


def test_the_descriptors_are_those_of_the_stream_and_of_the_socket(
    journald: FakeJournald, stream: MemorySink, log: Log
) -> None:
    """A child keeps both descriptors; a trace, which is written piece by piece, goes to
    the first. A program that we start inherits neither.
    """
    first, second = log.sink.fds
    assert first == log.sink.fd == stream.sink.fd
    with closing(socket.socket(fileno=os.dup(second))) as sock:
        assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_DGRAM)
    assert not os.get_inheritable(second)


def test_a_child_has_a_socket_of_its_own(journald: FakeJournald, stream: MemorySink) -> None:
    """A child changes and fills no socket of its parent's; its entries arrive all the
    same.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as parents:
        sink = Journal(stream.sink, parents.dup(), str(journald.path))
        inherited = os.fstat(parents.fileno()).st_ino
        assert [os.fstat(fd).st_ino for fd in sink.fds[1:]] == [inherited]
        sink.separate()
        (own,) = sink.fds[1:]
        assert os.fstat(own).st_ino != inherited
        Log(sink, "debug", "journal", role="worker").event("master.ready")
        assert [entry["UNPD_ROLE"] for entry in journald.entries()] == ["worker"]
    with pytest.warns(ResourceWarning):  # a child keeps its sink to the end
        del sink
