"""The deadlines of sessions in a turned engine, on a clock of the test: idle, session
limit, a peer that does not read. Every test runs with the hot path and without it.
"""

import contextlib
import socket

import pytest

from tests.support.engine import Benches
from unpd.config.times import ServiceTimes
from unpd.names import EndCause
from unpd.worker.event.deadlines import SLOTS_PER_S
from unpd.worker.event.engine import MAX_EVENTS
from unpd.worker.event.session import LOOK_AHEAD_S
from unpd.worker.event.stage import Stage

SLOT_S = 1 / SLOTS_PER_S


def times(idle_s: float = 0.0, session_s: float = 0.0, user_s: float = 0.0) -> ServiceTimes:
    """The times of a service; 0 for none."""
    return ServiceTimes(idle_timeout_s=idle_s, session_timeout_s=session_s, user_timeout_s=user_s)


def test_a_client_that_has_sent_something_is_not_idle_however_late_the_engine_looks(
    bench: Benches,
) -> None:
    """Of more clients than a turn serves each has sent something before the idle
    timeout was over, and the engine stood still beyond it: each is answered and served
    further.
    """
    b = bench(times=times(idle_s=LOOK_AHEAD_S), max_connections=2 * MAX_EVENTS)
    socks = []
    for _ in range(2 * MAX_EVENTS):
        socks.append(b.connect())
        b.until(lambda: b.engine.open == len(socks))
    for sock in socks:
        sock.sendall(b"ping")
    b.advance(2 * LOOK_AHEAD_S)
    for sock in socks:
        assert b.read(sock, 4) == b"ping"
    assert b.ended() == {}


def test_a_client_that_talks_is_not_idle(bench: Benches) -> None:
    """A client that sends something in each half of its idle timeout is served for
    longer than that; once it is silent, it is idle.
    """
    idle_s = 60.0
    b = bench(times=times(idle_s=idle_s))
    sock = b.connect()
    session = b.session()
    for _ in range(5):
        sock.sendall(b"x")
        assert b.read(sock, 1) == b"x"
        b.advance(idle_s / 2)
    assert session.stage is Stage.SERVING
    b.advance(idle_s)
    assert b.read(sock, 1) == b""
    sock.close()
    b.until(lambda: not b.engine.open)
    assert b.ended() == {EndCause.IDLE: 1}


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        (times(idle_s=300.0), EndCause.IDLE),
        (times(idle_s=600.0, session_s=300.0), EndCause.SESSION_LIMIT),
    ],
    ids=["idle", "session"],
)
def test_idle_and_session_limit_end_with_a_fin(
    bench: Benches, limits: ServiceTimes, cause: EndCause
) -> None:
    """A session parts from a silent client by its FIN, and from one that talks too long
    likewise; each by its own cause, at its time and not before.
    """
    b = bench(times=limits)
    sock = b.connect()
    b.session()
    for _ in range(5):  # the wheel is never asked further ahead than LOOK_AHEAD_S
        b.advance(LOOK_AHEAD_S - SLOT_S)
    assert [session.stage for session in b.sessions()] == [Stage.SERVING]
    b.advance(6 * SLOT_S)
    assert b.read(sock, 1) == b""
    assert [session.stage for session in b.sessions()] == [Stage.LINGERING]
    sock.close()
    b.until(lambda: not b.engine.open)
    assert b.ended() == {cause: 1}


def test_a_session_without_limits_is_served_on(bench: Benches) -> None:
    """A timeout of 0 is none: a day of silence changes nothing."""
    b = bench()
    sock = b.connect()
    b.session()
    for _ in range(24):
        b.advance(3600.0)
    sock.sendall(b"x")
    assert b.read(sock, 1) == b"x"


def test_a_unix_peer_that_does_not_read_is_stalled(bench: Benches) -> None:
    """UNIX sockets have no user timeout in the kernel; the engine has its own."""
    b = bench(times=times(idle_s=60.0, user_s=10.0))
    sock = b.connect()
    b.stuff(sock)
    b.advance(10.0 - SLOT_S)
    assert b.ended() == {}
    b.advance(2 * SLOT_S)
    assert b.ended() == {EndCause.STALLED: 1}
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass


def test_a_unix_peer_that_sends_and_does_not_read_is_stalled(bench: Benches) -> None:
    """Its bytes are activity, so that it is not idle; but it takes nothing, and that
    has its own deadline.
    """
    b = bench(times=times(idle_s=5.0, user_s=10.0))
    sock = b.connect()
    session = b.session()
    while not session.stream.out:
        sock.sendall(bytes(4096))
        b.turn()
    for _ in range(4):
        b.advance(2.0)
        received = session.stream.received
        sock.sendall(b"x")
        b.until(lambda: session.stream.received > received, "the byte")  # noqa: B023
    b.advance(2.0 - SLOT_S)
    assert b.ended() == {}
    b.advance(2 * SLOT_S)
    assert b.ended() == {EndCause.STALLED: 1}


@pytest.mark.parametrize(
    "limits",
    [times(idle_s=60.0, user_s=1.0), times(idle_s=1.0, user_s=60.0)],
    ids=["stalled", "idle"],
)
def test_a_unix_peer_that_reads_a_little_at_a_time_is_served_to_the_end(
    bench: Benches, limits: ServiceTimes
) -> None:
    """Its socket says that it is writable when three quarters are free, which takes it
    longer than its deadline; the bytes that it took meanwhile count.
    """
    b = bench(times=limits)
    sock = b.connect()
    sent = b.stuff(sock)
    got = 0
    for _ in range(3):
        got += len(sock.recv(65536))  # the kernel frees pieces as large as they were sent
        for _ in range(5):
            b.advance(0.25)
    assert b.ended() == {}
    sock.shutdown(socket.SHUT_WR)
    assert got + len(b.read(sock, sent)) == sent
