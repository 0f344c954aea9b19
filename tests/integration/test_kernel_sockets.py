"""Listening sockets: their last moment, and listening again after a shutdown."""

import os
import socket

import pytest

from tests.support import clients, faults
from tests.support.waiting import until
from unpd.kernel import handshakes, sockets, tcp_info
from unpd.kernel.sockets import ListenOptions

OPTIONS = ListenOptions(backlog=16, ipv6_only=False, keepalive=False, user_timeout_s=0.0, mode=0)


@faults.requires_root
def test_a_handshake_under_way_completes_and_no_new_one_begins() -> None:
    """After stop_new_handshakes(), a handshake under way completes while another
    connection is queued, and no new one begins. Without its last segment the client,
    which may believe that it is connected, would be reset at the close.
    """
    with sockets.listen_tcp("127.0.0.1", 0, OPTIONS) as listener:
        # The handshake of a client that says nothing stays half done on our side: its
        # last segment is dropped until data comes (tcp(7)).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        address = listener.getsockname()
        with clients.connect(address) as queued, clients.connect(address) as under_way:
            queued.send(b"x")
            until(lambda: tcp_info.accept_queue(listener) == (1, 16), 5.0, "the first to be queued")
            handshakes.stop_new_handshakes(listener)
            under_way.send(b"x")
            until(
                lambda: (tcp_info.accept_queue(listener) or (0, 0))[0] == 2,
                5.0,
                "the second to be queued",
            )
            with socket.socket() as late:
                late.settimeout(0.2)
                assert late.connect_ex(address) != 0
            assert handshakes.allow_new_handshakes(listener)
            with clients.connect(address) as again:
                again.send(b"x")
                until(
                    lambda: (tcp_info.accept_queue(listener) or (0, 0))[0] == 3,
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
def test_a_listener_that_was_shut_down_listens_again(host: str, low: bool) -> None:
    """A listener that was shut down listens again at the same address, and its
    connections work.
    """
    with listener_on(host, range(1023, 600, -1) if low else range(1)) as listener:
        address = listener.getsockname()
        assert sockets.is_listening(listener)
        listener.shutdown(socket.SHUT_RDWR)
        assert not sockets.is_listening(listener)
        assert not sockets.has_queued_connection(listener)
        os.seteuid(65534)  # without the capabilities of root
        try:
            sockets.bind_again(listener, address[1])
            sockets.apply_options(listener, OPTIONS)
        finally:
            os.seteuid(0)
        assert sockets.is_listening(listener)
        with clients.connect(address[:2]) as client:
            until(lambda: sockets.has_queued_connection(listener), 5.0, "the client to be queued")
            with listener.accept()[0] as accepted:
                accepted.sendall(b"whole")
                assert clients.read_exactly(client, 5) == b"whole"


def listener_on(host: str, ports: range) -> socket.socket:
    """A listener on the first free port of these."""
    for port in ports:
        try:
            return sockets.listen_tcp(host, port, OPTIONS)
        except OSError:
            continue
    raise AssertionError(f"none of {ports} is free")
