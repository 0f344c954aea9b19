"""Echo over every kind of address: all bytes come back, in whatever pieces and at
whatever pace they arrive.
"""

import hashlib
import random
import select
import socket
import time
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.clients import Address
from tests.support.counts import wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.scale import many

MIB = 1 << 20
KINDS = ("ipv4", "ipv6", "dual-stack", "unix")


@pytest.fixture(params=["debug", "info"])
def echo(launch: Launch, tmp_path: Path, request: pytest.FixtureRequest) -> Unpd:
    """Start an echo on every kind of address, in the order of KINDS, once with the log
    level debug and once with info.
    """
    return launch(
        f"""
[log]
level = "{request.param}"

[services.echo]
listen = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://[::]:0", "unix://{tmp_path}/echo.sock"]
"""
    )


def reachable(unpd: Unpd) -> dict[str, Address]:
    """Return the address of each kind for clients; the dual-stack one is an IPv4
    address.
    """
    found = dict(zip(KINDS, unpd.addresses("echo"), strict=True))
    found["dual-stack"] = ("127.0.0.1", unpd.port("echo", KINDS.index("dual-stack")))
    return found


def test_a_client_gets_its_bytes_back_and_then_a_fin(echo: Unpd, rng: random.Random) -> None:
    """On every kind of address a client that half-closes after its last byte gets every
    byte back, and then the server's FIN.
    """
    data = rng.randbytes(MIB)
    for kind, address in reachable(echo).items():
        for part in (b"", b"x", b"hello\r\n", data):
            assert clients.converse(address, part) == part, (
                f"{kind}: other than the {len(part)} bytes that were sent"
            )
    counts = wait_ended(echo, {"client_fin": 4 * len(KINDS)})
    assert counts.received == counts.sent == len(KINDS) * (8 + MIB)


def test_a_long_first_message_comes_back_in_one_piece(echo: Unpd) -> None:
    """A client that sends 1,000 bytes at once and reads once gets all of them."""
    for address in reachable(echo).values():
        for _ in range(20):
            with clients.connect(address) as sock:
                sock.sendall(b"x" * 1000)
                assert len(sock.recv(4096)) == 1000


@pytest.mark.parametrize("size", [480, 1000, 4096, 16384])
def test_a_long_message_after_small_ones_comes_back_in_one_piece(echo: Unpd, size: int) -> None:
    """A client that reads once gets all of its message, also after two small ones."""
    for address in reachable(echo).values():
        for _ in range(20):
            with clients.connect(address) as sock:
                for _ in range(2):
                    sock.sendall(b"hello")
                    assert clients.read_exactly(sock, 5) == b"hello"
                sock.sendall(b"x" * size)
                assert len(sock.recv(65536)) == size


def test_one_byte_segments_come_back_in_order(echo: Unpd, rng: random.Random) -> None:
    """A client that sends each byte in a segment of its own reads the same bytes."""
    data = rng.randbytes(2000)
    for address in reachable(echo).values():
        with clients.connect(address) as sock:
            if isinstance(address, str):
                for index in range(len(data)):
                    sock.send(data[index : index + 1])
            else:
                clients.send_bytewise(sock, data)
            sock.shutdown(socket.SHUT_WR)
            assert clients.read_all(sock) == data
    counts = wait_ended(echo, {"client_fin": len(KINDS)})
    assert counts.received == counts.sent == len(KINDS) * len(data)


def test_a_long_stream_comes_back_whole(echo: Unpd, rng: random.Random) -> None:
    """A stream of 100 MB (less in the default run) comes back with the same SHA-256.
    Both directions count all of it.
    """
    data = rng.randbytes(MIB) * many(100, at_least=20)
    for kind in ("ipv4", "unix"):
        got = clients.converse(reachable(echo)[kind], data)
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest(), kind
    counts = wait_ended(echo, {"client_fin": 2})
    assert counts.received == counts.sent == 2 * len(data)


def test_the_smallest_buffers_cut_every_write_and_lose_nothing(
    echo: Unpd, rng: random.Random
) -> None:
    """With the smallest buffers that the kernel gives the client, nearly every write of
    the server is partial. The stream still comes back whole.
    """
    data = rng.randbytes(many(10 * MIB, at_least=MIB))
    for kind in ("ipv4", "ipv6", "unix"):
        got = clients.converse(reachable(echo)[kind], data, receive_buffer=1, send_buffer=1)
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest(), kind
    counts = wait_ended(echo, {"client_fin": 3})
    assert counts.received == counts.sent == 3 * len(data)


def test_a_half_close_over_full_buffers_still_returns_everything(echo: Unpd) -> None:
    """A client that sends until the server takes no more, half-closes, and only then
    reads, gets back every byte that was taken.
    """
    for address in reachable(echo).values():
        with clients.connect(address) as sock:
            sent = clients.send_until_blocked(sock, 64 * MIB, stall_s=0.1)
            assert sent > MIB // 4, (
                "the client was stopped before the server's buffers could be full"
            )
            sock.shutdown(socket.SHUT_WR)
            sock.setblocking(True)
            assert clients.read_all(sock) == bytes(sent)
    wait_ended(echo, {"client_fin": len(KINDS)})


def test_a_slow_reader_gets_every_byte(echo: Unpd, rng: random.Random) -> None:
    """A client that reads a little now and then while it sends at full speed gets the
    whole stream.
    """
    data = rng.randbytes(4 * MIB)
    with clients.connect(reachable(echo)["ipv4"], receive_buffer=32768) as sock:
        sock.setblocking(False)
        left, got, next_read_at = memoryview(data), bytearray(), 0.0
        while len(got) < len(data):
            late = time.monotonic() >= next_read_at
            readable, writable, _ = select.select(
                [sock] if late else [],
                [sock] if left else [],
                [],
                10.0 if late else next_read_at - time.monotonic(),
            )
            if writable:
                left = left[sock.send(left[: clients.PIECE_BYTES]) :]
            if readable:
                got += sock.recv(clients.PIECE_BYTES)
                next_read_at = time.monotonic() + 0.002
        assert got == data


def test_an_urgent_byte_is_a_byte_like_any_other(echo: Unpd) -> None:
    """An urgent byte comes back at its place in the stream (RFC 862 knows no urgent
    data).
    """
    for kind, address in reachable(echo).items():
        with clients.connect(address) as sock:
            sock.sendall(b"one ")
            clients.send_urgent(sock, b"two!")
            sock.sendall(b" three")
            sock.shutdown(socket.SHUT_WR)
            assert clients.read_all(sock) == b"one two! three", kind
    wait_ended(echo, {"client_fin": len(KINDS)})


def test_clients_are_served_side_by_side(echo: Unpd, rng: random.Random) -> None:
    """Two hundred conversations that take turns keep their bytes apart."""
    with (
        clients.idle(reachable(echo)["ipv4"], 100) as first,
        clients.idle(reachable(echo)["unix"], 100) as second,
    ):
        open_ones = [*first, *second]
        for _ in range(3):
            said = [rng.randbytes(rng.randrange(1, 5000)) for _ in open_ones]
            for sock, words in zip(open_ones, said, strict=True):
                sock.sendall(words)
            for sock, words in zip(open_ones, said, strict=True):
                assert clients.read_exactly(sock, len(words)) == words
    wait_ended(echo, {"client_fin": 200})
