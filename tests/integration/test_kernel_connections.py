"""Calls on accepted connections, which are bare descriptors."""

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unpd.kernel.connections import (
    Acceptor,
    address_text,
    borrowed,
    local_text,
    peek,
    reset_on_close,
    send_fin,
    skip,
    take_error,
)
from unpd.kernel.tcp_info import PeerPaths, retransmits


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, int]]:
    """A client, and the descriptor of the server's end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        fd, _ = Acceptor(listener.fileno(), listener.family).accept()
        yield client, fd
        os.close(fd)


def test_an_empty_queue_does_not_block() -> None:
    """With an empty queue, accept() on a non-blocking listener raises
    BlockingIOError.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            Acceptor(listener.fileno(), listener.family).accept()


def test_an_error_has_its_number() -> None:
    """An error carries the errno of accept(2) or shutdown(2)."""
    with socket.socket() as unconnected:
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)) as accepting:
            Acceptor(unconnected.fileno(), unconnected.family).accept()
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)) as ending:
            send_fin(unconnected.fileno())
    assert (accepting.value.errno, ending.value.errno) == (errno.EINVAL, errno.ENOTCONN)


def test_a_look_at_what_has_come_takes_nothing(pair: tuple[socket.socket, int]) -> None:
    """Only what is skipped is gone. The end shows as no bytes, and nothing yet as an
    error.
    """
    client, fd = pair
    with pytest.raises(BlockingIOError):
        peek(fd, 4)
    client.sendall(b"headerdata")
    assert peek(fd, 4) == b"head"
    assert peek(fd, 100) == b"headerdata"
    skip(fd, 6)
    assert os.read(fd, 100) == b"data"
    client.close()
    select.select([fd], [], [], 10.0)
    assert peek(fd, 4) == b""
    with pytest.raises(ConnectionResetError):
        skip(fd, 1)


def test_pieces_with_descriptors_are_skipped_as_one() -> None:
    """read(2) ends behind each piece of a UNIX stream that has brought some."""
    here, there = socket.socketpair()
    with here, there:
        for piece in (b"he", b"ad", b"er"):
            socket.send_fds(there, [piece], [there.fileno()])
        there.sendall(b"data")
        skip(here.fileno(), 6)
        assert here.recv(100) == b"data"


def test_a_fin_ends_one_direction(pair: tuple[socket.socket, int]) -> None:
    """After our FIN the client reads the end of our stream, and its own data still
    arrives.
    """
    client, fd = pair
    send_fin(fd)
    assert client.recv(1) == b""
    client.sendall(b"still here")
    client.shutdown(socket.SHUT_WR)
    os.set_blocking(fd, True)
    assert os.read(fd, 100) == b"still here"


def test_a_borrowed_descriptor_stays_open(pair: tuple[socket.socket, int]) -> None:
    """A borrowed descriptor stays open, also after an exception."""
    client, fd = pair
    with borrowed(fd) as sock:
        assert sock.getpeername() == client.getsockname()
    with pytest.raises(ZeroDivisionError), borrowed(fd):
        raise ZeroDivisionError
    assert os.write(fd, b"x") == 1


# addresses


@pytest.mark.parametrize(
    ("family", "host", "shown"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "[::1]"),
    ],
)
def test_an_accept_brings_the_peer_s_address(
    family: socket.AddressFamily, host: str, shown: str
) -> None:
    """Each connection brings its own; IPv4 and mapped IPv4 look the same, IPv6 has
    brackets. Our own address is shown likewise.
    """
    any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
    dual = family == socket.AF_INET6
    with socket.create_server((any_address, 0), family=family, dualstack_ipv6=dual) as listener:
        acceptor = Acceptor(listener.fileno(), family)
        port = listener.getsockname()[1]
        for _ in range(2):
            with socket.create_connection((host, port)) as client:
                fd, peer = acceptor.accept()
                assert address_text(peer) == f"{shown}:{client.getsockname()[1]}"
                assert local_text(fd) == f"{shown}:{port}"
                os.close(fd)


def test_the_address_of_a_peer_that_has_reset_is_known() -> None:
    """Also if it did so before the accept: getpeername(2) says ENOTCONN then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        host, port = client.getsockname()
        reset_on_close(client.fileno())
        client.close()
        fd, peer = Acceptor(listener.fileno(), listener.family).accept()
        assert address_text(peer) == f"{host}:{port}"
        with borrowed(fd) as sock, pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            sock.getpeername()
        assert take_error(fd).errno == errno.ECONNRESET
        os.close(fd)


def test_a_unix_peer_has_no_address(tmp_path: Path) -> None:
    """Whether it has a name or not, and whatever its length; our own is the path."""
    path = str(tmp_path / "listener")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        acceptor = Acceptor(listener.fileno(), listener.family)
        for name in ("", str(tmp_path / "a"), "", str(tmp_path / ("b" * 20))):
            with socket.socket(socket.AF_UNIX) as client:
                if name:
                    client.bind(name)
                client.connect(path)
                fd, peer = acceptor.accept()
                assert (address_text(peer), local_text(fd)) == ("unix", path)
                os.close(fd)


def test_a_link_local_address_has_its_interface() -> None:
    """By name if it exists, else by number. What is of no known family is unknown, and
    where there is no client there is none.
    """
    begin = socket.AF_INET6.to_bytes(2, sys.byteorder) + (7).to_bytes(2, "big") + bytes(4)
    host = socket.inet_pton(socket.AF_INET6, "fe80::1")
    lo = socket.if_nametoindex("lo").to_bytes(4, sys.byteorder)
    gone = (1 << 30).to_bytes(4, sys.byteorder)
    assert address_text(begin + host + lo) == "[fe80::1%lo]:7"
    assert address_text(begin + host + gone) == f"[fe80::1%{1 << 30}]:7"
    assert address_text(begin + host + bytes(4)) == "[fe80::1]:7"
    assert address_text(b"\xff" * 16) == "unknown"
    assert address_text(b"") == address_text(bytes(16)) == "none"


def test_the_path_to_a_peer_is_known(pair: tuple[socket.socket, int]) -> None:
    """Over TCP alone, after the peer has reset it, too."""
    client, fd = pair
    paths = PeerPaths()
    with borrowed(fd) as sock:
        assert retransmits(sock) == 0
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    select.select([fd], [], [], 10.0)
    path = paths.ask(fd)
    assert path is not None
    assert (0 < path.rtt_s < 10, path.retransmits) == (True, 0)
    here, there = socket.socketpair()
    with here, there:
        assert paths.ask(here.fileno()) is None
    assert paths.ask(-1) is None
    with socket.socket() as unconnected:
        assert paths.ask(unconnected.fileno()) is None, "it has measured no round trip"
