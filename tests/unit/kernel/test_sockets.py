"""Listening sockets: what the last moment of a listener does to who is on the way."""

import socket

from tests.support import clients, faults
from tests.support.waiting import until
from unpd.kernel import sockets
from unpd.kernel.sockets import ListenOptions

OPTIONS = ListenOptions(backlog=16, ipv6_only=False, keepalive=False, user_timeout_s=0.0, mode=0)


@faults.requires_root
def test_a_handshake_under_way_comes_to_its_end_and_a_new_one_does_not_begin() -> None:
    """Its client may believe itself connected already: without its last segment it would be reset at the close. Somebody waits in the queue at that moment."""
    with sockets.listen_tcp("127.0.0.1", 0, OPTIONS) as listener:
        # The handshake of a client that says nothing stays half done on our side: its last segment is dropped until data comes (tcp(7)).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        where = listener.getsockname()
        with clients.connect(where) as queued, clients.connect(where) as under_way:
            queued.send(b"x")
            until(lambda: sockets.queue(listener) == (1, 16), 5.0, "the first to be queued")
            sockets.take_no_more(listener)
            under_way.send(b"x")
            until(lambda: (sockets.queue(listener) or (0, 0))[0] == 2, 5.0, "the second to be queued")
            with socket.socket() as late:
                late.settimeout(0.2)
                assert late.connect_ex(where) != 0
            assert sockets.take_again(listener)
            with clients.connect(where) as again:
                again.send(b"x")
                until(lambda: (sockets.queue(listener) or (0, 0))[0] == 3, 5.0, "the third to be queued")
