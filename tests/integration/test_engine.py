"""The engine, turned by hand over real sockets: the life of a session, its bounds, and
what the scoreboard and the log say about its end. Every test runs with the hot path and
without it.
"""

import contextlib
import errno
import fcntl
import gc
import json
import os
import select
import socket
import sys
from itertools import pairwise
from typing import Any

import pytest

from tests.support import clients, procs
from tests.support.engine import MIB, AcceptOne, Bench, Benches, Saying, pattern
from unpd.access.terms import AccessTerms
from unpd.board import layout
from unpd.board.loop_lag import HEARTBEAT_S
from unpd.config.times import ServiceTimes
from unpd.log_events.row import Level
from unpd.logs import TRACE_CHARACTERS
from unpd.names import EndCause
from unpd.services.base import HandOver, Piece, nothing, same
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.accepting import LONGEST_PAUSE_S, Accepted
from unpd.worker.event.engine import LONGEST_TURN_S, MAX_EVENTS
from unpd.worker.event.intake import PATROL_S
from unpd.worker.event.session import Session
from unpd.worker.event.shared import LARGE_READ_BYTES, SMALL_READ_BYTES
from unpd.worker.event.stage import Stage
from unpd.worker.event.stream import BULK_BYTES, HIGH_WATER_BYTES, LOW_WATER_BYTES, Stream
from unpd.worker.ledger import Account

SIOCOUTQNSD = 0x894B
"""From linux/sockios.h: how many bytes of the send queue were not sent yet."""
DATA_SEGMENTS_RECEIVED_AT = 152
"""The offset of tcpi_data_segs_in in struct tcp_info (linux/tcp.h)."""


def pipes() -> set[str]:
    """The pipes that this process has."""
    return {name for name in procs.fds(os.getpid()).values() if name.startswith("pipe:")}


def data_segments(sock: socket.socket) -> int:
    """How many segments with data a TCP client has received."""
    known = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, DATA_SEGMENTS_RECEIVED_AT + 4)
    return int.from_bytes(known[DATA_SEGMENTS_RECEIVED_AT:], sys.byteorder)


def first_of(b: Bench, sock: socket.socket) -> bytes:
    """What a client gets that reads once, as soon as there is something to read."""
    sock.setblocking(False)
    got = b""

    def read_once() -> bool:
        nonlocal got
        with contextlib.suppress(BlockingIOError):
            got = sock.recv(2 * MIB)
        return bool(got)

    b.until(read_once, "an answer")
    sock.setblocking(True)
    return got


# a session's life


def test_every_end_is_on_the_scoreboard_and_in_the_log(bench: Benches) -> None:
    """Accepted, bytes each way, duration and cause are counted in the service's own
    column; the log has one line with the same.
    """
    b = bench(Echo(EchoOptions()), Saying(b"bye\n"))
    first, second = b.connect(0), b.connect(1)
    first.sendall(b"hello")
    assert b.read(first, 5) == b"hello"
    assert b.read(second, 100) == b"bye\n"
    b.clock.advance(0.25)
    first.close()
    second.close()
    b.until(lambda: not b.engine.open)
    accepted = layout.Service.ACCEPTED
    assert (b.count(accepted, 0), *b.bytes_counted(0)) == (1, 5, 5)
    assert (b.count(accepted, 1), *b.bytes_counted(1)) == (1, 0, 4)
    assert b.ended(0) == {EndCause.CLIENT_FIN: 1}
    assert b.ended(1) == {EndCause.DONE: 1}
    bucket = next(i for i, bound in enumerate(layout.DURATION_BOUNDS_S) if bound >= 0.25)
    assert b.count(layout.Service.DURATION_BUCKETS + bucket) == 1
    assert b.count(layout.Service.DURATION_SUM_NS) == 250_000_000
    told = {
        row["service"]: (row["cause"], row["received"], row["sent"], row["peer"])
        for row in b.events("connection.ended")
    }
    user = f"uid:{os.geteuid()}"
    assert told == {"service-0": ("client_fin", 5, 5, user), "service-1": ("done", 0, 4, user)}


