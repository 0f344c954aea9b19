"""The relay between a socket's input and its own output, over real sockets."""

import contextlib
import os
import resource
import select
import socket
from collections.abc import Iterator

import pytest

from tests.support import procs
from unpd.kernel.relay import Relay

MOST = 100_000


@pytest.fixture
def relay() -> Iterator[Relay]:
    """One that takes MOST bytes at a time."""
    made = Relay(MOST)
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end, which does not block, and the client's."""
    server, client = socket.socketpair()
    with server, client:
        server.setblocking(False)
        client.settimeout(10)
        yield server, client


Pair = tuple[socket.socket, socket.socket]


def full(server: socket.socket) -> None:
    """Fill what ``server`` has for its output."""
    with contextlib.suppress(BlockingIOError):
        while True:
            server.send(bytes(65536))


def test_what_came_goes_back(relay: Relay, pair: Pair) -> None:
    """Pulled, pushed, and there is no rest."""
    server, client = pair
    client.sendall(b"hello")
    assert relay.pull(server.fileno()) == 5
    assert relay.push(server.fileno(), 5) == (5, b"")
    assert client.recv(100) == b"hello"


def test_it_takes_no_more_than_it_may(relay: Relay, pair: Pair) -> None:
    """The rest stays in the socket, for the next time."""
    server, client = pair
    data = bytes(range(250)) * 600
    client.sendall(data)
    got = b""
    while count := relay.pull(server.fileno()):
        assert count <= MOST
        assert relay.push(server.fileno(), count) == (count, b"")
        got += (
            client.recv(MOST, socket.MSG_WAITALL)
            if len(got) + MOST <= len(data)
            else client.recv(MOST)
        )
    assert got == data


def test_nothing_to_be_had_and_the_end_are_left_to_a_read(relay: Relay, pair: Pair) -> None:
    """Either way nothing is pulled."""
    server, client = pair
    assert relay.pull(server.fileno()) == 0
    client.close()
    assert relay.pull(server.fileno()) == 0


def test_what_the_socket_does_not_take_is_given_back_and_nothing_stays(
    relay: Relay, pair: Pair
) -> None:
    """The rest is what was pulled, and the next socket gets what is its own only."""
    server, client = pair
    client.sendall(b"not taken")
    full(server)
    assert relay.pull(server.fileno()) == 9
    assert relay.push(server.fileno(), 9) == (0, b"not taken")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"mine")
        assert relay.pull(ours.fileno()) == 4
        assert relay.push(ours.fileno(), 4) == (4, b"")
        assert theirs.recv(100) == b"mine"


def test_what_a_broken_socket_did_not_take_comes_to_nobody(relay: Relay, pair: Pair) -> None:
    """The error is the socket's; the next one gets what is its own only."""
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
    """As they come from a network card: each has a slot of the pipe, of which there are
    more than the sixteen that a pipe has of itself.
    """
    server, client = pair
    for index in range(40):
        client.send(bytes((index,)))
    assert relay.pull(server.fileno()) == 40
    assert relay.push(server.fileno(), 40) == (40, b"")
    assert b"".join(client.recv(1) for _ in range(40)) == bytes(range(40))


def test_where_splice_is_refused_nothing_is_pulled_until_it_may_be_asked_for_again(
    relay: Relay, pair: Pair
) -> None:
    """What is no socket is refused (EINVAL); what has come stays where it is."""
    server, client = pair
    client.sendall(b"hello")
    with select.epoll() as epoll:
        assert relay.pull(epoll.fileno()) == 0
    assert relay.pull(server.fileno()) == 0
    relay.rest()
    assert relay.pull(server.fileno()) == 5
    assert relay.push(server.fileno(), 5) == (5, b"")


def test_where_a_push_is_refused_the_bytes_are_given_back(relay: Relay, pair: Pair) -> None:
    """That says nothing about the socket: who called writes them."""
    server, client = pair
    client.sendall(b"hello")
    assert relay.pull(server.fileno()) == 5
    with select.epoll() as epoll:
        assert relay.push(epoll.fileno(), 5) == (0, b"hello")
    client.sendall(b"world")
    assert relay.pull(server.fileno()) == 0
    assert server.recv(100) == b"world"


def test_without_a_descriptor_nothing_is_pulled_until_it_may_be_asked_for_again(
    relay: Relay, pair: Pair
) -> None:
    """Too many open files: the bytes stay where they are."""
    server, client = pair
    client.sendall(b"hello")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert relay.pull(server.fileno()) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert relay.pull(server.fileno()) == 0
    relay.rest()
    assert relay.pull(server.fileno()) == 5
    assert relay.push(server.fileno(), 5) == (5, b"")


def test_a_pipe_that_was_not_used_is_given_back(relay: Relay, pair: Pair) -> None:
    """Not at the first rest after it was used, but at the next one; there is another
    one when it is wanted.
    """
    server, client = pair
    before = procs.fds(os.getpid())
    for _ in range(2):
        client.sendall(b"hello")
        assert relay.pull(server.fileno()) == 5
        assert relay.push(server.fileno(), 5) == (5, b"")
        relay.rest()
        assert len(procs.fds(os.getpid())) == len(before) + 2
        relay.rest()
        assert procs.fds(os.getpid()) == before
