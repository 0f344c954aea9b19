"""Draining a turned engine: what waits is accepted, what was sent is answered, every
session comes to its end in time. Every test runs with the hot path and without it.
"""

import contextlib
import errno
import math
import os
import socket

import pytest

from tests.support import clients
from tests.support.engine import OPTIONS, AcceptOne, Bench, Benches, Saying
from unpd.board import layout
from unpd.names import EndCause
from unpd.worker.accepting import PATIENCE, Accepted
from unpd.worker.event.deadlines import SLOTS_PER_S
from unpd.worker.event.engine import MAX_EVENTS
from unpd.worker.event.session import QUIET_S
from unpd.worker.event.shared import LINGER_S, SMALL_READ_BYTES
from unpd.worker.ledger import errno_index

SLOT_S = 1 / SLOTS_PER_S


def finish(b: Bench, patience_s: float, linger_s: float) -> None:
    """Order the engine to finish within ``patience_s``."""
    b.engine.stop_accepting()
    b.engine.finish(b.clock.now + patience_s, linger_s)


def test_stop_accepting_takes_what_waits_and_closes(bench: Benches) -> None:
    """Clients in the queue at that moment are accepted, whatever the limit; later ones
    are refused by the closed listener.
    """
    b = bench(max_connections=2)
    address = b.listeners[0].sock.getsockname()
    socks = [b.connect() for _ in range(5)]
    b.engine.stop_accepting()
    assert b.engine.open == 5
    assert b.row[layout.Row.LISTENER_ACCEPTED] == 5
    for sock in socks:
        sock.sendall(b"x")
        assert b.read(sock, 1) == b"x"
    with pytest.raises(ConnectionRefusedError):
        clients.connect(address)


def test_the_queue_is_drained_once_and_not_for_ever(bench: Benches) -> None:
    """A UNIX listener cannot tell its queue. Clients that connect as fast as the engine
    accepts keep it no longer than a full queue does.
    """
    more = iter(range(10 * OPTIONS.backlog))
    made: list[Bench] = []

    def accepting(accept_one: AcceptOne) -> AcceptOne:
        def and_another() -> Accepted:
            if next(more, None) is not None:
                made[0].connect()  # in the middle of the drain
            return accept_one()

        return and_another

    b = bench(accepting=accepting)
    made.append(b)
    b.connect()
    b.engine.stop_accepting()
    assert b.engine.open == OPTIONS.backlog + 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EINVAL])
def test_a_listener_that_cannot_accept_does_not_hold_up_the_drain(
    bench: Benches, number: int
) -> None:
    """Neither where each accept fails nor where the listener is broken; sessions live
    on, and each failure is counted.
    """
    failing = False

    def accepting(accept_one: AcceptOne) -> AcceptOne:
        def or_fail() -> Accepted:
            if failing:
                raise OSError(number, "as the test says")
            return accept_one()

        return or_fail

    b = bench(accepting=accepting)
    known = b.connect()
    b.session()
    b.connect()
    failing = True
    b.engine.stop_accepting()
    known.sendall(b"alive")
    assert b.read(known, 5) == b"alive"
    errors = b.count(layout.Service.ACCEPT_ERRORS + errno_index(number))
    assert 1 <= errors <= PATIENCE


@pytest.mark.parametrize("count", [1, 4 * MAX_EVENTS])
@pytest.mark.parametrize("patience_s", [5.0, 0.0], ids=["stop", "retired"])
def test_what_was_sent_before_the_order_is_answered(
    bench: Benches, count: int, patience_s: float
) -> None:
    """However many clients, long silent, have each sent something that the engine has
    not read yet when it is ordered to finish: each is answered, then gets its FIN.
    """
    b = bench(max_connections=count)
    socks = []
    for _ in range(count):
        socks.append(b.connect())
        b.until(lambda: b.engine.open == len(socks))
        for _ in range(2):  # so that the next read is small
            socks[-1].sendall(b"x")
            assert b.read(socks[-1], 1) == b"x"
    b.clock.advance(10.0)
    message = b"ping" * SMALL_READ_BYTES
    for sock in socks:
        sock.setblocking(True)
        sock.sendall(message)
    finish(b, patience_s, 1.0)
    b.advance(SLOT_S)
    for sock in socks:
        assert b.read(sock, len(message)) == message
    b.advance(QUIET_S + SLOT_S)
    for sock in socks:
        assert b.read(sock, 1) == b""
        sock.close()
    b.until(lambda: not b.engine.open)
    assert b.ended() == {EndCause.SHUTDOWN: count}