def test_the_row_says_how_many_connections_are_open(bench: Benches) -> None:
    """Of all services together, as of the last turn."""
    b = bench(Echo(EchoOptions()), Echo(EchoOptions()))
    socks = [b.connect(0), b.connect(0), b.connect(1)]
    b.until(lambda: b.engine.open == 3)
    assert b.row[layout.Row.OPEN] == 3
    socks.pop().close()
    b.until(lambda: b.engine.open == 2)
    assert b.row[layout.Row.OPEN] == 2
    b.engine.leave()
    assert b.row[layout.Row.OPEN] == 0


def test_a_turn_writes_the_heartbeat(bench: Benches) -> None:
    """The stamp is of the engine's clock, and no more often than every HEARTBEAT_S."""
    b = bench()
    stamps = []
    for _ in range(50):
        b.advance(HEARTBEAT_S / 4)
        stamps.append(b.row[layout.Row.BEAT_NS] / layout.NS)
    assert stamps[-1] == pytest.approx(b.clock.now, abs=HEARTBEAT_S)
    steps = [later - earlier for earlier, later in pairwise(stamps) if later != earlier]
    assert len(steps) > 5
    assert all(step >= HEARTBEAT_S - 1e-9 for step in steps)


def test_the_row_says_how_busy_the_loop_is(bench: Benches) -> None:
    """The time in which it does not wait, and its longest turn, with the next
    heartbeat.
    """

    def reply(piece: Piece) -> Piece:
        b.clock.advance(0.3)
        return piece

    b = bench(Saying(reply=reply))
    b.turn()
    sock = b.connect()
    b.session()
    sock.sendall(b"hello")
    b.until(lambda: b.clock.now > 1000.2, "the reply")
    b.turn()  # the turn is over when the next one waits
    assert b.row[layout.Row.BUSY_NS] == pytest.approx(0.3 * layout.NS)
    assert b.row[layout.Row.LAG_BUCKETS + layout.LAG_BOUNDS_S.index(0.5)] == 1
    assert b.row[layout.Row.LAG_SUM_NS] == pytest.approx(0.3 * layout.NS)


def test_the_row_says_since_when_the_oldest_connection_is_open(bench: Benches) -> None:
    """Looked for about once a second."""
    b = bench()
    oldest = layout.service_cells(0) + layout.Service.OLDEST_NS
    b.turn()
    first = b.connect()
    b.session()
    b.advance(PATROL_S)
    assert b.row[oldest] == 1000 * layout.NS
    b.connect()
    b.until(lambda: len(b.sessions()) == 2)
    first.close()
    b.until(lambda: len(b.sessions()) == 1)
    b.advance(PATROL_S)
    assert b.row[oldest] == 1001 * layout.NS


def test_a_turn_without_anything_to_do_ends_in_time_for_the_heartbeat(bench: Benches) -> None:
    """An engine without a client, a signal or a deadline waits no longer than that."""
    b = bench()
    began = os.times().elapsed
    b.engine.turn()
    assert LONGEST_TURN_S <= 1.0
    assert LONGEST_TURN_S - 0.1 <= os.times().elapsed - began < 10 * LONGEST_TURN_S


@pytest.mark.parametrize("reason", ["deadline", "pause"])
def test_a_turn_waits_no_longer_than_to_what_is_due(bench: Benches, reason: str) -> None:
    """The deadline of a session, or the end of a listener's pause, ends its wait."""

    def accepting(accept_one: AcceptOne) -> AcceptOne:
        def or_fail() -> Accepted:
            if reason == "pause":
                raise OSError(errno.EMFILE, "as the test says")
            return accept_one()

        return or_fail

    b = bench(accepting=accepting, times=ServiceTimes(0.05, 0.0, 0.0))
    b.connect()
    b.until(lambda: b.engine.open or b.listeners[0].resume_at)
    began = os.times().elapsed
    b.engine.turn(longest_s=20.0)
    assert os.times().elapsed - began < 10.0


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_a_greeting_of_any_length_goes_out_before_the_end(bench: Benches, tcp: bool) -> None:
    """A greeting that no socket takes at once is sent to its last byte, then the FIN;
    junk from the client changes nothing.
    """
    greeting = pattern(0, 9 * MIB)
    b = bench(Saying(greeting), tcp=tcp)
    sock = b.connect()
    sock.sendall(b"junk")
    assert b.read(sock, len(greeting) + 1) == greeting
    sock.close()
    b.until(lambda: not b.engine.open)
    assert b.ended() == {EndCause.DONE: 1}
    assert b.bytes_counted()[1] == len(greeting)


