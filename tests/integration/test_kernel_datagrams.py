"""Datagram sockets of the kernel: batches, source addresses, errors, drops."""

import errno
import socket
from collections.abc import Iterator

import pytest

from tests.support.waiting import until
from unpd.kernel import datagrams, senders
from unpd.kernel.batches import BATCH, MAX_DATAGRAM_BYTES, AnyBatch, Sent, make_batch


@pytest.fixture(params=["batches", "plain"])
def batch(request: pytest.FixtureRequest) -> AnyBatch:
    """A batch of either version."""
    return make_batch(plain=request.param == "plain")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """A UDP socket on every address."""
    with datagrams.open_udp("::", 0, ipv6_only=False) as opened:
        yield opened


def client(host: str, server: socket.socket) -> socket.socket:
    """A client that takes datagrams from no other address than the one it asks."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(10.0)
    sock.connect((host, server.getsockname()[1]))
    return sock


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.255.0.9", "::1"])
def test_an_answer_leaves_from_the_address_that_was_asked(
    batch: AnyBatch, sock: socket.socket, host: str
) -> None:
    """Over a socket for both families, each client gets its bytes back from the address
    that it asked: empty, short, and the longest.
    """
    longest = 65507 if "." in host else 65527
    with client(host, sock) as asking:
        for data in (b"", b"hello", bytes(range(256)) * 256):
            asking.send(data[:longest])
            ((key, size, cut, to_us),) = batch.receive(sock)
            assert (size, cut, to_us) == (len(data[:longest]), False, True)
            assert senders.port_of(batch.name(key)) == asking.getsockname()[1]
            batch.answer(0, batch.piece(0))
            assert batch.send(sock) == Sent(1, size)
            assert asking.recv(MAX_DATAGRAM_BYTES) == data[:longest]
    with pytest.raises(BlockingIOError):
        batch.receive(sock)


def test_a_batch_takes_what_fits_and_leaves_the_rest(batch: AnyBatch, sock: socket.socket) -> None:
    """One call takes BATCH datagrams in their order, the next one the others; an answer
    may be left out, and may be longer than its question.
    """
    with client("127.0.0.1", sock) as asking:
        for number in range(BATCH + 3):
            asking.send(b"%d" % number)
        assert len(batch.receive(sock)) == BATCH
        for slot in range(0, BATCH, 2):
            batch.answer(slot, b"to " + bytes(batch.piece(slot)))
        assert batch.send(sock).count == BATCH // 2
        assert [asking.recv(100) for _ in range(BATCH // 2)] == [
            b"to %d" % number for number in range(0, BATCH, 2)
        ]
        assert len(batch.receive(sock)) == 3
        assert [bytes(batch.piece(slot)) for slot in range(3)] == [
            b"%d" % (BATCH + number) for number in range(3)
        ]


def test_a_refused_answer_stops_no_other(batch: AnyBatch, sock: socket.socket) -> None:
    """An answer that the kernel refuses is reported with its errno, and those behind it
    leave.
    """
    with client("127.0.0.1", sock) as asking:
        for _ in range(3):
            asking.send(b"x")
        assert len(batch.receive(sock)) == 3
        batch.answer(0, b"one")
        batch.answer(1, bytes(MAX_DATAGRAM_BYTES))
        batch.answer(2, b"three")
        assert batch.send(sock) == Sent(2, len(b"one" + b"three"), [errno.EMSGSIZE])
        assert [asking.recv(100), asking.recv(100)] == [b"one", b"three"]
        assert batch.send(sock) == Sent()


def test_a_datagram_between_two_others_may_get_no_answer(batch: AnyBatch) -> None:
    """Only what was answered is sent, also where the kernel would send all."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking,
    ):
        for sock in (server, asking):
            sock.bind("")
            sock.setblocking(False)
        asking.connect(server.getsockname())
        for number in range(6):
            asking.send(b"%d" % number)
        came = batch.receive(server)
        assert {batch.name(key)[2:] for key, *_ in came} == {asking.getsockname()}
        for slot in (1, 2, 4):
            batch.answer(slot, batch.piece(slot))
        assert batch.send(server) == Sent(3, 3)
        assert [asking.recv(100) for _ in range(3)] == [b"1", b"2", b"4"]
        with pytest.raises(BlockingIOError):
            asking.recv(100)


def test_drops_of_the_kernel_are_counted(sock: socket.socket) -> None:
    """Datagrams beyond the receive buffer are in the kernel's count, and no others."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with client("127.0.0.1", sock) as asking:
        assert datagrams.kernel_drops(sock) == 0
        for _ in range(100):
            asking.send(bytes(1000))
        received = 0
        while True:
            try:
                received += len(make_batch().receive(sock))
            except BlockingIOError:
                break
        assert datagrams.kernel_drops(sock) == 100 - received > 0


def test_a_socket_that_was_shut_down_is_seen_and_replaced(sock: socket.socket) -> None:
    """A shutdown is seen, also of one direction; a new socket takes the port while the
    old one is open, and a program of ours without that leave does not.
    """
    assert datagrams.is_open(sock)
    with pytest.raises(OSError, match="not connected"):
        sock.shutdown(socket.SHUT_RD)
    until(lambda: datagrams.is_shut_down(sock), 10.0, "the shutdown to be seen")
    assert not datagrams.is_open(sock)
    port = sock.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        datagrams.open_udp("::", port, ipv6_only=False)
    with datagrams.open_udp("::", port, ipv6_only=False, beside=sock) as new:
        with client("127.0.0.1", new) as asking:
            asking.send(b"hello")
            assert new.recv(100) == b"hello"
        for reuse in (new, sock):
            assert (reuse is sock) == bool(reuse.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))


def test_an_unbound_socket_is_not_open() -> None:
    """A datagram socket without an address, and a stream socket, are not open."""
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        with socket.socket(family, socket.SOCK_DGRAM) as unbound:
            assert not datagrams.is_open(unbound)
    with socket.create_server(("127.0.0.1", 0)) as stream:
        assert not datagrams.is_open(stream)