def test_a_client_that_has_been_quiet_for_long_is_not_waited_for(bench: Benches) -> None:
    """Its time is over when the order comes: the next turn waits for nothing."""
    b = bench()
    sock = b.connect()
    b.session()
    b.clock.advance(10.0)
    finish(b, 5.0, 1.0)
    b.engine.turn()
    assert sock.recv(1) == b""


def test_a_session_that_is_ending_already_lingers_no_longer(bench: Benches) -> None:
    """A client that has had our FIN before the stop gets what a stop gives to each, not
    two seconds more.
    """
    b = bench(Saying(b"bye\n"))
    sock = b.connect()
    assert b.read(sock, 5) == b"bye\n"
    finish(b, 5.0, 0.25)
    b.advance(0.25 - SLOT_S)
    assert b.engine.open == 1
    b.advance(2 * SLOT_S)
    assert b.engine.open == 0
    assert 0.25 + SLOT_S < LINGER_S
    assert b.ended() == {EndCause.DONE: 1}


def test_finish_ends_the_quiet_ones_soon_and_the_others_in_time(bench: Benches) -> None:
    """After finish a client that is quiet gets its FIN after a moment, one that goes on
    talking at the deadline, both as shutdown; no byte is unanswered.
    """
    b = bench()
    quiet, talker = b.connect(), b.connect()
    finish(b, 1.0, 0.25)
    began = b.clock.now
    ends = {quiet: math.inf, talker: math.inf}
    quiet.setblocking(False)
    talker.setblocking(False)
    sent, heard = 0, 0
    while max(ends.values()) == math.inf:
        assert b.clock.now - began < 2.0
        if ends[talker] == math.inf:
            sent += talker.send(b"x")
        b.advance(0.01)
        for sock, ended_s in ends.items():
            with contextlib.suppress(BlockingIOError):
                while piece := sock.recv(65536):
                    heard += len(piece)
                ends[sock] = min(ended_s, b.clock.now - began)
    assert QUIET_S <= ends[quiet] <= QUIET_S + 2 * SLOT_S < 1.0 <= ends[talker] <= 1.0 + 2 * SLOT_S
    assert heard == sent
    quiet.close()
    talker.close()
    b.until(lambda: not b.engine.open)
    assert b.ended() == {EndCause.SHUTDOWN: 2}


def test_a_peer_that_never_closes_is_awaited_no_longer_than_the_linger(bench: Benches) -> None:
    """After our FIN the engine reads and discards for linger_s, then leaves."""
    b = bench()
    sock = b.connect()
    finish(b, 0.0, 0.5)
    b.advance(SLOT_S)
    assert b.read(sock, 1) == b""
    sock.sendall(b"anything")
    b.advance(0.5 - SLOT_S)
    assert b.engine.open == 1
    b.advance(2 * SLOT_S)
    assert b.engine.open == 0
    assert b.ended() == {EndCause.SHUTDOWN: 1}


def test_leave_ends_all_at_once(bench: Benches) -> None:
    """Every session is closed and booked as shutdown; one that was ending for another
    reason keeps that.
    """
    b = bench(Saying(reply=bytes), Saying(b"bye\n"))
    socks = [b.connect(0), b.connect(0), b.connect(1)]
    assert b.read(socks[2], 4) == b"bye\n"
    b.until(lambda: b.engine.open == 3)
    b.engine.leave()
    assert not b.engine.open
    assert b.ended(0) == {EndCause.SHUTDOWN: 2}
    assert b.ended(1) == {EndCause.DONE: 1}


def test_a_client_in_the_turn_that_closes_the_listener_is_served(bench: Benches) -> None:
    """The wait returns the order and, behind it, the listener that the order has closed
    by then: the client is accepted and served, the worker goes on.
    """
    b = bench(tcp=True)
    reader, writer = os.pipe()
    sock = socket.socket()

    class Order:
        """The order to drain."""

        def ready(self, mask: int) -> None:
            """Drain."""
            os.read(reader, 1)
            b.engine.stop_accepting()

    b.engine.watch(reader, Order())
    os.write(writer, b"!")
    with sock:
        sock.connect(b.listeners[0].sock.getsockname())
        b.engine.turn()
        assert b.engine.open == 1
        sock.sendall(b"hello")
        assert b.read(sock, 5) == b"hello"
        assert b.row[layout.Row.LISTENER_ACCEPTED] == 1
    b.engine.forget(reader)
    for fd in (reader, writer):
        os.close(fd)