def test_only_a_greeting_before_the_fin_is_held_back(bench: Benches) -> None:
    """A service that greets and then talks has its greeting sent at once: held back for
    a FIN that does not come it would wait 200 ms.
    """
    b = bench(Saying(b"hello\r\n", reply=same), tcp=True)
    sock = b.connect()
    session = b.session()
    unsent = fcntl.ioctl(session.number, SIOCOUTQNSD, bytes(4))
    assert int.from_bytes(unsent, sys.byteorder) == 0
    assert b.read(sock, 7) == b"hello\r\n"


SIZES = (SMALL_READ_BYTES - 1, SMALL_READ_BYTES, SMALL_READ_BYTES + 1, 1000, 4096, 16384)
"""Sizes of messages that a sender's kernel passes on as one segment."""


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_a_message_of_any_size_is_answered_in_one_piece(bench: Benches, tcp: bool) -> None:
    """Whatever came before it, small messages or large ones: the service gets all that
    one read could have brought, also where a small read brings only its beginning.
    """
    pieces: list[int] = []

    def reply(piece: Piece) -> Piece:
        pieces.append(len(piece))
        return piece

    b = bench(Saying(reply=reply), tcp=tcp)
    sock = b.connect()
    sizes = [size for large in SIZES for size in (large, large, 1, large, 1, 1, large, 1, 1, 1)]
    for size in sizes:
        message = pattern(size, size)
        sock.sendall(message)
        assert b.read(sock, size) == message
    assert pieces == sizes
    assert b.bytes_counted() == (sum(sizes), sum(sizes))


@pytest.mark.parametrize("before", [(), (1, 1), (1, 1, 1), (4096, 1), (BULK_BYTES,)])
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_an_echo_of_any_size_comes_back_to_one_recv(
    bench: Benches, tcp: bool, before: tuple[int, ...]
) -> None:
    """A client that reads once gets the whole message, whatever the engine echoed
    ``before`` it. Over TCP it is one segment.
    """
    for size in SIZES:
        b = bench(tcp=tcp)
        sock = b.connect()
        for earlier in before:
            sock.sendall(pattern(0, earlier))
            assert b.read(sock, earlier) == pattern(0, earlier)
        segments = data_segments(sock) if tcp else 0
        sock.sendall(pattern(1, size))
        assert first_of(b, sock) == pattern(1, size)
        assert not tcp or data_segments(sock) == segments + 1
        assert sum(before) + size == b.session().stream.sent


def test_an_echo_that_is_relayed_comes_back_to_one_recv(bench: Benches) -> None:
    """Also a message behind bulk data, which never comes into the process, is one
    segment.
    """
    b = bench(tcp=True)
    sock = b.connect()
    for size in SIZES:
        b.bulk(sock)
        segments = data_segments(sock)
        sock.sendall(pattern(1, size))
        assert first_of(b, sock) == pattern(1, size)
        assert data_segments(sock) == segments + 1


@pytest.mark.parametrize("writable", [True, False])
def test_a_large_message_while_output_is_pending_stays_whole(
    bench: Benches, writable: bool
) -> None:
    """It goes behind the pending output if the socket has no room, and goes out in one
    write if the pending output has just left.
    """
    b = bench()
    sock = b.connect()
    for _ in range(2):
        sock.sendall(b"x")
        assert b.read(sock, 1) == b"x"
    stream = b.session().stream
    stream.refused(b"pending ", 0)  # as a write that took nothing leaves it
    sock.sendall(pattern(0, 1000))
    stream.ready(select.EPOLLIN | select.EPOLLOUT if writable else select.EPOLLIN)
    assert stream.out == (None if writable else b"pending " + pattern(0, 1000))
    assert first_of(b, sock) == b"pending " + pattern(0, 1000)


