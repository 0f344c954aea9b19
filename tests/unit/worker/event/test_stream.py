"""One stream: what it reads in one piece, what it keeps for a socket without room,
which events it watches for. Pipes stand for the socket, and the session writes down
what the stream reports.
"""

import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.support.surroundings import Surroundings, surroundings
from unpd.config.times import ServiceTimes
from unpd.services.base import Piece
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.event.poller import NoTarget
from unpd.worker.event.shared import SMALL_READ_BYTES, Shared
from unpd.worker.event.stream import (
    BULK,
    BULK_BYTES,
    HIGH_WATER_BYTES,
    LOW_WATER_BYTES,
    Stream,
)
from unpd.worker.terms import Terms

NOW = 1000.0
IN, OUT, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP
PIPE_BYTES = 4096
"""How much a pipe of these tests holds."""


@dataclass(slots=True)
class FakeSession:
    """Writes down what its stream reports. ``closes``: it closes the stream as soon as
    the stream reports anything.
    """

    shared: Shared
    active_at: float = 0.0
    taken_at: float = 0.0
    serving: bool = True
    relays: bool = True
    echoes: bool = True
    closes: bool = False
    fault: Exception | None = None
    stream: Stream | None = None
    pieces: list[bytes] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    errors: list[OSError] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    def _close(self) -> None:
        if self.closes and self.stream is not None:
            self.stream.close()

    def answer(self, piece: Piece) -> bool:
        """Note the piece."""
        if self.fault is not None:
            raise self.fault
        self.pieces.append(bytes(piece))
        self._close()
        return self.echoes

    def peer_finished(self) -> None:
        """Note the peer's FIN."""
        self.calls.append("peer_finished")

    def schedule(self) -> None:
        """Note that output is pending."""
        self.calls.append("schedule")

    def output_flushed(self) -> None:
        """Note that none is pending any more."""
        self.calls.append("output_flushed")
        self._close()

    def room(self) -> None:
        """Note that the socket has room."""
        self.calls.append("room")

    def lose(self, error: OSError) -> None:
        """Note an error of the socket."""
        self.errors.append(error)

    def fail(self, error: BaseException) -> None:
        """Note a fault."""
        self.faults.append(error)


@dataclass(slots=True)
class FakeRelay:
    """A relay that finds ``pulled`` bytes, or fails, and of which the socket takes all
    but ``rest``.
    """

    pulled: int | OSError = 0
    rest: bytes = b""
    pulls: int = 0

    def pull(self, fd: int) -> int:
        """What the test says."""
        self.pulls += 1
        if isinstance(self.pulled, OSError):
            raise self.pulled
        return self.pulled

    def push(self, fd: int, count: int) -> tuple[int, bytes]:
        """What the test says."""
        return count - len(self.rest), self.rest


@dataclass(slots=True)
class Ends:
    """A stream on one end of a pipe, and the other end."""

    stream: Stream
    session: FakeSession
    around: Surroundings
    relay: FakeRelay
    other_fd: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Bytes received and sent: of the stream, then of its service."""
        stream = self.stream
        return (stream.received, stream.sent, stream.totals.received, stream.totals.sent)

    @property
    def pending(self) -> bytes | None:
        """The output that the socket has not taken."""
        return None if self.stream.out is None else bytes(self.stream.out)

    @property
    def is_plain(self) -> bool:
        """Whether the stream is marked for the hot path."""
        return self.stream in self.around.shared.poller.plain

    @property
    def watched(self) -> int:
        """The events that epoll watches for."""
        return self.around.epoll.masks[self.stream.fd]


BEFORE = (100, 200, 1000, 2000)
"""What the counts are before each test."""


def counted(received: int = 0, sent: int = 0) -> tuple[int, int, int, int]:
    """The counts after these bytes more."""
    return (100 + received, 200 + sent, 1000 + received, 2000 + sent)


def on(fd: int, other_fd: int) -> Ends:
    """An open stream on ``fd``."""
    terms = Terms(
        name="echo", service=Echo(EchoOptions()), times=ServiceTimes(0.0, 0.0, 0.0), words=0
    )
    around, relay = surroundings(terms, NOW), FakeRelay()
    around.shared.relay = cast(Any, relay)
    session = FakeSession(around.shared)
    stream = session.stream = Stream(fd, session, terms.totals)
    stream.open()
    stream.received, stream.sent, terms.totals.received, terms.totals.sent = BEFORE
    return Ends(stream, session, around, relay, other_fd)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that does not block; what the test closes of it is not closed again."""
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    inodes = [os.fstat(fd).st_ino for fd in ends]
    yield ends
    for fd, inode in zip(ends, inodes, strict=True):
        try:
            is_ours = os.fstat(fd).st_ino == inode
        except OSError:
            continue
        if is_ours:
            os.close(fd)


