"""Datagram sockets of the kernel: batches, source addresses, errors, drops."""

import errno
import gc
import os
import socket
import sys
from array import array
from collections.abc import Iterator

import pytest

from tests.support import faults
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


@pytest.fixture
def unix() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UNIX datagram socket and a client of it, which do not block."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking,
    ):
        for each in (server, asking):
            each.bind("")
            each.setblocking(False)
        asking.connect(server.getsockname())
        yield server, asking


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
            ((key, size, cut, to_us),) = batch.receive(sock, is_unix=False)
            assert (size, cut, to_us) == (len(data[:longest]), False, True)
            assert senders.port_of(batch.name(key)) == asking.getsockname()[1]
            batch.answer(0, batch.piece(0))
            assert batch.send(sock) == Sent(1, size)
            assert asking.recv(MAX_DATAGRAM_BYTES) == data[:longest]
    with pytest.raises(BlockingIOError):
        batch.receive(sock, is_unix=False)


def test_a_batch_takes_what_fits_and_leaves_the_rest(batch: AnyBatch, sock: socket.socket) -> None:
    """One call takes BATCH datagrams in their order, the next one the others; an answer
    may be left out, and may be longer than its question.
    """
    with client("127.0.0.1", sock) as asking:
        for number in range(BATCH + 3):
            asking.send(b"%d" % number)
        assert len(batch.receive(sock, is_unix=False)) == BATCH
        for slot in range(0, BATCH, 2):
            batch.answer(slot, b"to " + bytes(batch.piece(slot)))
        assert batch.send(sock).count == BATCH // 2
        assert [asking.recv(100) for _ in range(BATCH // 2)] == [
            b"to %d" % number for number in range(0, BATCH, 2)
        ]
        assert len(batch.receive(sock, is_unix=False)) == 3
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
        assert len(batch.receive(sock, is_unix=False)) == 3
        batch.answer(0, b"one")
        batch.answer(1, bytes(MAX_DATAGRAM_BYTES))
        batch.answer(2, b"three")
        assert batch.send(sock) == Sent(2, len(b"one" + b"three"), [errno.EMSGSIZE])
        assert [asking.recv(100), asking.recv(100)] == [b"one", b"three"]
        assert batch.send(sock) == Sent()


def test_a_datagram_between_two_others_may_get_no_answer(
    batch: AnyBatch, unix: tuple[socket.socket, socket.socket]
) -> None:
    """Only what was answered is sent, also where the kernel would send all."""
    server, asking = unix
    for number in range(6):
        asking.send(b"%d" % number)
    came = batch.receive(server, is_unix=True)
    assert {batch.name(key)[2:] for key, *_ in came} == {asking.getsockname()}
    for slot in (1, 2, 4):
        batch.answer(slot, batch.piece(slot))
    assert batch.send(server) == Sent(3, 3)
    assert [asking.recv(100) for _ in range(3)] == [b"1", b"2", b"4"]
    with pytest.raises(BlockingIOError):
        asking.recv(100)


@pytest.mark.parametrize("count", [1, 3, 28, 200])
def test_descriptors_of_a_unix_sender_are_not_taken(
    batch: AnyBatch, unix: tuple[socket.socket, socket.socket], count: int
) -> None:
    """However many descriptors a UNIX sender sends along, this process gets none, and
    the answer carries none back.
    """
    server, asking = unix
    with open("/dev/null", "rb") as null:
        gc.collect()
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(5):
            rights = array("i", [null.fileno()] * count)
            asking.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            ((_, size, cut, _),) = batch.receive(server, is_unix=True)
            assert (size, cut) == (1, False)
            batch.answer(0, batch.piece(0))
            assert batch.send(server) == Sent(1, 1)
            assert asking.recvmsg(100, 4096)[:3] == (b"x", [], 0)
        assert set(os.listdir("/proc/self/fd")) <= before


def test_credentials_of_a_unix_sender_are_not_sent_back(
    batch: AnyBatch, unix: tuple[socket.socket, socket.socket]
) -> None:
    """A socket to which the kernel adds the credentials of each sender (a socket unit
    with PassCredentials=) is answered like any other.
    """
    server, asking = unix
    server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    asking.send(b"hello")
    ((_, size, cut, _),) = batch.receive(server, is_unix=True)
    assert (size, cut) == (5, False)
    batch.answer(0, batch.piece(0))
    assert batch.send(server) == Sent(1, 5)
    assert asking.recvmsg(100, 4096)[:3] == (b"hello", [], 0)


FOREIGN = {
    "IP_RECVTTL": (socket.IPPROTO_IP, 12),
    "IP_RECVTOS": (socket.IPPROTO_IP, 13),
    "IP_RECVORIGDSTADDR": (socket.IPPROTO_IP, 20),
    "IP_CHECKSUM": (socket.IPPROTO_IP, 23),
    "SO_TIMESTAMP": (socket.SOL_SOCKET, 29),
    "SO_TIMESTAMPNS": (socket.SOL_SOCKET, 35),
    "SO_TIMESTAMPING": (socket.SOL_SOCKET, 37),
    "SO_RXQ_OVFL": (socket.SOL_SOCKET, 40),
    "IPV6_RECVHOPLIMIT": (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT),
    "IPV6_RECVTCLASS": (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS),
}
"""Options that let the kernel add control messages (ip(7), ipv6(7), socket(7))."""
SOFTWARE_TIMESTAMPS = 0x18  # <linux/net_tstamp.h>


def set_foreign(sock: socket.socket, name: str) -> None:
    """Let the kernel add a control message to each datagram."""
    level, option = FOREIGN[name]
    sock.setsockopt(level, option, SOFTWARE_TIMESTAMPS if name == "SO_TIMESTAMPING" else 1)


@pytest.mark.parametrize("names", [*((name,) for name in FOREIGN), tuple(FOREIGN)], ids="+".join)
@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_foreign_control_messages_are_passed_over(
    batch: AnyBatch, sock: socket.socket, host: str, names: tuple[str, ...]
) -> None:
    """Control messages that another process asked for on the shared socket neither
    hide the address that was asked, nor go back with the answer.
    """
    for name in names:
        set_foreign(sock, name)
    with client(host, sock) as asking:
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
        asking.setsockopt(*FOREIGN["IP_RECVTTL"], 1)
        for data in (b"", b"hello"):
            asking.send(data)
            ((_, size, cut, to_us),) = batch.receive(sock, is_unix=False)
            assert (size, cut, to_us) == (len(data), False, True)
            batch.answer(0, batch.piece(0))
            assert batch.send(sock) == Sent(1, size)
            answer, controls, *_ = asking.recvmsg(100, 100)
            assert answer == data
            assert [content for level, _, content in controls if level == socket.IPPROTO_IP] in (
                [],
                [(64).to_bytes(4, sys.byteorder)],
            )


def test_a_datagram_without_its_address_is_not_ours(batch: AnyBatch, sock: socket.socket) -> None:
    """Where another process has switched the message about the address off, and
    others of the same size on, no datagram counts as sent to this host.
    """
    for level, option in ((socket.IPPROTO_IP, 8), (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)):
        sock.setsockopt(level, option, 0)
    for name in ("SO_TIMESTAMP", "IP_RECVTTL"):
        for host in ("127.0.0.1", "::1"):
            with client(host, sock) as asking:
                asking.send(b"hello")
                ((_, size, cut, to_us),) = batch.receive(sock, is_unix=False)
                assert (size, cut, to_us) == (5, False, False)
        set_foreign(sock, name)


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
                received += len(make_batch().receive(sock, is_unix=False))
            except BlockingIOError:
                break
        assert datagrams.kernel_drops(sock) == 100 - received > 0


SO_SNDBUFFORCE = 32


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_the_send_buffer_is_raised_and_never_lowered(family: int) -> None:
    """A datagram socket gets as large a send buffer as the kernel allows, up to a
    bound, also when another process has made it small.
    """
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        datagrams.prepare(sock)
        raised = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert before < raised <= 2 * datagrams.SEND_BUFFER_BYTES
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        datagrams.prepare(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == raised


@faults.requires_root
def test_a_larger_send_buffer_is_kept() -> None:
    """A unit's SendBuffer= that exceeds ours stays as it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        wanted = 2 * datagrams.SEND_BUFFER_BYTES
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, wanted)
        datagrams.prepare(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * wanted


def test_waiting_answers_take_room(unix: tuple[socket.socket, socket.socket]) -> None:
    """An answer that its client has not read takes room in the sender's buffer."""
    server, asking = unix
    half = server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
    assert datagrams.room_for_long(server) == half
    server.sendto(bytes(50_000), asking.getsockname())
    assert datagrams.room_for_long(server) < half - 50_000
    asking.recv(1)
    assert datagrams.room_for_long(server) == half


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