@pytest.mark.parametrize("size", [10, SMALL_READ_BYTES, SMALL_READ_BYTES + 1])
def test_the_end_behind_a_message_is_no_part_of_it(bench: Benches, size: int) -> None:
    """A client that sends something and its FIN gets its answer and our FIN, also where
    the message fills a small read.
    """
    b = bench()
    sock = b.connect()
    for _ in range(2):
        sock.sendall(b"x")
        assert b.read(sock, 1) == b"x"
    sock.sendall(pattern(0, size))
    sock.shutdown(socket.SHUT_WR)
    assert b.read(sock, size + 1) == pattern(0, size)
    assert b.ended() == {EndCause.CLIENT_FIN: 1}
    assert b.bytes_counted() == (size + 2, size + 2)


def test_output_is_bounded_and_reading_goes_on_where_it_stopped(bench: Benches) -> None:
    """A client that does not read is read no further above the high-water mark; below
    the low-water mark it is read again, and nothing is lost.
    """
    b = bench()
    sock = b.connect()
    sent = b.stuff(sock)
    pending = b.session().stream.out
    assert pending is not None
    assert HIGH_WATER_BYTES <= len(pending) < HIGH_WATER_BYTES + LARGE_READ_BYTES
    assert LOW_WATER_BYTES < HIGH_WATER_BYTES
    assert sent < 4 * MIB
    sock.shutdown(socket.SHUT_WR)
    assert b.read(sock, sent + 1) == pattern(0, sent)
    assert b.ended() == {EndCause.CLIENT_FIN: 1}
    assert b.bytes_counted() == (sent, sent)


def test_a_small_message_that_finds_no_room_waits(bench: Benches) -> None:
    """Small messages of a client that does not read fill the socket; what it does not
    take is kept, and comes in order.
    """
    b = bench()
    sock = b.connect()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    stream = b.session().stream
    sent = 0
    while not stream.out:
        with contextlib.suppress(BlockingIOError):
            sent += sock.send(pattern(sent, 100), socket.MSG_DONTWAIT)
        b.turn()
    assert b.read(sock, sent) == pattern(0, sent)
    assert b.session().stream.out is None
    assert b.bytes_counted() == (sent, sent)


def test_input_that_comes_while_output_is_pending_goes_behind_it(bench: Benches) -> None:
    """Also where the socket would take it: epoll says that a socket is writable only
    when a part of its buffer is free.
    """
    b = bench()
    sock = b.connect()
    stream = b.session().stream
    sock.sendall(b"x")
    assert b.read(sock, 1) == b"x"
    stream.refused(b"first ", 0)  # as a write that took nothing leaves it
    sock.sendall(b"second ")
    stream.ready(select.EPOLLIN)  # readable, and not said to be writable
    sock.sendall(b"third")
    assert b.read(sock, 18) == b"first second third"


def test_an_echo_that_comes_while_the_greeting_is_pending_goes_behind_it(bench: Benches) -> None:
    """Also where the client has just read so much that the socket would take it."""
    greeting = pattern(0, 4 * MIB)
    b = bench(Saying(greeting, reply=same))
    sock = b.connect()
    b.session()
    got = b""
    for _ in range(3):
        sock.sendall(b"echo")
        got += sock.recv(65536)
        b.turn()
    expected = greeting + b"echo" * 3
    assert got + b.read(sock, len(expected) - len(got)) == expected


@pytest.mark.parametrize("size", [10, SMALL_READ_BYTES, SMALL_READ_BYTES + 1])
@pytest.mark.parametrize("way", ["closed", "reset"])
def test_bytes_are_counted_also_where_their_answer_fails(
    bench: Benches, way: str, size: int
) -> None:
    """The client has gone before the answer: its bytes are in the books, none is said
    to be sent, and the log has the same.
    """
    b = bench(tcp=way == "reset")
    sock = b.connect()
    b.session()
    for _ in range(2):
        sock.sendall(b"x")
        assert b.read(sock, 1) == b"x"
    assert b.bytes_counted() == (2, 2)
    sock.sendall(b"x" * size)
    if way == "reset":
        clients.reset(sock)
    else:
        sock.close()
    b.until(lambda: not b.engine.open)
    assert b.bytes_counted() == (2 + size, 2)
    (told,) = b.events("connection.ended")
    assert (told["received"], told["sent"]) == (2 + size, 2)
    assert told["cause"] == "client_rst"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_each_byte_is_counted_both_ways(bench: Benches, level: str) -> None:
    """Small messages and large ones, over one connection; for the service and for the
    session, whatever the level of the log.
    """
    b = bench(level="debug" if level == "debug" else "info")
    sock = b.connect()
    for size in (1, 64, SMALL_READ_BYTES, 5000, 1, 1, 1):
        sock.sendall(pattern(size, size))
        assert b.read(sock, size) == pattern(size, size)
    total = 1 + 64 + SMALL_READ_BYTES + 5000 + 3
    stream = b.session().stream
    assert b.bytes_counted() == (stream.received, stream.sent) == (total, total)
    sock.close()
    b.until(lambda: not b.engine.open)
    assert len(b.events("connection.ended")) == (1 if level == "debug" else 0)


