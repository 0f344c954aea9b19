"""The relay from a socket's input to its output, over real sockets."""

import contextlib
import os
import resource
import select
import socket
from collections.abc import Iterator

import pytest

from tests.support import procs
from unpd.kernel.relay import Relay

MAX_BYTES = 100_000


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A relay that takes at most MAX_BYTES at a time."""
    relay_of_test = Relay(MAX_BYTES)
    yield relay_of_test
    relay_of_test.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end, which is non-blocking, and the client's end."""
    server, client = socket.socketpair()
    with server, client:
        server.setblocking(False)
        client.settimeout(10)
        yield server, client


Pair = tuple[socket.socket, socket.socket]


def fill_send_buffer(server: socket.socket) -> None:
    """Fill the send buffer of ``server``."""
    with contextlib.suppress(BlockingIOError):
        while True:
            server.send(bytes(65536))


def test_bytes_go_back(relay: Relay, pair: Pair) -> None:
    """The bytes that were pulled are pushed back, and none is left."""
    server, client = pair
    client.sendall(b"hello")
    assert relay.pull(server.fileno()) == 5
    assert relay.push(server.fileno(), 5) == (5, b"")
    assert client.recv(100) == b"hello"


def test_a_pull_is_bounded(relay: Relay, pair: Pair) -> None:
    """A pull takes at most the maximum; the other bytes stay in the socket for the next
    pull.
    """
    server, client = pair
    data = bytes(range(250)) * 600
    client.sendall(data)
    received = b""
    while count := relay.pull(server.fileno()):
        assert count <= MAX_BYTES
        assert relay.push(server.fileno(), count) == (count, b"")
        received += (
            client.recv(MAX_BYTES, socket.MSG_WAITALL)
            if len(received) + MAX_BYTES <= len(data)
            else client.recv(MAX_BYTES)
        )
    assert received == data


def test_an_empty_socket_and_the_end_both_give_nothing(relay: Relay, pair: Pair) -> None:
    """A pull returns 0 both for an empty socket and at the end of the stream."""
    server, client = pair
    assert relay.pull(server.fileno()) == 0
    client.close()
    assert relay.pull(server.fileno()) == 0


def test_bytes_that_the_socket_does_not_take_are_returned(relay: Relay, pair: Pair) -> None:
    """Bytes that the socket does not take are returned, and the next socket gets only
    its own bytes.
    """
    server, client = pair
    client.sendall(b"not taken")
    fill_send_buffer(server)
    assert relay.pull(server.fileno()) == 9
    assert relay.push(server.fileno(), 9) == (0, b"not taken")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"mine")
        assert relay.pull(ours.fileno()) == 4
        assert relay.push(ours.fileno(), 4) == (4, b"")
        assert theirs.recv(100) == b"mine"


def test_bytes_for_a_broken_socket_never_reach_another(relay: Relay, pair: Pair) -> None:
    """A push to a broken socket raises its error, and the next socket gets only its own
    bytes.
    """
    server, client = pair
    client.sendall(b"secret")
    assert relay.pull(server.fileno()) == 6
    client.close()
    with pytest.raises(BrokenPipeError):
        relay.push(server.fileno(), 6)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"mine")
        assert relay.pull(ours.fileno()) == 4
        assert relay.push(ours.fileno(), 4) == (4, b"")
        assert theirs.recv(100) == b"mine"


def test_it_takes_many_small_pieces_at_once(relay: Relay, pair: Pair) -> None:
    """One pull takes many small pieces, as a network card delivers them: the pipe has
    more slots than the default of sixteen.
    """
    server, client = pair
    for index in range(40):
        client.send(bytes((index,)))
    assert relay.pull(server.fileno()) == 40
    assert relay.push(server.fileno(), 40) == (40, b"")
    assert b"".join(client.recv(1) for _ in range(40)) == bytes(range(40))


def test_after_a_refused_pull_nothing_is_pulled_until_release(relay: Relay, pair: Pair) -> None:
    """After splice(2) was refused (EINVAL for anything but a socket), nothing is pulled
    until release_if_unused(); the bytes stay in the socket.
    """
    server, client = pair
    client.sendall(b"hello")
    with select.epoll() as epoll:
        assert relay.pull(epoll.fileno()) == 0
    assert relay.pull(server.fileno()) == 0
    relay.release_if_unused()
    assert relay.pull(server.fileno()) == 5
    assert relay.push(server.fileno(), 5) == (5, b"")


def test_after_a_refused_push_the_bytes_are_returned(relay: Relay, pair: Pair) -> None:
    """If splice(2) into the socket is refused, the bytes are returned to the caller."""
    server, client = pair
    client.sendall(b"hello")
    assert relay.pull(server.fileno()) == 5
    with select.epoll() as epoll:
        assert relay.push(epoll.fileno(), 5) == (0, b"hello")
    client.sendall(b"world")
    assert relay.pull(server.fileno()) == 0
    assert server.recv(100) == b"world"


def test_without_a_free_descriptor_nothing_is_pulled_until_release(
    relay: Relay, pair: Pair
) -> None:
    """If no descriptor is free for a pipe, nothing is pulled until release_if_unused();
    the bytes stay in the socket.
    """
    server, client = pair
    client.sendall(b"hello")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert relay.pull(server.fileno()) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert relay.pull(server.fileno()) == 0
    relay.release_if_unused()
    assert relay.pull(server.fileno()) == 5
    assert relay.push(server.fileno(), 5) == (5, b"")


def test_an_unused_pipe_is_closed(relay: Relay, pair: Pair) -> None:
    """The first release_if_unused() after a use keeps the pipe, the second closes it;
    the next pull opens another.
    """
    server, client = pair
    before = procs.fds(os.getpid())
    for _ in range(2):
        client.sendall(b"hello")
        assert relay.pull(server.fileno()) == 5
        assert relay.push(server.fileno(), 5) == (5, b"")
        relay.release_if_unused()
        assert len(procs.fds(os.getpid())) == len(before) + 2
        relay.release_if_unused()
        assert procs.fds(os.getpid()) == before
