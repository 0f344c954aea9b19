"""Listening sockets: what the last moment of a listener does to who is on the way."""

import os
import socket

import pytest

from tests.support import clients, faults
from tests.support.waiting import until
from unpd.kernel import sockets
from unpd.kernel.sockets import ListenOptions

OPTIONS = ListenOptions(backlog=16, ipv6_only=False, keepalive=False, user_timeout_s=0.0, mode=0)


@faults.requires_root
def test_a_handshake_under_way_comes_to_its_end_and_a_new_one_does_not_begin() -> None:
    """Its client may believe itself connected already: without its last segment it
    would be reset at the close. Somebody waits in the queue at that moment.
    """
    with sockets.listen_tcp("127.0.0.1", 0, OPTIONS) as listener:
        # The handshake of a client that says nothing stays half done on our side: its
        # last segment is dropped until data comes (tcp(7)).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        where = listener.getsockname()
        with clients.connect(where) as queued, clients.connect(where) as under_way:
            queued.send(b"x")
            until(lambda: sockets.queue(listener) == (1, 16), 5.0, "the first to be queued")
            sockets.take_no_more(listener)
            under_way.send(b"x")
            until(
                lambda: (sockets.queue(listener) or (0, 0))[0] == 2, 5.0, "the second to be queued"
            )
            with socket.socket() as late:
                late.settimeout(0.2)
                assert late.connect_ex(where) != 0
            assert sockets.take_again(listener)
            with clients.connect(where) as again:
                again.send(b"x")
                until(
                    lambda: (sockets.queue(listener) or (0, 0))[0] == 3,
                    5.0,
                    "the third to be queued",
                )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    "low",
    [False, True],
    ids=["a port that the kernel chose", "a low port, without the privilege for it"],
)
@faults.requires_root
def test_a_listener_that_was_ended_is_made_to_listen_again(host: str, low: bool) -> None:
    """At the same address, and whom it accepts is whole."""
    with listener_on(host, range(1023, 600, -1) if low else range(1)) as listener:
        where = listener.getsockname()
        assert sockets.is_listening(listener)
        listener.shutdown(socket.SHUT_RDWR)
        assert not sockets.is_listening(listener)
        assert not sockets.has_queued(listener)
        os.seteuid(65534)  # without the capabilities of root
        try:
            sockets.prepare_again(listener, where[1])
            sockets.tune(listener, OPTIONS)
        finally:
            os.seteuid(0)
        assert sockets.is_listening(listener)
        with clients.connect(where[:2]) as client:
            until(lambda: sockets.has_queued(listener), 5.0, "the client to be queued")
            with listener.accept()[0] as accepted:
                accepted.sendall(b"whole")
                assert clients.read_exactly(client, 5) == b"whole"


def listener_on(host: str, ports: range) -> socket.socket:
    """A listener on the first of these ports that is free."""
    for port in ports:
        try:
            return sockets.listen_tcp(host, port, OPTIONS)
        except OSError:
            continue
    raise AssertionError(f"none of {ports} is free")