def test_relayed_bytes_are_activity_and_are_counted(bench: Benches) -> None:
    """A piece that never came into the process puts off the end of an idle session, and
    is in the books and in the line of its end.
    """
    b = bench(tcp=True)
    sock = b.connect()
    session = b.bulk(sock)
    before = b.bytes_counted()[0]
    b.clock.advance(5.0)
    assert sock.send(bytes(BULK_BYTES)) == BULK_BYTES
    b.read(sock, BULK_BYTES)
    assert session.active_at == b.clock.now
    sock.close()
    b.until(lambda: not b.engine.open)
    total = before + BULK_BYTES
    assert b.bytes_counted() == (total, total)
    (told,) = b.events("connection.ended")
    assert (told["received"], told["sent"]) == (total, total)


def test_an_urgent_byte_and_the_end_of_bulk_data_are_read(bench: Benches) -> None:
    """At either splice moves nothing, though the socket is readable: a read brings
    it.
    """
    b = bench(tcp=True)
    sock = b.connect()
    b.bulk(sock)
    clients.send_urgent(sock, b"!")
    assert b.read(sock, 1) == b"!"
    b.bulk(sock)
    sock.shutdown(socket.SHUT_WR)
    assert b.read(sock, 1) == b""
    assert b.ended() == {EndCause.CLIENT_FIN: 1}


def test_the_pipe_is_given_back_when_there_is_no_bulk_data(bench: Benches) -> None:
    """An engine has one only while it relays, for all pipes of a user are rationed."""
    before = pipes()
    b = bench(tcp=True)
    sock = b.connect()
    b.bulk(sock)
    b.read(sock, sock.send(bytes(BULK_BYTES)))
    assert len(pipes() - before) == 1
    b.advance(PATROL_S)
    b.advance(PATROL_S)
    assert pipes() == before


@pytest.mark.parametrize("place", ["greet", "reply"])
def test_a_fault_of_a_service_ends_its_session_only(bench: Benches, place: str) -> None:
    """An exception of a service is an error line, one a second at most, and the cause
    error; the next client and the other service are served.
    """

    def fail(piece: Piece) -> bytes:
        raise LookupError("a fault of the service")

    faulty = (
        Saying(fault=LookupError("a fault of the service"))
        if place == "greet"
        else Saying(reply=fail)
    )
    b = bench(faulty, Echo(EchoOptions()))
    good = b.connect(1)
    for pause_s in (0.0, 0.1, 0.1, 0.9, 0.1):
        b.advance(pause_s)
        bad = b.connect(0)
        bad.sendall(b"x")
        with contextlib.suppress(ConnectionResetError):
            assert b.read(bad, 1) == b""
    good.sendall(b"still here")
    assert b.read(good, 10) == b"still here"
    assert b.ended(0) == {EndCause.ERROR: 5}
    lines = [(row["error"], row["suppressed"]) for row in b.events("connection.failed")]
    error = "LookupError('a fault of the service')"
    assert lines == [(error, 0), (error, 2)]


