"""The deadlines of a connection: idle time, session time, and a peer that does not take
its data. No end comes early, and none is missed.
"""

import select
import socket
import time

import pytest

from tests.support import clients
from tests.support.counts import wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.waiting import pause, until

MIB = 1 << 20
LATE_S = 5.0
"""How much later than its deadline an end may be seen on a busy machine."""


@pytest.fixture
def echo(launch: Launch) -> Unpd:
    """Start three echo services, each with one short deadline, and a daytime
    service.
    """
    return launch(
        """
        [services.idle]
        type = "echo"
        listen = ["tcp://127.0.0.1:0"]
        idle_timeout_s = 1

        [services.session]
        type = "echo"
        listen = ["tcp://127.0.0.1:0"]
        session_timeout_s = 0.4

        [services.stall]
        type = "echo"
        listen = ["tcp://127.0.0.1:0"]
        user_timeout_s = 0.5

        [services.daytime]
        listen = ["tcp://127.0.0.1:0"]
        """
    )


def is_gone(sock: socket.socket) -> bool:
    """Whether the peer has closed both directions: data sent now causes a reset."""
    try:
        sock.send(b"more")
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_a_silent_client_ends_after_its_idle_time(echo: Unpd) -> None:
    """A client that sends nothing gets a FIN after idle_timeout_s, and not before. The
    cause is idle.
    """
    began = time.monotonic()
    with clients.connect(echo.address("idle")) as sock:
        assert clients.read_all(sock) == b""
        assert 1.0 <= time.monotonic() - began < 1.0 + LATE_S
    wait_ended(echo, {"idle": 1}, service="idle")


@pytest.mark.slow
def test_a_client_that_talks_now_and_then_is_never_idle(echo: Unpd) -> None:
    """Each byte restarts the idle time."""
    with clients.connect(echo.address("idle")) as sock:
        for _ in range(6):
            sock.sendall(b"x")
            assert clients.read_exactly(sock, 1) == b"x"
            pause(0.25)
        sock.shutdown(socket.SHUT_WR)
        assert clients.read_all(sock) == b""
    wait_ended(echo, {"client_fin": 1}, service="idle")


def test_a_client_that_sends_slowly_ends_with_its_session(echo: Unpd) -> None:
    """A client that sends single bytes is served until session_timeout_s and then gets
    a FIN. The cause is session_limit.
    """
    began = time.monotonic()
    with clients.connect(echo.address("session")) as sock:
        assert clients.send_slowly(sock, bytes(1000), 0.05) < 1000
        assert 0.4 <= time.monotonic() - began < 0.4 + LATE_S
    wait_ended(echo, {"session_limit": 1}, service="session")


@pytest.mark.slow
def test_a_client_that_ignores_the_servers_fin_is_dropped(echo: Unpd) -> None:
    """A client that keeps the connection after the server's FIN, sending or not, is
    dropped two seconds later. The cause does not change.
    """
    with (
        clients.connect(echo.address("session")) as sending,
        clients.connect(echo.address("daytime")) as silent,
    ):
        assert clients.read_all(silent).endswith(b"\r\n")
        assert clients.read_all(sending) == b""
        until(lambda: is_gone(sending), LATE_S, "the server to close")
        wait_ended(echo, {"session_limit": 1}, service="session")
        wait_ended(echo, {"done": 1}, service="daytime")
        until(lambda: is_gone(silent), LATE_S, "the server to close")
    for service in ("session", "daytime"):
        assert echo.log_events("connection.ended", service=service)[0].fields["duration_s"] >= 2.0


def test_a_living_client_that_never_reads_is_stalled(echo: Unpd) -> None:
    """A client that sends and never reads is reset after user_timeout_s, half-closed or
    not. The cause is stalled, because its kernel still answers probes.
    """
    for count, half_closed in enumerate((False, True), 1):
        with clients.connect(echo.address("stall"), receive_buffer=1) as sock:
            clients.send_until_blocked(sock, 8 * MIB, stall_s=0.1)
            if half_closed:
                sock.shutdown(socket.SHUT_WR)
            wait_ended(echo, {"stalled": count}, service="stall", timeout_s=LATE_S)
            sock.setblocking(True)
            with pytest.raises((ConnectionResetError, TimeoutError)):
                clients.read_all(sock)


@pytest.mark.slow
def test_a_client_that_reads_slowly_is_not_stalled(echo: Unpd) -> None:
    """A client that reads a little at a time for several times user_timeout_s gets its
    last byte.
    """
    with clients.connect(echo.address("stall"), receive_buffer=65536) as sock:
        sent = clients.send_until_blocked(sock, 8 * MIB, stall_s=0.1)
        sock.setblocking(True)
        got = 0
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            got += len(sock.recv(32768))
            pause(0.1)
        sock.shutdown(socket.SHUT_WR)
        assert got + len(clients.read_all(sock)) == sent
    wait_ended(echo, {"client_fin": 1}, service="stall")


def test_a_deadline_of_one_client_does_not_end_another(echo: Unpd) -> None:
    """Fifty silent clients get their FIN in time, while an active client beside them
    stays.
    """
    with (
        clients.connect(echo.address("idle")) as talker,
        clients.idle(echo.address("idle"), 50) as silent,
    ):
        left = set(silent)
        deadline = time.monotonic() + LATE_S
        while left and time.monotonic() < deadline:
            talker.sendall(b"x")
            assert clients.read_exactly(talker, 1) == b"x"
            left -= {sock for sock in select.select(left, [], [], 0.05)[0] if not sock.recv(1)}
        assert not left
        talker.sendall(b"y")
        assert clients.read_exactly(talker, 1) == b"y"
        wait_active(echo, 51, service="idle")  # the silent ones have not answered the FIN yet
    wait_ended(echo, {"idle": 50, "client_fin": 1}, service="idle")
