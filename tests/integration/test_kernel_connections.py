"""Calls on accepted connections, which are bare descriptors."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from unpd.kernel.connections import accept, borrowed, send_fin


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, int]]:
    """A client, and the descriptor of the server's end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        fd = accept(listener.fileno())
        yield client, fd
        os.close(fd)


def test_an_empty_queue_does_not_block() -> None:
    """With an empty queue, accept() on a non-blocking listener raises
    BlockingIOError.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            accept(listener.fileno())


def test_an_error_has_its_number() -> None:
    """An error carries the errno of accept(2) or shutdown(2)."""
    with socket.socket() as unconnected:
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)) as accepting:
            accept(unconnected.fileno())
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)) as ending:
            send_fin(unconnected.fileno())
    assert (accepting.value.errno, ending.value.errno) == (errno.EINVAL, errno.ENOTCONN)


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