@pytest.mark.parametrize("wrong", ["text", 7, [7]], ids=type)
@pytest.mark.parametrize("place", ["greet", "reply", "more", "converse"])
def test_an_answer_of_the_wrong_type_ends_its_session_only(
    bench: Benches, place: str, wrong: Any
) -> None:
    """What is no bytes is a fault of the service, and the worker goes on."""
    faulty = {
        "greet": Saying(greeting=wrong),
        "reply": Saying(reply=lambda _piece: wrong),
        "more": Saying(reply=nothing, more=lambda: wrong),
        "converse": Saying(reply=lambda _piece: HandOver(wrong, wrong, wrong)),
    }[place]
    b = bench(faulty, Echo(EchoOptions()))
    good, bad = b.connect(1), b.connect(0)
    bad.sendall(b"x")
    b.until(lambda: b.ended(0) == {EndCause.ERROR: 1}, "the end")
    good.sendall(b"still here")
    assert b.read(good, 10) == b"still here"
    assert b.events("connection.failed")


class Wordless(Exception):
    """An exception that cannot describe itself."""

    def __repr__(self) -> str:
        raise SystemExit(0)


@pytest.mark.parametrize("place", ["greet", "reply", "more", "begun"])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, Wordless])
def test_an_exit_of_a_service_ends_its_session_only(
    bench: Benches, place: str, kind: type[BaseException]
) -> None:
    """sys.exit() in a service, and what else is no Exception, or has no text, does not
    end the worker.
    """

    def fail(*_piece: Piece) -> bytes:
        raise kind

    faulty = {
        "greet": Saying(fault=kind()),
        "reply": Saying(reply=fail),
        "more": Saying(reply=nothing, more=fail),
        "begun": Saying(reply=lambda _piece: HandOver(b"", Saying(fault=kind()))),
    }[place]
    b = bench(faulty, Echo(EchoOptions()))
    good, bad = b.connect(1), b.connect(0)
    bad.sendall(b"x")
    b.until(lambda: b.ended(0) == {EndCause.ERROR: 1}, "the end")
    good.sendall(b"still here")
    assert b.read(good, 10) == b"still here"
    (row,) = b.events("connection.failed")
    assert row["error"].startswith(kind.__name__)


def test_the_fault_of_a_service_is_logged_with_its_place(bench: Benches) -> None:
    """The trace names the file, the line and the function; a long one keeps its end."""

    def fail(piece: Piece) -> bytes:
        return fail(piece[1:]) if piece else b"%d" % len(None)  # type: ignore[arg-type]

    b = bench(Saying(reply=fail))
    b.connect().sendall(bytes(100))
    b.until(lambda: b.events("connection.failed"), "the line")
    (row,) = b.events("connection.failed")
    number = fail.__code__.co_firstlineno + 1
    assert f'File "{__file__}", line {number}, in fail' in row["trace"]
    assert row["trace"].endswith(": object of type 'NoneType' has no len()\n")
    assert len(row["trace"]) <= TRACE_CHARACTERS


def test_an_ended_session_leaves_nothing_to_the_garbage_collector(bench: Benches) -> None:
    """A session and its stream refer to each other while it lives, and no longer."""
    b = bench()
    gc.collect()
    for _ in range(10):
        sock = b.connect()
        b.session()
        sock.close()
        b.until(lambda: not b.engine.open)
    assert not [left for left in gc.get_objects() if type(left) in (Session, Stream)]


# the peer


@pytest.mark.parametrize("service", [Echo(EchoOptions()), Saying(b"bye\n")], ids=["echo", "bye"])
def test_the_peer_of_a_reset_connection_is_known(bench: Benches, service: Saying | Echo) -> None:
    """Its address is kept from the accept: getpeername(2) no longer tells it."""
    b = bench(service, tcp=True)
    sock = b.connect()
    host, port = sock.getsockname()
    b.session()
    clients.reset(sock)
    b.until(lambda: not b.engine.open)
    assert [row["peer"] for row in b.events("connection.ended")] == [f"{host}:{port}"]


@pytest.mark.parametrize("service", [Echo(EchoOptions()), Saying(b"bye\n")], ids=["echo", "bye"])
def test_a_client_that_reset_before_its_accept_is_known(
    bench: Benches, service: Saying | Echo
) -> None:
    """Both lines of its connection name it."""
    b = bench(service, tcp=True, level="info", connections=True)
    sock = b.connect()
    host, port = sock.getsockname()
    clients.reset(sock)
    b.until(lambda: b.count(layout.Service.ACCEPTED) and not b.engine.open)
    assert [(row["event"], row["level"], row["peer"]) for row in map(json.loads, b.lines)] == [
        ("connection.started", "info", f"{host}:{port}"),
        ("connection.ended", "info", f"{host}:{port}"),
    ]


