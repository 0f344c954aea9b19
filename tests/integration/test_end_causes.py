"""Each connection ends for one cause, which its metrics count once and its log line
names, with bytes, duration and peer.
"""

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.books import Books, active, books, settled
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import Event
from unpd.names import EndCause

TCP_PEER = re.compile(r"127\.0\.0\.1:\d+")


@pytest.fixture
def unpd(launch: Launch, tmp_path: Path) -> Unpd:
    """One worker; an echo without hurry on TCP and UNIX, a daytime, and an echo with
    short deadlines.
    """
    return launch(
        f"""
        [pools.default]
        workers = 1

        [services.echo]
        listen = ["tcp://127.0.0.1:0", "unix://{tmp_path}/echo.sock"]

        [services.daytime]
        listen = ["tcp://127.0.0.1:0"]
        """
    )


def the_end(unpd: Unpd, cause: EndCause, service: str = "echo") -> Event:
    """The log's line about the one connection that has ended: it gives ``cause``."""
    unpd.wait_event("connection.ended", service=service)
    (event,) = unpd.log_events("connection.ended", service=service)
    assert event.level == "debug"
    assert event.fields["cause"] == cause
    assert 0 <= event.fields["duration_s"] < 60
    return event


def test_a_goodbye_of_the_client_is_client_fin(unpd: Unpd) -> None:
    """A client that closes in good order ends its connection by client_fin."""
    clients.converse(unpd.address("echo"), b"hello")
    assert settled(unpd, {"client_fin": 1}) == Books(1, 0, {"client_fin": 1}, 5, 5)
    event = the_end(unpd, EndCause.CLIENT_FIN)
    assert (event.fields["received"], event.fields["sent"]) == (5, 5)
    assert TCP_PEER.fullmatch(event.fields["peer"])


def test_a_client_of_a_unix_socket_is_unix(unpd: Unpd) -> None:
    """A peer without an address is named unix."""
    clients.converse(unpd.address("echo", 1), b"hello")
    assert the_end(unpd, EndCause.CLIENT_FIN).fields["peer"] == "unix"


def test_a_reset_of_the_client_is_client_rst(unpd: Unpd) -> None:
    """A client that resets ends its connection by client_rst; what it had sent is
    counted, and its address is known.
    """
    sock = clients.connect(unpd.address("echo"))
    sock.sendall(b"hello")
    assert clients.read_exactly(sock, 5) == b"hello"
    clients.reset(sock)
    assert settled(unpd, {"client_rst": 1}) == Books(1, 0, {"client_rst": 1}, 5, 5)
    assert TCP_PEER.fullmatch(the_end(unpd, EndCause.CLIENT_RST).fields["peer"])


def test_a_reset_before_the_accept_is_client_rst(unpd: Unpd) -> None:
    """A client that is gone before the worker takes it from the queue is accepted all
    the same (that is Linux), and ends by client_rst.
    """
    pid = unpd.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    sock = clients.connect(unpd.address("echo"))
    sock.sendall(b"hello")
    clients.reset(sock)
    os.kill(pid, signal.SIGCONT)
    settled(unpd, {"client_rst": 1})
    assert TCP_PEER.fullmatch(the_end(unpd, EndCause.CLIENT_RST).fields["peer"])


def test_the_server_s_own_end_is_done(unpd: Unpd) -> None:
    """A daytime that has answered is done."""
    line = clients.ask(unpd.address("daytime"))
    assert settled(unpd, {"done": 1}, service="daytime") == Books(1, 0, {"done": 1}, 0, len(line))
    assert the_end(unpd, EndCause.DONE, "daytime").fields["sent"] == len(line)


def test_a_worker_that_dies_takes_its_connections_as_worker_died(unpd: Unpd) -> None:
    """The connections of a worker that was killed are booked by the master as
    worker_died; its bytes stay counted, and the next worker goes on counting.
    """
    with clients.connect(unpd.address("echo")) as sock, clients.idle(unpd.address("echo", 1), 2):
        sock.sendall(b"hello")
        assert clients.read_exactly(sock, 5) == b"hello"
        active(unpd, 3)
        before = unpd.workers()
        os.kill(before[0], signal.SIGKILL)
        unpd.respawned(before)
        assert settled(unpd, {"worker_died": 3}) == Books(3, 0, {"worker_died": 3}, 5, 5)
        assert clients.read_all(sock) == b""
    assert unpd.wait_event("child.reaped", kind="worker").fields["connections_lost"] == 3
    clients.converse(unpd.address("echo"), b"again")
    assert settled(unpd, {"worker_died": 3, "client_fin": 1}) == Books(
        4, 0, {"worker_died": 3, "client_fin": 1}, 10, 10
    )


def test_a_stop_ends_what_is_left_as_shutdown(unpd: Unpd) -> None:
    """A client that only listens when the daemon stops gets a FIN, and its line says
    shutdown.
    """
    with clients.connect(unpd.address("echo")) as sock:
        sock.sendall(b"hello")
        assert clients.read_exactly(sock, 5) == b"hello"
        unpd.signal(signal.SIGTERM)
        assert clients.read_all(sock) == b""
        sock.shutdown(socket.SHUT_WR)
        unpd.wait_exit()
    assert the_end(unpd, EndCause.SHUTDOWN).fields["sent"] == 5


def test_above_debug_no_connection_has_a_line(launch: Launch) -> None:
    """At level info the end of a connection is counted and not told."""
    quiet = launch('[log]\nlevel = "info"')
    clients.converse(quiet.address("echo"), b"hello")
    assert books(quiet).received == 5
    settled(quiet, {"client_fin": 1})
    assert not quiet.log_events("connection.ended")
