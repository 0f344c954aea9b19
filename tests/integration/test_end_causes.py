"""Each connection ends for one cause. The metrics count it once, and its log line names
it with bytes, duration and peer.
"""

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.counts import ServiceCounts, service_counts, wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import Event
from unpd.names import EndCause

TCP_PEER = re.compile(r"127\.0\.0\.1:\d+")


@pytest.fixture
def unpd(launch: Launch, tmp_path: Path) -> Unpd:
    """Start one worker with an echo on TCP and UNIX and a daytime."""
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
    """Return the log line of the only connection that has ended. Assert its
    ``cause``.
    """
    unpd.wait_event("connection.ended", service=service)
    (event,) = unpd.log_events("connection.ended", service=service)
    assert event.level == "debug"
    assert event.fields["cause"] == cause
    assert 0 <= event.fields["duration_s"] < 60
    return event


def test_a_fin_of_the_client_is_client_fin(unpd: Unpd) -> None:
    """A client that closes normally ends its connection as client_fin."""
    clients.converse(unpd.address("echo"), b"hello")
    assert wait_ended(unpd, {"client_fin": 1}) == ServiceCounts(1, 0, {"client_fin": 1}, 5, 5)
    event = the_end(unpd, EndCause.CLIENT_FIN)
    assert (event.fields["received"], event.fields["sent"]) == (5, 5)
    assert TCP_PEER.fullmatch(event.fields["peer"])


@pytest.mark.parametrize(
    ("service", "resets", "cause"),
    [
        ("echo", False, EndCause.CLIENT_FIN),
        ("echo", True, EndCause.CLIENT_RST),
        ("daytime", False, EndCause.DONE),
        ("daytime", True, EndCause.DONE),
    ],
)
def test_the_log_line_names_the_client(
    unpd: Unpd, service: str, resets: bool, cause: EndCause
) -> None:
    """The line of each end has the client's address and port, whoever ended the
    connection and whether or not the client has reset it since.
    """
    with clients.connect(unpd.address(service)) as sock:
        host, port = sock.getsockname()
        if service == "echo":
            sock.sendall(b"hello")
            assert clients.read_exactly(sock, 5) == b"hello"
        else:
            assert clients.read_all(sock)
        if resets:
            clients.reset(sock)
    assert the_end(unpd, cause, service).fields["peer"] == f"{host}:{port}"


def test_a_client_of_a_unix_socket_is_its_user(unpd: Unpd) -> None:
    """A peer of a UNIX socket has no address and is shown as its user."""
    clients.converse(unpd.address("echo", 1), b"hello")
    assert the_end(unpd, EndCause.CLIENT_FIN).fields["peer"] == f"uid:{os.geteuid()}"


def test_a_reset_of_the_client_is_client_rst(unpd: Unpd) -> None:
    """A client that resets ends its connection as client_rst. Its bytes are counted."""
    sock = clients.connect(unpd.address("echo"))
    sock.sendall(b"hello")
    assert clients.read_exactly(sock, 5) == b"hello"
    clients.reset(sock)
    assert wait_ended(unpd, {"client_rst": 1}) == ServiceCounts(1, 0, {"client_rst": 1}, 5, 5)
    assert TCP_PEER.fullmatch(the_end(unpd, EndCause.CLIENT_RST).fields["peer"])


def test_a_reset_before_the_accept_is_client_rst(unpd: Unpd) -> None:
    """Linux accepts a client that is gone before the worker takes it from the queue.
    Its connection ends as client_rst, and the log still names the client.
    """
    pid = unpd.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    sock = clients.connect(unpd.address("echo"))
    host, port = sock.getsockname()
    sock.sendall(b"hello")
    clients.reset(sock)
    os.kill(pid, signal.SIGCONT)
    wait_ended(unpd, {"client_rst": 1})
    assert the_end(unpd, EndCause.CLIENT_RST).fields["peer"] == f"{host}:{port}"


def test_the_servers_own_end_is_done(unpd: Unpd) -> None:
    """A daytime connection that got its answer ends as done."""
    line = clients.ask(unpd.address("daytime"))
    assert wait_ended(unpd, {"done": 1}, service="daytime") == ServiceCounts(
        1, 0, {"done": 1}, 0, len(line)
    )
    assert the_end(unpd, EndCause.DONE, "daytime").fields["sent"] == len(line)


def test_connections_of_a_killed_worker_end_as_worker_died(unpd: Unpd) -> None:
    """The master counts the connections of a killed worker as worker_died. Their bytes
    stay counted, and the next worker goes on counting.
    """
    with clients.connect(unpd.address("echo")) as sock, clients.idle(unpd.address("echo", 1), 2):
        sock.sendall(b"hello")
        assert clients.read_exactly(sock, 5) == b"hello"
        wait_active(unpd, 3)
        before = unpd.workers()
        os.kill(before[0], signal.SIGKILL)
        unpd.wait_respawned(before)
        assert wait_ended(unpd, {"worker_died": 3}) == ServiceCounts(3, 0, {"worker_died": 3}, 5, 5)
        assert clients.read_all(sock) == b""
    assert unpd.wait_event("child.reaped", kind="worker").fields["connections_lost"] == 3
    lost_line = unpd.wait_event("connections.lost", service="echo")
    assert (lost_line.fields["cause"], lost_line.fields["connections"]) == ("worker_died", 3)
    answer = unpd.run("connections", "--ended", "--json", "--control", str(unpd.control))
    (lost,) = json.loads(answer.stdout)["ended"]
    assert (lost["cause"], lost["connections"], lost["peer"]) == ("worker_died", 3, "unknown")
    assert (lost["service"], lost["duration_s"]) == ("echo", None)
    clients.converse(unpd.address("echo"), b"again")
    assert wait_ended(unpd, {"worker_died": 3, "client_fin": 1}) == ServiceCounts(
        4, 0, {"worker_died": 3, "client_fin": 1}, 10, 10
    )


def test_a_stop_ends_open_connections_as_shutdown(unpd: Unpd) -> None:
    """A client that is only listening when the daemon stops gets a FIN, and its log
    line says shutdown.
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
    """At level info the end of a connection is counted but not logged."""
    quiet = launch('[log]\nlevel = "info"')
    clients.converse(quiet.address("echo"), b"hello")
    assert service_counts(quiet).received == 5
    wait_ended(quiet, {"client_fin": 1})
    assert not quiet.log_events("connection.ended")