@pytest.mark.parametrize(
    ("level", "connections", "logged"),
    [
        ("debug", False, "debug"),
        ("debug", True, "info"),
        ("info", True, "info"),
        ("info", False, ""),
        ("warning", True, ""),
    ],
)
def test_the_start_and_the_end_of_each_connection_are_logged(
    bench: Benches, level: Level, connections: bool, logged: str
) -> None:
    """Where the configuration asks for them, or the log has level debug; the start
    comes at once.
    """
    b = bench(tcp=True, level=level, connections=connections)
    socks = [b.connect() for _ in range(3)]
    b.until(lambda: b.engine.open == len(socks))
    peers = sorted("{}:{}".format(*sock.getsockname()) for sock in socks) if logged else []
    assert sorted(row["peer"] for row in b.events("connection.started")) == peers
    assert not b.events("connection.ended")
    for sock in socks:
        sock.close()
    b.until(lambda: not b.engine.open)
    assert sorted(row["peer"] for row in b.events("connection.ended")) == peers
    assert {row["level"] for row in map(json.loads, b.lines)} == ({logged} if logged else set())


def test_a_session_describes_itself(bench: Benches) -> None:
    """Service, both addresses, age, bytes and state, as the channel's answer has
    them.
    """
    b = bench(tcp=True)
    sock = b.connect()
    session = b.session()
    sock.sendall(b"hello")
    b.read(sock, 5)
    b.clock.advance(2.5)
    described = session.describe(b.clock.now)
    assert (described.pop("rtt_s") > 0, described.pop("retransmits")) == (True, 0)
    assert described == {
        "service": "service-0",
        "peer": "{}:{}".format(*sock.getsockname()),
        "local": "{}:{}".format(*sock.getpeername()),
        "age_s": 2.5,
        "received": 5,
        "sent": 5,
        "state": "serving",
    }


def test_sessions_are_listed_by_descriptor(bench: Benches) -> None:
    """In ascending order, from any descriptor on."""
    b = bench()
    for _ in range(5):
        b.connect()
    b.until(lambda: b.engine.open == 5)
    fds = [session.number for session in b.engine.sessions()]
    assert fds == sorted(fds)
    assert [session.number for session in b.engine.sessions(fds[2])] == fds[3:]


# limits


def test_the_limit_holds_for_all_listeners_together(bench: Benches) -> None:
    """With two listeners and more clients than places, the engine serves as many as it
    may and goes on as places become free.
    """
    echo = Echo(EchoOptions())
    b = bench(echo, echo, max_connections=3)
    socks = [b.connect(index % 2) for index in range(8)]
    for sock in socks:
        sock.sendall(b"x")
    b.until(lambda: b.engine.open >= 3)
    # One listener's client may come in over the limit: its worker was woken for it and
    # no other was.
    assert 3 <= b.engine.open <= 4
    held = b.engine.open
    b.turn()
    assert b.engine.open == held
    for sock in socks:
        assert b.read(sock, 1) == b"x"
        sock.close()
    b.until(lambda: not b.engine.open)
    assert sum(b.count(layout.Service.ACCEPTED, column) for column in (0, 1)) == 8


def test_a_full_engine_leaves_clients_to_others(bench: Benches) -> None:
    """Its limit is reached exactly, and the next client stays in the queue until a
    place is free.
    """
    b = bench(max_connections=1)
    first, second = b.connect(), b.connect()
    b.until(lambda: b.engine.open)
    for _ in range(3):
        b.turn()
    assert b.engine.open == 1
    first.close()
    second.sendall(b"x")
    assert b.read(second, 1) == b"x"


def test_a_client_for_which_another_worker_was_woken_is_found(bench: Benches) -> None:
    """A client that waits in a queue without a wake-up for this worker, because the
    woken one has no descriptor left or hangs, is accepted within a patrol.
    """
    b = bench()
    b.listeners[0].watched = True  # so epoll never gets it: every wake-up goes elsewhere
    b.turn()
    sock = b.connect()
    sock.sendall(b"x")
    b.advance(PATROL_S / 2)
    assert b.engine.open == 0
    b.advance(PATROL_S / 2)
    assert b.engine.open == 1
    assert b.read(sock, 1) == b"x"
    b.listeners[0].watched = False