@pytest.fixture
def reading(pipe: tuple[int, int]) -> Ends:
    """A stream that reads what the test writes."""
    return on(pipe[0], pipe[1])


@pytest.fixture
def writing(pipe: tuple[int, int]) -> Ends:
    """A stream whose output the test reads."""
    return on(pipe[1], pipe[0])


def fill(fd: int) -> None:
    """Leave no room in the pipe."""
    assert os.write(fd, bytes(PIPE_BYTES)) == PIPE_BYTES


# input


@pytest.mark.parametrize("size", [1, SMALL_READ_BYTES - 1, SMALL_READ_BYTES, 480, 1000, 4096])
@pytest.mark.parametrize("large_reads", [0, 1, 2])
def test_a_message_is_one_piece(reading: Ends, size: int, large_reads: int) -> None:
    """All that one read could have brought is answered at once."""
    message = os.urandom(size)
    os.write(reading.other_fd, message)
    reading.stream.large_reads = large_reads
    reading.stream.ready(IN)
    assert reading.session.pieces == [message]
    assert reading.counts == counted(received=size)
    reading.stream.ready(IN)  # an event without data: nothing is there to be read
    assert (len(reading.session.pieces), reading.session.errors) == (1, [])


@pytest.mark.parametrize("size", [SMALL_READ_BYTES, 480, 1000, 4096])
def test_a_message_that_the_hot_path_began_to_read_is_one_piece(reading: Ends, size: int) -> None:
    """The stream reads the rest of it before the answer."""
    message = os.urandom(size)
    os.write(reading.other_fd, message)
    reading.stream.go_on(os.read(reading.stream.fd, SMALL_READ_BYTES), -1)
    assert reading.session.pieces == [message]
    assert reading.counts == counted(received=size)


def test_an_error_behind_a_full_small_read_ends_the_session(reading: Ends) -> None:
    """The bytes before it are counted, and not answered."""
    beginning = bytes(SMALL_READ_BYTES)
    os.close(reading.stream.fd)
    reading.stream.go_on(beginning, -1)
    assert [error.errno for error in reading.session.errors] == [errno.EBADF]
    assert reading.session.pieces == []
    assert reading.counts == counted(received=SMALL_READ_BYTES)


@pytest.mark.parametrize("large_reads", [0, 1])
def test_an_error_of_a_read_ends_the_session(reading: Ends, large_reads: int) -> None:
    """It comes to the session as it is, and is no fault."""
    reading.stream.large_reads = large_reads
    os.close(reading.stream.fd)
    reading.stream.ready(IN)
    assert [error.errno for error in reading.session.errors] == [errno.EBADF]
    assert (reading.session.pieces, reading.session.faults) == ([], [])


def test_the_end_of_input_is_reported(reading: Ends) -> None:
    """It is no piece. The hot path hands it on likewise, and a stream that has ended is
    not plain.
    """
    os.close(reading.other_fd)
    reading.around.shared.poller.plain[reading.stream.fd] = reading.stream
    reading.stream.ready(IN)
    reading.stream.go_on(b"", -1)
    assert reading.session.calls == ["peer_finished"] * 2
    assert (reading.session.pieces, reading.counts) == ([], counted())
    assert not reading.is_plain


