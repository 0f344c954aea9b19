"""A service that speaks unasked, in a turned engine: it speaks when the socket has
room, one bounded piece a turn, and holds up nobody. Every test runs with the hot path
and without it.
"""

import contextlib
import socket

import pytest

from tests.support import clients
from tests.support.engine import Bench, Benches, Saying
from unpd.board import layout
from unpd.config.times import ServiceTimes
from unpd.names import EndCause
from unpd.services.base import MAX_PIECE_BYTES, HandOver, Piece, StreamService, nothing
from unpd.services.chargen import Chargen, ChargenOptions, lines
from unpd.services.discard import Discard, DiscardOptions
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.event.session import QUIET_S

MIB = 1 << 20


def chargen() -> Chargen:
    """The service of these tests."""
    return Chargen(ChargenOptions())


def pattern(count: int) -> bytes:
    """The first bytes that chargen sends."""
    return (lines() * (count // len(lines()) + 1))[:count]


def until_stuck(b: Bench) -> None:
    """Turn until the only session waits for its client."""
    session = b.session()
    sent = -1
    while session.stream.sent != sent:
        sent = session.stream.sent
        for _ in range(10):
            b.turn()


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_chargen_sends_its_lines_over_any_length(bench: Benches, tcp: bool) -> None:
    """No byte is lost or repeated, however much the client reads at a time."""
    b = bench(chargen(), tcp=tcp)
    sock = b.connect()
    got = b"".join(b.read(sock, count) for count in (1, 73, 74, 7030, 100_000, 3 * MIB))
    assert got == pattern(len(got))


def test_the_output_for_a_client_that_does_not_read_is_bounded(bench: Benches) -> None:
    """At most one piece is kept beside what the kernel takes, the worker rests, and a
    client that reads on gets every byte.
    """
    b = bench(chargen(), tcp=True)
    sock = b.connect()
    until_stuck(b)
    session = b.session()
    assert len(session.stream.out or b"") <= MAX_PIECE_BYTES
    sent = session.stream.sent
    assert b.rests()
    got = b.read(sock, sent + MIB)
    assert got == pattern(len(got))


def test_a_service_that_speaks_takes_what_its_client_sends(bench: Benches) -> None:
    """It is counted and thrown away, also while the client does not read."""
    b = bench(chargen(), tcp=True)
    sock = b.connect()
    until_stuck(b)
    sock.sendall(bytes(100_000))
    b.until(lambda: b.bytes_counted()[0] == 100_000, "the bytes to be taken")


def test_a_turn_sends_one_piece_to_each_client(bench: Benches) -> None:
    """So no client waits for the others, however fast they read."""
    said: list[int] = []

    def more() -> Piece:
        said.append(1)
        return b"x" * 100

    b = bench(Saying(reply=nothing, more=more))
    for _ in range(3):
        b.connect()
    b.until(lambda: len(b.sessions()) == 3, "the clients")
    said.clear()
    b.turn()
    assert len(said) == 3


def test_a_fast_reader_beside_fifty_echoes(bench: Benches) -> None:
    """Each echo comes back within a few turns while chargen sends without end."""
    b = bench(Echo(EchoOptions()), chargen(), tcp=True)
    reader = b.connect(1)
    reader.setblocking(False)
    echoes = [b.connect() for _ in range(50)]
    b.until(lambda: len(b.sessions()) == 51, "the clients")
    for sock in echoes:
        sock.setblocking(False)
    for number in range(20):
        message = f"round {number}".encode()
        for sock in echoes:
            sock.send(message)
        before = b.count(layout.Service.SENT, 1)
        for _ in range(2):  # 51 descriptors are ready, and a turn serves 64
            with contextlib.suppress(BlockingIOError):
                while reader.recv(MIB):
                    pass
            b.turn()
        assert [sock.recv(100) for sock in echoes] == [message] * 50
        assert b.count(layout.Service.SENT, 1) - before >= len(lines())


def test_a_half_close_ends_what_would_never_end(bench: Benches) -> None:
    """The client's FIN ends chargen: the pending output goes out, then ours. What the
    client got is the pattern up to its end.
    """
    b = bench(chargen(), tcp=True)
    sock = b.connect()
    until_stuck(b)
    sock.shutdown(socket.SHUT_WR)
    got = b.read(sock, 64 * MIB)
    assert got == pattern(len(got))
    assert b.ended() == {EndCause.CLIENT_FIN: 1}
    assert b.bytes_counted() == (0, len(got))


def test_a_client_that_goes_with_unread_output_is_a_reset(bench: Benches) -> None:
    """Its kernel says so when it closes with unread data (RFC 2525)."""
    b = bench(chargen(), tcp=True)
    sock = b.connect()
    until_stuck(b)
    sock.close()
    b.until(lambda: b.ended() == {EndCause.CLIENT_RST: 1}, "the end")


def test_a_client_that_does_not_read_has_stalled_in_its_time(bench: Benches) -> None:
    """The deadlines hold for a service that speaks, too: user_timeout_s."""
    b = bench(chargen(), times=ServiceTimes(0.0, 0.0, 30.0))
    b.connect()
    until_stuck(b)
    b.advance(29.0)
    assert not b.ended()
    b.advance(1.5)
    b.until(lambda: b.ended() == {EndCause.STALLED: 1}, "the end")


def test_a_client_that_sends_and_does_not_read_has_stalled(bench: Benches) -> None:
    """A byte now and then does not keep the output waiting for ever: user_timeout_s."""
    b = bench(chargen(), times=ServiceTimes(20.0, 0.0, 30.0))
    sock = b.connect()
    until_stuck(b)
    for _ in range(5):
        b.advance(5.0)
        sock.sendall(b"x")
        b.turn()
    assert not b.ended()
    b.advance(5.5)
    b.until(lambda: b.ended() == {EndCause.STALLED: 1}, "the end")


def test_a_session_ends_in_its_time_however_fast_the_client_reads(bench: Benches) -> None:
    """The client gets its FIN after the pending output: session_timeout_s."""
    b = bench(chargen(), times=ServiceTimes(0.0, 20.0, 30.0), tcp=True)
    sock = b.connect()
    assert b.read(sock, MIB) == pattern(MIB)
    b.advance(20.5)
    rest = b.read(sock, 64 * MIB)
    sock.close()
    assert (pattern(MIB) + rest) == pattern(MIB + len(rest))
    b.until(lambda: b.ended() == {EndCause.SESSION_LIMIT: 1}, "the end")


def test_a_reader_is_not_idle(bench: Benches) -> None:
    """What the service sends is activity: idle_timeout_s."""
    b = bench(chargen(), times=ServiceTimes(10.0, 0.0, 0.0), tcp=True)
    sock = b.connect()
    for _ in range(5):
        b.read(sock, 8 * MIB)
        b.advance(6.0)
    assert not b.ended()


def test_a_graceful_stop_ends_what_would_never_end(bench: Benches) -> None:
    """Chargen says nothing more, its client falls quiet and gets the FIN, long before
    the time of the stop is over.
    """
    b = bench(chargen(), tcp=True)
    sock = b.connect()
    assert b.read(sock, MIB) == pattern(MIB)
    b.engine.stop_accepting()
    b.engine.finish(b.clock.now + 30.0, 2.0)
    b.advance(QUIET_S + 0.2)
    got = bytearray()

    def ended() -> bool:
        b.clock.advance(0.001)
        with contextlib.suppress(BlockingIOError):
            while piece := sock.recv(MIB):
                got.extend(piece)
            return True
        return False

    b.until(ended, "the FIN")
    assert pattern(MIB) + got == pattern(MIB + len(got))
    sock.close()
    b.until(lambda: b.ended() == {EndCause.SHUTDOWN: 1}, "the end")


def test_a_graceful_stop_rests_while_a_service_would_like_to_speak(bench: Benches) -> None:
    """A socket with room does not wake the worker again and again."""
    b = bench(chargen(), tcp=True)
    sock = b.connect()
    b.read(sock, MIB)
    b.engine.finish(b.clock.now + 30.0, 2.0)
    sock.setblocking(False)
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            sock.recv(8 * MIB)
        b.turn()
    assert b.rests()


def test_a_service_that_has_said_everything_closes(bench: Benches) -> None:
    """Its client gets every piece and then the FIN; the cause is done."""
    pieces = iter([b"one ", b"two ", b"three", None])
    b = bench(Saying(b"greeting ", reply=nothing, more=pieces.__next__), tcp=True)
    sock = b.connect()
    assert b.read(sock, 100) == b"greeting one two three"
    sock.close()
    b.until(lambda: b.ended() == {EndCause.DONE: 1}, "the end")


def test_a_service_with_nothing_to_say_rests_until_its_client_sends(bench: Benches) -> None:
    """The worker is not woken meanwhile."""
    pieces = iter([b"", b"again", b""])
    b = bench(Saying(reply=nothing, more=pieces.__next__), tcp=True)
    sock = b.connect()
    b.session()
    b.turn()
    assert b.rests()
    sock.sendall(b"go on")
    assert b.read(sock, 5) == b"again"


def test_a_fault_in_more_ends_the_connection_and_no_other(bench: Benches) -> None:
    """As a fault in any other part of a service does, with a line in the log."""

    def fault() -> Piece:
        raise LookupError("a fault of the service")

    b = bench(Saying(reply=nothing, more=fault), chargen(), tcp=True)
    b.connect()
    other = b.connect(1)
    b.until(lambda: b.ended() == {EndCause.ERROR: 1}, "the end")
    assert "a fault of the service" in b.events("connection.failed")[0]["error"]
    assert b.read(other, 100) == pattern(100)


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_discard_takes_everything_and_says_nothing(bench: Benches, tcp: bool) -> None:
    """Every byte is counted. The client's FIN is answered with ours."""
    b = bench(Discard(DiscardOptions()), tcp=tcp)
    sock = b.connect()
    sock.setblocking(False)
    data, sent = memoryview(bytes(5 * MIB)), 0

    def all_sent() -> bool:
        nonlocal sent
        with contextlib.suppress(BlockingIOError):
            sent += sock.send(data[sent:])
        return sent == len(data)

    b.until(all_sent, "the bytes to be taken")
    sock.shutdown(socket.SHUT_WR)
    assert b.read(sock, 1) == b""
    assert b.ended() == {EndCause.CLIENT_FIN: 1}
    assert b.bytes_counted() == (5 * MIB, 0)


def test_discard_is_active_while_its_client_sends(bench: Benches) -> None:
    """idle_timeout_s counts from the last byte."""
    b = bench(Discard(DiscardOptions()), times=ServiceTimes(10.0, 0.0, 0.0))
    sock = b.connect()
    b.session()
    for _ in range(3):
        b.advance(9.0)
        sock.sendall(b"x")
        b.turn()
    assert b.bytes_counted() == (3, 0)
    b.advance(10.5)
    clients.read_all(sock)
    sock.close()
    b.until(lambda: b.ended() == {EndCause.IDLE: 1}, "the end")


def handing(service: StreamService | None, rest: bytes = b"") -> Saying:
    """A service that hands its client over to ``service`` at the first piece."""
    return Saying(reply=lambda _: HandOver(b"+Go\r\n", service, rest))


def test_a_hand_over_begins_the_other_service(bench: Benches) -> None:
    """The client gets the first bytes, then the answer to those that came behind the
    name; the counts stay those of the first service.
    """
    b = bench(handing(Echo(EchoOptions()), b"rest"), tcp=True)
    sock = b.connect()
    sock.sendall(b"echo\r\n")
    assert b.read(sock, 9) == b"+Go\r\nrest"
    for _ in range(3):
        sock.sendall(b"hello")
        assert b.read(sock, 5) == b"hello"
    assert b.bytes_counted() == (6 + 15, 9 + 15)
    sock.close()
    b.until(lambda: b.ended() == {EndCause.CLIENT_FIN: 1}, "the end")


def test_a_hand_over_to_a_service_that_only_greets_closes(bench: Benches) -> None:
    """In good order, after the greeting."""
    b = bench(handing(Saying(b"bye\n")), tcp=True)
    sock = b.connect()
    sock.sendall(b"daytime\r\n")
    assert b.read(sock, 100) == b"+Go\r\nbye\n"
    sock.close()
    b.until(lambda: b.ended() == {EndCause.DONE: 1}, "the end")


def test_a_hand_over_to_a_service_that_speaks(bench: Benches) -> None:
    """Its lines follow."""
    b = bench(handing(chargen()), tcp=True)
    sock = b.connect()
    sock.sendall(b"chargen\r\n")
    assert b.read(sock, 5 + MIB) == b"+Go\r\n" + pattern(MIB)


def test_a_hand_over_to_no_service_closes(bench: Benches) -> None:
    """After its first bytes; what the client still sends is thrown away."""
    b = bench(handing(None), tcp=True)
    sock = b.connect()
    sock.sendall(b"finger\r\nroot\r\n")
    assert b.read(sock, 100) == b"+Go\r\n"
    sock.close()
    b.until(lambda: b.ended() == {EndCause.DONE: 1}, "the end")