def test_a_listener_that_was_shut_down_costs_nothing(bench: Benches) -> None:
    """It is ready for ever and has no client: it pauses, is reported once, and the
    other service and its clients go on.
    """
    b = bench(Echo(EchoOptions()), Echo(EchoOptions()))
    known = b.connect(1)
    b.session()
    b.listeners[0].sock.shutdown(socket.SHUT_RDWR)  # as any process that shares it could
    pauses = 0
    for _ in range(25):
        watched = b.listeners[0].watched
        b.advance(LONGEST_PAUSE_S / 10)
        pauses += watched and not b.listeners[0].watched
    assert pauses <= 3
    assert b.listeners[0].resume_at is not None
    assert [row["errno"] for row in b.events("accept.failed")] == ["EINVAL"]
    another = b.connect(1)
    for sock in (known, another):
        sock.sendall(b"alive")
        assert b.read(sock, 5) == b"alive"


def test_a_target_is_called_only_for_what_it_watches(bench: Benches) -> None:
    """Input, if it asks for nothing else: an eventfd always has room for output."""
    b = bench()
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    masks: list[int] = []

    class Noting:
        """Notes its events."""

        def ready(self, mask: int) -> None:
            """Note them."""
            masks.append(mask)

    b.engine.watch(fd, Noting())
    b.turn()
    os.eventfd_write(fd, 1)
    b.turn()
    b.engine.forget(fd)
    b.engine.watch(fd, Noting(), select.EPOLLOUT)
    b.turn()
    b.engine.forget(fd)
    b.turn()
    os.close(fd)
    assert masks == [select.EPOLLIN, select.EPOLLOUT]


def test_a_turn_serves_so_many_events_and_no_more(bench: Benches) -> None:
    """The others get the next turn, so that deadlines and counts are not held up."""
    b = bench()
    fds = [os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(MAX_EVENTS + 1)]
    served: set[int] = set()

    class Reading:
        """Reads its descriptor."""

        def __init__(self, fd: int) -> None:
            self.fd = fd

        def ready(self, mask: int) -> None:
            """Read, so that no more events come."""
            os.eventfd_read(self.fd)
            served.add(self.fd)

    for fd in fds:
        b.engine.watch(fd, Reading(fd))
    b.turn()
    assert len(served) == MAX_EVENTS
    b.turn()
    assert len(served) == MAX_EVENTS + 1
    for fd in fds:
        b.engine.forget(fd)
        os.close(fd)


def test_an_event_of_a_closed_descriptor_is_passed_over(bench: Benches) -> None:
    """One target of a turn may close the descriptor of a later one, and a later event
    of the same turn then finds nobody behind it.
    """
    b = bench()
    b.connect()
    session = b.session()
    reader, writer = os.pipe()

    class Ending:
        """Ends the session before its own event is served."""

        def ready(self, mask: int) -> None:
            """End it."""
            os.read(reader, 1)
            if session.stage is not Stage.ENDED:
                session.end(EndCause.DONE)

    b.engine.watch(reader, Ending())
    os.write(writer, b"!")
    b.until(lambda: not b.engine.open)
    b.turn()
    b.engine.forget(reader)
    for fd in (reader, writer):
        os.close(fd)
    assert b.ended() == {EndCause.DONE: 1}


def test_a_place_is_free_before_the_end_is_counted(
    bench: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that comes when the metrics show the end is let in."""
    b, seen = bench(access=AccessTerms(max_connections=1)), list[int]()
    ledger = b.engine._ledger  # noqa: SLF001 - no other process is fast enough to see it
    counted = ledger.ended

    def ended(account: Account, cause: EndCause, duration_s: float) -> None:
        seen.append(b.gate.shown.counts.service_open(0))
        counted(account, cause, duration_s)

    monkeypatch.setattr(ledger, "ended", ended)
    b.connect().close()
    b.until(b.ended, "the end")
    assert seen == [0]