def test_an_exception_of_the_session_ends_it(reading: Ends) -> None:
    """The engine goes on: the exception goes no further."""
    reading.session.fault = LookupError("a fault")
    os.write(reading.other_fd, b"x")
    reading.stream.ready(IN)
    assert reading.session.faults == [reading.session.fault]


@pytest.mark.parametrize(
    ("before", "count", "after"),
    [
        (0, SMALL_READ_BYTES - 1, 0),
        (0, SMALL_READ_BYTES, 2),
        (1, SMALL_READ_BYTES, 2),
        (2, SMALL_READ_BYTES - 1, 1),
        (1, 1, 0),
        (BULK, 1, 1),
        (0, BULK_BYTES - 1, 2),
        (0, BULK_BYTES, BULK),
    ],
)
def test_reads_are_large_as_long_as_they_bring_much(
    reading: Ends, before: int, count: int, after: int
) -> None:
    """After a large piece the next reads are large, until two in a row bring less."""
    reading.stream.large_reads = before
    reading.stream.take(bytes(count))
    assert reading.stream.large_reads == after


def test_a_stream_that_echoes_small_messages_is_plain(reading: Ends) -> None:
    """From the first of them on."""
    reading.stream.take(b"x")
    assert reading.is_plain
    reading.stream.expect_fin()
    assert not reading.is_plain


def test_a_stream_that_reads_large_is_not_plain(reading: Ends) -> None:
    """The hot path makes small reads."""
    reading.stream.take(b"x")
    reading.stream.take(bytes(SMALL_READ_BYTES))
    assert not reading.is_plain


def test_a_stream_with_pending_output_is_not_plain(reading: Ends) -> None:
    """The hot path writes past the pending output."""
    reading.stream.out = bytearray(b"pending")
    reading.stream.take(b"x")
    assert not reading.is_plain


def test_a_stream_that_does_not_echo_is_not_plain(reading: Ends) -> None:
    """The hot path only echoes."""
    reading.session.echoes = False
    reading.stream.take(b"x")
    assert not reading.is_plain


def test_a_stream_that_was_closed_by_its_answer_is_not_plain(reading: Ends) -> None:
    """Its descriptor may be another's soon."""
    reading.session.closes = True
    reading.stream.take(b"x")
    assert not reading.is_plain
    assert reading.stream.fd == -1


def test_small_reads_await_the_fin(reading: Ends) -> None:
    """Once only the peer's FIN is awaited, the large buffer is not touched."""
    reading.stream.large_reads = BULK
    reading.stream.expect_fin()
    assert reading.stream.large_reads == 0


# what the hot path hands over


@pytest.mark.parametrize("sent", [0, 2])
def test_what_the_hot_path_could_not_send_is_kept(writing: Ends, sent: int) -> None:
    """All bytes are received, those are sent, the rest is pending."""
    writing.stream.go_on(b"abcdef", sent)
    assert writing.pending == b"abcdef"[sent:]
    assert writing.counts == counted(received=6, sent=sent)
    assert writing.session.active_at == NOW
    assert (writing.session.calls, writing.watched) == (["schedule"], IN | OUT)
    assert writing.session.pieces == []


def test_a_write_of_the_hot_path_that_finds_no_room_keeps_its_piece(writing: Ends) -> None:
    """A read that finds nothing keeps nothing."""
    writing.stream.failed(BlockingIOError(), b"")
    assert (writing.pending, writing.counts) == (None, BEFORE)
    writing.stream.failed(BlockingIOError(), b"abc")
    assert (writing.pending, writing.counts) == (b"abc", counted(received=3))
    assert writing.session.errors == []


def test_an_error_of_the_hot_path_ends_the_session(writing: Ends) -> None:
    """The bytes that were read are counted."""
    error = ConnectionResetError(errno.ECONNRESET, "as the test says")
    writing.stream.failed(error, b"abc")
    assert writing.session.errors == [error]
    assert (writing.pending, writing.counts) == (None, counted(received=3))


# the relay


@pytest.mark.parametrize(
    ("count", "after"), [(BULK_BYTES - 1, 2), (BULK_BYTES, BULK), (BULK_BYTES + 1, BULK)]
)
def test_bulk_data_goes_back_within_the_kernel(reading: Ends, count: int, after: int) -> None:
    """It is counted both ways, and no byte of it comes into the process. The stream
    relays on as long as pieces are large.
    """
    reading.stream.large_reads, reading.relay.pulled = BULK, count
    os.write(reading.other_fd, b"left alone")
    reading.stream.ready(IN)
    assert reading.session.pieces == []
    assert reading.counts == counted(received=count, sent=count)
    assert reading.session.active_at == NOW
    assert (reading.stream.large_reads, reading.pending) == (after, None)


def test_what_the_socket_does_not_take_of_bulk_data_is_kept(reading: Ends) -> None:
    """The next piece is then read, not relayed."""
    reading.stream.large_reads = BULK
    reading.relay.pulled, reading.relay.rest = BULK_BYTES, b"rest"
    reading.stream.ready(IN)
    assert reading.pending == b"rest"
    assert reading.counts == counted(received=BULK_BYTES, sent=BULK_BYTES - 4)
    assert reading.stream.large_reads == 2


def test_data_that_cannot_be_relayed_is_read(reading: Ends) -> None:
    """Splice finds nothing at an urgent byte, or is refused."""
    reading.stream.large_reads = BULK
    os.write(reading.other_fd, b"hello")
    reading.stream.ready(IN)
    assert (reading.session.pieces, reading.relay.pulls) == ([b"hello"], 1)
    assert reading.counts == counted(received=5)


@pytest.mark.parametrize("reason", ["service", "output", "no bulk"])
def test_data_that_may_not_be_relayed_is_read(reading: Ends, reason: str) -> None:
    """Only an echo relays, only behind no output, and only bulk data."""
    reading.stream.large_reads = 2 if reason == "no bulk" else BULK
    reading.session.relays = reason != "service"
    reading.stream.out = bytearray(b"pending") if reason == "output" else None
    reading.relay.pulled = BULK_BYTES
    os.write(reading.other_fd, b"hello")
    reading.stream.ready(IN)
    assert (reading.session.pieces, reading.relay.pulls) == ([b"hello"], 0)
    assert reading.stream.large_reads == 1


def test_an_error_of_the_relay_ends_the_session(reading: Ends) -> None:
    """It is one of the socket."""
    reading.stream.large_reads = BULK
    reading.relay.pulled = error = OSError(errno.ETIMEDOUT, "as the test says")
    reading.stream.ready(IN)
    assert reading.session.errors == [error]


# events


@pytest.mark.parametrize("mask", [IN | HUP, IN | OUT, HUP])
def test_an_event_beside_input_is_read(reading: Ends, mask: int) -> None:
    """After the peer's reset, say, the read brings the error."""
    os.write(reading.other_fd, b"x")
    reading.stream.ready(mask)
    assert reading.session.pieces == [b"x"]


def test_room_for_output_is_no_input(reading: Ends) -> None:
    """An event for output alone asks for no read."""
    os.write(reading.other_fd, b"x")
    reading.stream.ready(OUT)
    assert reading.session.pieces == []


def test_output_waits_for_room(reading: Ends) -> None:
    """Pending output is not written before epoll says that there is room. (A write into
    this end of a pipe would fail.)
    """
    reading.stream.out = bytearray(b"pending")
    os.write(reading.other_fd, b"x")
    reading.stream.ready(IN | HUP)
    assert (reading.session.pieces, reading.session.errors) == ([b"x"], [])


def test_a_stream_that_was_closed_after_its_last_output_is_not_read(writing: Ends) -> None:
    """Its session ends with the flush."""
    writing.session.closes = True
    writing.stream.out = bytearray(b"last")
    writing.stream.ready(IN | OUT)
    assert os.read(writing.other_fd, 10) == b"last"
    assert (writing.session.errors, writing.session.faults) == ([], [])


@pytest.mark.parametrize("mask", [OUT | HUP, OUT | IN])
def test_a_stream_that_is_above_its_mark_is_not_read(reading: Ends, mask: int) -> None:
    """It watches for room only, whatever else an event shows."""
    os.write(reading.other_fd, b"x")
    reading.stream.watch(OUT)
    reading.stream.ready(mask)
    assert (reading.session.pieces, reading.session.errors) == ([], [])


def test_an_error_while_only_room_is_awaited_ends_the_session() -> None:
    """No read and no write would tell it: the socket is asked, once, and no other."""
    with socket.socket(socket.AF_UNIX) as sock:  # has no error, which stands for a reset
        ends = on(sock.fileno(), -1)
        ends.stream.watch(OUT)
        before = os.listdir("/proc/self/fd")
        ends.stream.ready(HUP)
        assert os.listdir("/proc/self/fd") == before
    assert [error.errno for error in ends.session.errors] == [errno.ECONNRESET]
    assert ends.session.faults == []


# output


def test_output_goes_out_at_once(writing: Ends) -> None:
    """As far as the socket takes it; the rest is pending."""
    writing.stream.send(b"hello")
    assert os.read(writing.other_fd, 10) == b"hello"
    assert (writing.pending, writing.counts) == (None, counted(sent=5))
    writing.stream.send(bytes(PIPE_BYTES) + b"rest")
    assert (writing.pending, writing.counts) == (b"rest", counted(sent=5 + PIPE_BYTES))
    assert (writing.session.calls, writing.watched) == (["schedule"], IN | OUT)


def test_output_goes_behind_what_is_pending(writing: Ends) -> None:
    """Also where the socket has room meanwhile. Its deadline is known already."""
    fill(writing.stream.fd)
    writing.stream.send(b"first ")
    os.read(writing.other_fd, PIPE_BYTES)
    writing.stream.send(b"second")
    assert (writing.pending, writing.counts) == (b"first second", counted())
    assert writing.session.calls == ["schedule"]


def test_an_error_of_a_write_ends_the_session(writing: Ends) -> None:
    """Nothing is sent, and nothing pends."""
    os.close(writing.other_fd)
    writing.stream.send(b"hello")
    assert [error.errno for error in writing.session.errors] == [errno.EPIPE]
    assert (writing.pending, writing.counts) == (None, counted())


def test_the_first_output_may_be_sent_in_another_way(writing: Ends) -> None:
    """A greeting before the FIN is; what pends is written as ever."""
    writing.stream.send(b"hello", lambda fd, data: os.write(fd, data[:2]))
    assert os.read(writing.other_fd, 10) == b"he"
    assert (writing.pending, writing.counts) == (b"llo", counted(sent=2))


@pytest.mark.parametrize(
    ("pending", "mask"), [(HIGH_WATER_BYTES - 1, IN | OUT), (HIGH_WATER_BYTES, OUT)]
)
def test_input_stops_at_the_high_mark(writing: Ends, pending: int, mask: int) -> None:
    """A client that does not read is not read either."""
    fill(writing.stream.fd)
    writing.stream.send(bytes(pending))
    assert writing.watched == mask


@pytest.mark.parametrize(
    ("left", "serving", "mask"),
    [
        (LOW_WATER_BYTES + 1, True, OUT),
        (LOW_WATER_BYTES, True, IN | OUT),
        (LOW_WATER_BYTES, False, OUT),
    ],
)
def test_input_begins_again_at_the_low_mark(
    writing: Ends, left: int, serving: bool, mask: int
) -> None:
    """If input is wanted at all."""
    writing.session.serving = serving
    writing.stream.out = bytearray(left + PIPE_BYTES)
    writing.stream.watch(OUT)
    writing.stream.ready(OUT)
    assert (writing.pending, writing.watched) == (bytes(left), mask)
    assert writing.counts == counted(sent=PIPE_BYTES)
    assert (writing.session.active_at, writing.session.calls) == (NOW, [])
    assert writing.session.taken_at == NOW


def test_output_waits_from_the_watch_for_room_on(writing: Ends) -> None:
    """Also if nothing is pending yet; another watch for room does not begin anew."""
    writing.stream.watch(IN | OUT)
    assert writing.session.taken_at == NOW
    writing.session.taken_at = 0.0
    writing.stream.watch(OUT)
    assert writing.session.taken_at == 0.0


def test_the_last_pending_byte_is_reported(writing: Ends) -> None:
    """The session decides what comes then."""
    writing.stream.out = bytearray(b"hello")
    writing.stream.flush()
    assert os.read(writing.other_fd, 10) == b"hello"
    assert (writing.pending, writing.session.calls) == (None, ["output_flushed"])
    assert writing.counts == counted(sent=5)


def test_a_flush_without_output_or_room_changes_nothing(writing: Ends) -> None:
    """Not even the time of the last activity."""
    writing.stream.flush()
    fill(writing.stream.fd)
    writing.stream.out = bytearray(b"hello")
    writing.stream.flush()
    assert (writing.pending, writing.session.active_at) == (b"hello", 0.0)
    assert (writing.counts, writing.session.calls, writing.session.errors) == (BEFORE, [], [])


def test_an_error_of_a_flush_ends_the_session(writing: Ends) -> None:
    """It comes to the session as it is."""
    os.close(writing.other_fd)
    writing.stream.out = bytearray(b"hello")
    writing.stream.flush()
    assert [error.errno for error in writing.session.errors] == [errno.EPIPE]
    assert (writing.counts, writing.session.calls) == (BEFORE, [])


def test_an_error_of_the_fin_ends_the_session(writing: Ends) -> None:
    """A pipe cannot be shut down, as a socket that was reset cannot."""
    writing.stream.send_fin()
    assert [error.errno for error in writing.session.errors] == [errno.ENOTSOCK]


def test_unsent_output_can_be_dropped_at_the_close() -> None:
    """Else the kernel would go on sending it for minutes."""
    with socket.socket() as sock:
        on(sock.fileno(), -1).stream.reset_on_close()
        linger = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    assert linger == struct.pack("ii", 1, 0)


# the descriptor


def test_a_mask_is_changed_once(writing: Ends) -> None:
    """A system call for a mask that stands would be one for nothing."""
    for mask in (IN, IN | OUT, IN | OUT, IN, IN):
        writing.stream.watch(mask)
        assert (writing.watched, writing.stream.mask) == (mask, mask)
    assert writing.around.epoll.modified == 2


def test_an_open_stream_is_watched_for_input(pipe: tuple[int, int]) -> None:
    """It stands behind its descriptor before the first event can come. Its first read
    is small.
    """
    ends = on(*pipe)
    assert ends.stream.large_reads == 0
    assert ends.around.epoll.masks == {pipe[0]: IN}
    assert ends.around.shared.poller.targets[pipe[0]] is ends.stream


def test_a_refused_watch_is_raised(pipe: tuple[int, int]) -> None:
    """The session ends before it has begun."""
    ends = on(*pipe)
    ends.around.epoll.full = OSError(errno.ENOSPC, "as the test says")
    with pytest.raises(OSError, match="as the test says"):
        ends.stream.open()


def test_a_closed_stream_leaves_nothing_behind_its_descriptor(reading: Ends) -> None:
    """No target, no mark, no descriptor."""
    fd = reading.stream.fd
    reading.stream.take(b"x")
    reading.stream.close()
    poller = reading.around.shared.poller
    assert isinstance(poller.targets[fd], NoTarget)
    assert (poller.plain[fd], reading.stream.fd) == (None, -1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_room_is_reported_while_no_output_is_pending(writing: Ends) -> None:
    """Output that is pending goes first."""
    writing.stream.send(bytes(PIPE_BYTES + 1))
    os.read(writing.other_fd, PIPE_BYTES)
    writing.stream.ready(OUT)
    assert "room" not in writing.session.calls
    writing.stream.ready(OUT)
    assert writing.session.calls[-1] == "room"
