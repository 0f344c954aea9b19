"""The engine, turned by hand over real sockets: bounds of a connection, faults of a
service, deadlines, drain, and what the scoreboard and the log say of each end.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from unpd.worker.event.connection import BULK, LINGER_S, QUIET_S, Connection, Stage, Terms

from tests.support import clients, procs
from unpd.board import layout
from unpd.board import memory as sb
from unpd.kernel.sockets import ListenOptions, listen_tcp, listen_unix
from unpd.log_events import Level
from unpd.logs import Log
from unpd.loop import now
from unpd.names import EndCause
from unpd.services.base import Piece, Reply, Service, same
from unpd.services.echo import Echo, EchoOptions
from unpd.sinks import Sink
from unpd.worker.accepting import LONGEST_PAUSE_S, PATIENCE, Listener, errno_cell
from unpd.worker.event.ending import peer_name
from unpd.worker.event.engine import (
    BEAT_S,
    BULK_BYTES,
    HIGH_WATER_BYTES,
    LITTLE_BYTES,
    LOOK_AHEAD_S,
    LOW_WATER_BYTES,
    MAX_EVENTS,
    READ_BYTES,
    Engine,
)
from unpd.worker.event.intake import PATROL_S

MIB = 1 << 20
PERIOD = bytes(range(251))
PATIENCE_S = 10.0
SIOCOUTQNSD = 0x894B
"""Of linux/sockios.h: how many bytes of the send queue were not sent yet."""
OPTIONS = ListenOptions(
    backlog=64, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o600
)


@dataclass(slots=True)
class Saying:
    """A service that says ``greeting`` and then does ``reply`` (None: closes); either
    may be made to fail.
    """

    greeting: bytes = b""
    reply: Reply | None = None
    fault: Exception | None = None

    def greet(self, wall_s: float) -> bytes:
        """The greeting, or the fault."""
        if self.fault is not None:
            raise self.fault
        return self.greeting

    def converse(self) -> Reply | None:
        """The conversation."""
        return self.reply


@dataclass(frozen=True, slots=True)
class Times:
    """The deadlines of a service; 0 for none."""

    idle_s: float = 0.0
    session_s: float = 0.0
    user_s: float = 0.0


@dataclass(slots=True)
class Bench:
    """An engine with one listener a service, its row of a scoreboard, its log in
    memory, and its clients.
    """

    engine: Engine
    cells: memoryview
    addresses: list[clients.Address]
    lines: list[bytes]
    socks: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def connect(self, index: int = 0) -> socket.socket:
        """A client in the queue of listener ``index``."""
        return self.socks.enter_context(
            clients.connect(self.addresses[index], timeout_s=PATIENCE_S)
        )

    def until(self, condition: Callable[[], object], message: str = "the condition") -> None:
        """Turn until ``condition`` holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {message}"
            self.engine.turn()

    def read(self, sock: socket.socket, count: int) -> bytes:
        """``count`` bytes (or fewer, if the end comes first) as the engine turns."""
        sock.setblocking(False)
        got = bytearray()
        ended = False

        def enough() -> bool:
            nonlocal ended
            with contextlib.suppress(BlockingIOError):
                while len(got) < count and not ended:
                    piece = sock.recv(count - len(got))
                    got.extend(piece)
                    ended = not piece
            return ended or len(got) >= count

        self.until(enough, f"{count} bytes")
        return bytes(got)

    def bulk(self, sock: socket.socket) -> Connection:
        """Make the conversation of ``sock``, the only one, a flow in bulk, of which all
        has come back. ``sock`` blocks no more.
        """
        self.until(lambda: self.engine.count, "the connection")
        (connection,) = self.engine.connections()
        sock.setblocking(False)

        def relayed() -> bool:
            self.read(sock, sock.send(bytes(2 * BULK_BYTES)))
            return connection.great_reads == BULK

        self.until(relayed, "a flow in bulk")
        return connection

    def stuff(self, sock: socket.socket) -> int:
        """Send, and read nothing, until neither the sockets nor the engine take any
        more (32 MiB at most); how many bytes it were. ``sock`` blocks no more.
        """
        sock.setblocking(False)
        sent = 0

        def stuck() -> bool:
            nonlocal sent
            with contextlib.suppress(BlockingIOError):
                while sent < 32 * MIB:
                    sent += sock.send(stream(sent, 65536))
            connection = next(iter(self.engine.connections()), None)
            return (
                connection is not None
                and connection.mask == select.EPOLLOUT
                and not select.select([], [sock], [], 0)[1]
            )

        self.until(stuck, "the engine to stop reading")
        return sent

    def ended(self, column: int = 0) -> dict[EndCause, int]:
        """How many connections of a service ended, by cause."""
        at = layout.service_cells(column) + layout.Service.ENDED
        return {
            cause: self.cells[at + index]
            for index, cause in enumerate(layout.END_CAUSES)
            if self.cells[at + index]
        }

    def count(self, cell: int, column: int = 0) -> int:
        """One cell of a service."""
        return self.cells[layout.service_cells(column) + cell]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log with that event."""
        rows = [json.loads(line) for line in self.lines]
        return [row for row in rows if row["event"] == name]


def pipes() -> set[str]:
    """The pipes that this process has."""
    return {name for name in procs.fds(os.getpid()).values() if name.startswith("pipe:")}


def stream(begin: int, count: int) -> bytes:
    """``count`` bytes of an endless stream from its byte ``begin`` on; none that is
    lost or repeated goes unseen.
    """
    return (PERIOD * (count // len(PERIOD) + 2))[begin % len(PERIOD) :][:count]


MakeBench = Callable[..., Bench]
both_ways = pytest.mark.parametrize("level", ["debug", "info"])
"""Whose own bytes are to be told is served in the general way, not in the common one.
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    """Makes benches of one service after the other, each with its times."""
    with contextlib.ExitStack() as stack:

        def make(
            *services: Service,
            times: Times | None = None,
            max_connections: int = 100,
            tcp: bool = False,
            level: Level = "debug",
        ) -> Bench:
            span = times or Times()
            fd = sb.create()
            board = sb.Scoreboard(fd)
            stack.callback(socket.close, fd)
            lines: list[bytes] = []

            def write(line: bytes) -> int:
                lines.append(line)
                return len(line)

            listeners, addresses = [], []
            for column, service in enumerate(services or (Echo(EchoOptions()),)):
                path = str(tmp_path / f"{len(list(tmp_path.iterdir()))}.sock")
                sock = stack.enter_context(
                    listen_tcp("127.0.0.1", 0, OPTIONS) if tcp else listen_unix(path, OPTIONS)
                )
                terms = Terms(
                    f"service-{column}",
                    service,
                    layout.service_cells(column),
                    span.idle_s,
                    span.session_s,
                    span.user_s,
                )
                listeners.append(
                    Listener(
                        sock,
                        terms,
                        "the listener",
                        OPTIONS.backlog,
                        layout.Row.LISTENER_ACCEPTED + column,
                    )
                )
                addresses.append(sock.getsockname())
            cells = board.row(0)
            engine = Engine(listeners, max_connections, cells, Log(Sink(-1, write), level, "json"))
            made = Bench(engine, cells, addresses, lines)
            stack.enter_context(made.socks)
            stack.callback(engine.epoll.close)
            stack.callback(engine.leave)
            return made

        yield make


# a connection's life


def test_every_end_is_on_the_scoreboard_and_in_the_log(bench: MakeBench) -> None:
    """Accepted, bytes each way, duration and cause are counted in the service's own
    column; the log has one line with the same.
    """
    b = bench(Echo(EchoOptions()), Saying(b"bye\n"))
    first, second = b.connect(0), b.connect(1)
    first.sendall(b"hello")
    assert b.read(first, 5) == b"hello"
    assert b.read(second, 100) == b"bye\n"
    first.close()
    second.close()
    b.until(lambda: not b.engine.count)
    assert [
        b.count(cell, 0)
        for cell in (layout.Service.ACCEPTED, layout.Service.RECEIVED, layout.Service.SENT)
    ] == [1, 5, 5]
    assert [
        b.count(cell, 1)
        for cell in (layout.Service.ACCEPTED, layout.Service.RECEIVED, layout.Service.SENT)
    ] == [1, 0, 4]
    assert b.ended(0) == {EndCause.CLIENT_FIN: 1}
    assert b.ended(1) == {EndCause.DONE: 1}
    assert (
        sum(
            b.count(layout.Service.DURATION_BUCKETS + index)
            for index in range(len(layout.DURATION_BOUNDS_S) + 1)
        )
        == 1
    )
    told = {
        row["service"]: (row["cause"], row["received"], row["sent"], row["peer"])
        for row in b.events("connection.ended")
    }
    assert told == {"service-0": ("client_fin", 5, 5, "unix"), "service-1": ("done", 0, 4, "unix")}


def test_a_turn_writes_the_heartbeat(bench: MakeBench) -> None:
    """The stamp is of the monotonic clock and comes also when nothing happens, and no
    more often than every BEAT_S when much does.
    """
    b = bench()
    began = now()
    b.engine.turn()
    first = b.cells[layout.Row.BEAT_NS]
    assert began <= first / layout.NS <= now() <= began + PATIENCE_S
    b.until(lambda: b.cells[layout.Row.BEAT_NS] != first)
    stamps = [first, b.cells[layout.Row.BEAT_NS]]
    sock = b.connect()
    for _ in range(50):
        sock.sendall(b"x")
        assert b.read(sock, 1) == b"x"
        stamps.append(b.cells[layout.Row.BEAT_NS])
    steps = [later - earlier for earlier, later in pairwise(stamps) if later != earlier]
    assert all(BEAT_S <= step / layout.NS + 1e-6 <= PATIENCE_S for step in steps)


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_a_greeting_of_any_length_goes_out_before_the_end(bench: MakeBench, tcp: bool) -> None:
    """A greeting that no socket takes at once is sent to its last byte, then the FIN;
    junk from the client changes nothing.
    """
    greeting = stream(0, 9 * MIB)
    b = bench(Saying(greeting), tcp=tcp)
    sock = b.connect()
    sock.sendall(b"junk")
    assert b.read(sock, len(greeting) + 1) == greeting
    sock.close()
    b.until(lambda: not b.engine.count)
    assert b.ended() == {EndCause.DONE: 1}
    assert b.count(layout.Service.SENT) == len(greeting)


def test_only_last_words_are_held_back(bench: MakeBench) -> None:
    """A service that greets and then talks has its greeting sent at once: held back for
    a FIN that does not come it would wait 200 ms.
    """
    b = bench(Saying(b"hello\r\n", reply=same), tcp=True)
    sock = b.connect()
    b.until(lambda: b.engine.count)
    (connection,) = b.engine.connections()
    unsent = fcntl.ioctl(connection.fd, SIOCOUTQNSD, bytes(4))
    assert int.from_bytes(unsent, sys.byteorder) == 0
    assert b.read(sock, 7) == b"hello\r\n"


def test_only_a_great_message_after_little_ones_comes_in_two_pieces(bench: MakeBench) -> None:
    """After two that brought little a read asks for little; if that is filled, the next
    one asks for all, and so does the first one of a connection.
    """
    pieces: list[int] = []

    def reply(piece: Piece) -> Piece:
        pieces.append(len(piece))
        return piece

    b = bench(Saying(reply=reply))
    sock = b.connect()
    great = LITTLE_BYTES + 1000
    for size in (
        great,
        LITTLE_BYTES,
        great,
        1,
        great,
        1,
        1,
        LITTLE_BYTES - 1,
        great,
        great,
        1,
        1,
        LITTLE_BYTES + 1,
        BULK_BYTES,
        1,
        1,
        LITTLE_BYTES + 1,
    ):
        message = bytes(index % 251 for index in range(size))
        sock.sendall(message)
        assert b.read(sock, size) == message
    assert pieces[:5] == [great, LITTLE_BYTES, great, 1, great]
    assert pieces[5:10] == [1, 1, LITTLE_BYTES - 1, LITTLE_BYTES, 1000]
    assert pieces[10:] == [great, 1, 1, LITTLE_BYTES, 1, BULK_BYTES, 1, 1, LITTLE_BYTES, 1]
    assert (b.count(layout.Service.RECEIVED), b.count(layout.Service.SENT)) == (
        sum(pieces),
        sum(pieces),
    )


@both_ways
def test_output_is_bounded_and_reading_goes_on_where_it_stopped(
    bench: MakeBench, level: Level
) -> None:
    """A client that does not read is read no further above the high-water mark; below
    the low-water mark it is read again, and nothing is lost.
    """
    b = bench(level=level)
    sock = b.connect()
    sent = b.stuff(sock)
    connection = next(iter(b.engine.connections()))
    assert connection.out is not None
    assert HIGH_WATER_BYTES <= len(connection.out) < HIGH_WATER_BYTES + READ_BYTES
    assert LOW_WATER_BYTES < HIGH_WATER_BYTES
    assert sent < 4 * MIB
    sock.shutdown(socket.SHUT_WR)
    assert b.read(sock, sent + 1) == stream(0, sent)
    assert b.ended() == {EndCause.CLIENT_FIN: 1}
    assert b.count(layout.Service.RECEIVED) == b.count(layout.Service.SENT) == sent


@both_ways
def test_what_comes_while_output_is_pending_goes_behind_it(bench: MakeBench, level: Level) -> None:
    """Also where the socket would take it: epoll says that it is writable only when a
    part of its buffer is free.
    """
    b = bench(level=level)
    sock = b.connect()
    b.until(lambda: b.engine.count)
    (connection,) = b.engine.connections()
    b.engine._keep(connection, b"first ")  # noqa: SLF001 - as a write that took nothing leaves it
    sock.sendall(b"second")
    # readable, and not said to be writable
    b.engine._serve(((connection.fd, select.EPOLLIN),))  # noqa: SLF001
    assert b.read(sock, 12) == b"first second"


@both_ways
def test_what_came_is_counted_also_where_its_answer_fails(bench: MakeBench, level: Level) -> None:
    """The client has gone before it: its bytes are in the books, none is said to be
    sent.
    """
    b = bench(level=level)
    sock = b.connect()
    b.until(lambda: b.engine.count)
    sock.sendall(b"x" * 10)
    sock.close()
    b.until(lambda: not b.engine.count)
    assert [b.count(cell) for cell in (layout.Service.RECEIVED, layout.Service.SENT)] == [10, 0]


@both_ways
def test_each_byte_is_counted_both_ways(bench: MakeBench, level: Level) -> None:
    """Little messages and great ones, over one connection."""
    b = bench(level=level)
    sock = b.connect()
    for size in (1, 64, LITTLE_BYTES, 5000, 1, 1, 1):
        sock.sendall(stream(size, size))
        assert b.read(sock, size) == stream(size, size)
    total = 1 + 64 + LITTLE_BYTES + 5000 + 3
    assert b.count(layout.Service.RECEIVED) == b.count(layout.Service.SENT) == total


def test_what_is_relayed_is_life_and_is_counted(bench: MakeBench) -> None:
    """A piece that never came into the process puts off the end of an idle connection,
    and is in the books and in the line of its end.
    """
    b = bench(tcp=True)
    sock = b.connect()
    connection = b.bulk(sock)
    connection.active_at = 0.0
    before = b.count(layout.Service.RECEIVED)
    assert sock.send(bytes(BULK_BYTES)) == BULK_BYTES
    b.read(sock, BULK_BYTES)
    assert connection.active_at > 0.0
    sock.close()
    b.until(lambda: not b.engine.count)
    assert b.count(layout.Service.RECEIVED) == b.count(layout.Service.SENT) == before + BULK_BYTES
    (told,) = b.events("connection.ended")
    assert told["received"] == told["sent"] == before + BULK_BYTES


def test_an_urgent_byte_and_the_end_of_a_flow_in_bulk_are_read(bench: MakeBench) -> None:
    """At either splice brings nothing, though the socket is readable: a read
    brings it.
    """
    b = bench(tcp=True)
    sock = b.connect()
    b.bulk(sock)
    clients.send_urgent(sock, b"!")
    assert b.read(sock, 1) == b"!"
    b.bulk(sock)
    sock.shutdown(socket.SHUT_WR)
    assert b.read(sock, 1) == b""
    assert b.ended() == {EndCause.CLIENT_FIN: 1}


def test_the_pipe_is_given_back_when_no_flow_is_in_bulk(bench: MakeBench) -> None:
    """An engine has one only while it relays, for all of a user's are rationed."""
    before = pipes()
    b = bench(tcp=True)
    sock = b.connect()
    b.bulk(sock)
    b.read(sock, sock.send(bytes(BULK_BYTES)))
    assert len(pipes() - before) == 1
    b.until(lambda: pipes() == before)


@pytest.mark.parametrize("place", ["greet", "reply"])
def test_a_fault_of_a_service_ends_its_connection_only(bench: MakeBench, place: str) -> None:
    """What a service raises is an error line and the cause error; the next client and
    the other service are served.
    """

    def fail(piece: Piece) -> bytes:
        raise LookupError("a fault of the service")

    faulty = (
        Saying(fault=LookupError("a fault of the service"))
        if place == "greet"
        else Saying(reply=fail)
    )
    b = bench(faulty, Echo(EchoOptions()))
    good = b.connect(1)
    for _ in range(2):
        bad = b.connect(0)
        bad.sendall(b"x")
        with contextlib.suppress(ConnectionResetError):
            assert b.read(bad, 1) == b""
    good.sendall(b"still here")
    assert b.read(good, 10) == b"still here"
    assert b.ended(0) == {EndCause.ERROR: 2}
    assert ["a fault of the service" in row["error"] for row in b.events("connection.failed")] == [
        True,
        True,
    ]


# limits


def test_the_limit_holds_for_all_listeners_together(bench: MakeBench) -> None:
    """With two listeners and more clients than places, the engine serves as many as it
    may and goes on as places become free.
    """
    echo = Echo(EchoOptions())
    b = bench(echo, echo, max_connections=3)
    socks = [b.connect(index % 2) for index in range(8)]
    for sock in socks:
        sock.sendall(b"x")
    b.until(lambda: b.engine.count >= 3)
    # One listener's client may come in over the limit: its worker was woken for it and
    # no other was.
    assert 3 <= b.engine.count <= 4
    held = b.engine.count
    b.engine.turn()
    assert b.engine.count == held
    for sock in socks:
        assert b.read(sock, 1) == b"x"
        sock.close()
    b.until(lambda: not b.engine.count)
    assert b.count(layout.Service.ACCEPTED, 0) + b.count(layout.Service.ACCEPTED, 1) == 8


def test_a_client_that_another_worker_was_woken_for_is_found(bench: MakeBench) -> None:
    """Who waits in a queue without a wake-up for us, because the worker that got it has
    no descriptor left or hangs, is accepted within a second or so.
    """
    b = bench()
    b.engine.turn()
    # the wake-up went elsewhere
    b.engine.epoll.unregister(next(iter(b.engine._listeners._by_fd)))  # noqa: SLF001
    sock = b.connect()
    sock.sendall(b"x")
    began = now()
    assert b.read(sock, 1) == b"x"
    assert now() - began < 2 * PATROL_S + 1.0


def test_a_listener_that_somebody_ended_costs_nothing_and_nobody(bench: MakeBench) -> None:
    """It is ready for ever and gives nobody: it rests, is told once, and the other
    service and its clients go on.
    """
    b = bench(Echo(EchoOptions()), Echo(EchoOptions()))
    known = b.connect(1)
    b.until(lambda: b.engine.count)
    # as whoever shares it could
    next(iter(b.engine._listeners._by_fd.values())).sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001
    turns, began = 0, now()
    while now() - began < 2.5 * LONGEST_PAUSE_S:
        b.engine.turn()
        turns += 1
    assert turns < 20
    assert [row["errno"] for row in b.events("accept.failed")] == ["EINVAL"]
    known.sendall(b"alive")
    assert b.read(known, 5) == b"alive"
    another = b.connect(1)
    another.sendall(b"alive")
    assert b.read(another, 5) == b"alive"


# deadlines


@both_ways
def test_idle_is_who_has_said_nothing_however_late_the_engine_looks(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, level: Level
) -> None:
    """Of more clients than a turn serves each has said something before the idle
    timeout was over, and the engine stood still beyond it: each is answered and served
    further.
    """
    b = bench(times=Times(idle_s=LOOK_AHEAD_S), max_connections=2 * MAX_EVENTS, level=level)
    socks = []
    for _ in range(2 * MAX_EVENTS):
        socks.append(b.connect())
        b.until(lambda: b.engine.count == len(socks))
    for sock in socks:
        sock.sendall(b"ping")
    monkeypatch.setattr("unpd.worker.event.engine.now", lambda: now() + 2 * LOOK_AHEAD_S)
    for sock in socks:
        assert b.read(sock, 4) == b"ping"
    assert b.ended() == {}


@both_ways
def test_who_talks_is_not_idle(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, level: Level
) -> None:
    """A client that says something in each half of its idle timeout is served for
    longer than that; once it is silent, it is idle.
    """
    idle_s, later_s = 60.0, 0.0
    monkeypatch.setattr("unpd.worker.event.engine.now", lambda: now() + later_s)
    b = bench(times=Times(idle_s=idle_s), level=level)
    sock = b.connect()
    for _ in range(5):
        sock.setblocking(True)
        sock.sendall(b"x")
        assert b.read(sock, 1) == b"x"
        later_s += idle_s / 2
    b.engine.turn()
    assert [connection.stage for connection in b.engine.connections()] == [Stage.SERVING]
    later_s += idle_s
    assert b.read(sock, 1) == b""
    sock.close()
    b.until(lambda: not b.engine.count)
    assert b.ended() == {EndCause.IDLE: 1}


def test_idle_and_session_end_with_a_fin(bench: MakeBench) -> None:
    """The engine parts from a silent client by its FIN, and from one that talks too
    long likewise; each by its own cause.
    """
    echo = Echo(EchoOptions())
    for times, cause in (
        (Times(idle_s=0.2), EndCause.IDLE),
        (Times(idle_s=60.0, session_s=0.2), EndCause.SESSION_LIMIT),
    ):
        b = bench(echo, times=times)
        sock = b.connect()
        assert b.read(sock, 1) == b""
        assert [c.stage for c in b.engine.connections()] == [Stage.LINGERING]
        sock.close()
        b.until(lambda b=b: not b.engine.count)  # type: ignore[misc]
        assert b.ended() == {cause: 1}


def test_a_unix_peer_that_does_not_read_is_stalled(bench: MakeBench) -> None:
    """UNIX sockets know no user timeout of the kernel; the engine has its own."""
    b = bench(Echo(EchoOptions()), times=Times(idle_s=60.0, user_s=0.3))
    sock = b.connect()
    sock.setblocking(False)

    def flooded() -> bool:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while sock.send(bytes(65536)):
                pass
        return bool(b.ended())

    b.until(flooded)
    assert b.ended() == {EndCause.STALLED: 1}


@pytest.mark.parametrize(
    "times",
    [Times(idle_s=60.0, user_s=1.0), Times(idle_s=1.0, user_s=60.0)],
    ids=["stalled", "idle"],
)
def test_a_unix_peer_that_reads_a_little_at_a_time_is_served_to_the_end(
    bench: MakeBench, times: Times
) -> None:
    """Its socket says that it can be written when three quarters are free, which takes
    it longer than its deadline; what it took meanwhile counts.
    """
    b = bench(Echo(EchoOptions()), times=times)
    sock = b.connect()
    sent = b.stuff(sock)
    got, began = 0, now()
    while now() - began < 3.0:
        got += len(
            sock.recv(65536)
        )  # what the kernel holds is freed in pieces as large as they were sent
        b.engine.turn()
    assert not b.ended()
    sock.shutdown(socket.SHUT_WR)
    assert got + len(b.read(sock, sent)) == sent


# draining


def test_stop_accepting_takes_what_waits_and_closes(bench: MakeBench) -> None:
    """Clients in the queue at that moment are accepted, whatever the limit; later ones
    are refused by the closed listener.
    """
    b = bench(max_connections=2)
    socks = [b.connect() for _ in range(5)]
    b.engine.stop_accepting()
    assert b.engine.count == 5
    assert b.cells[layout.Row.LISTENER_ACCEPTED] == 5
    for sock in socks:
        sock.sendall(b"x")
        assert b.read(sock, 1) == b"x"
    with pytest.raises(ConnectionRefusedError):
        b.connect()


def test_the_queue_is_drained_once_and_not_for_ever(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A UNIX listener cannot tell its queue. Whoever connects as fast as the engine
    accepts keeps it no longer than a full queue does.
    """
    b = bench()
    more = iter(range(10 * OPTIONS.backlog))
    # a client that comes in the middle of the drain
    accept_one = Listener._accept_one  # noqa: SLF001

    def and_another(listener: Listener) -> int:
        if next(more, None) is not None:
            b.connect()
        return accept_one(listener)

    b.connect()
    monkeypatch.setattr(Listener, "_accept_one", and_another)
    b.engine.stop_accepting()
    assert b.engine.count == OPTIONS.backlog + 1


def test_a_listener_that_cannot_accept_does_not_hold_up_the_drain(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where each accept fails nor where the listener is broken; connections
    live on, and each failure is counted.
    """
    for number in (errno.EACCES, errno.EMFILE, errno.EINVAL):
        b = bench()
        known = b.connect()
        b.until(lambda b=b: b.engine.count)  # type: ignore[misc]
        b.connect()

        def fail(listener: Listener, number: int = number) -> int:
            raise OSError(number, "as the test says")

        with monkeypatch.context() as patch:
            patch.setattr(Listener, "_accept_one", fail)
            b.engine.stop_accepting()
        known.sendall(b"alive")
        assert b.read(known, 5) == b"alive"
        assert 1 <= b.count(layout.Service.ACCEPT_ERRORS + errno_cell(number)) <= PATIENCE


@pytest.mark.parametrize("count", [1, 4 * MAX_EVENTS])
@pytest.mark.parametrize("patience_s", [5.0, 0.0], ids=["stop", "retired"])
@both_ways
def test_what_was_said_before_the_order_is_answered(
    bench: MakeBench, level: Level, count: int, patience_s: float
) -> None:
    """However many clients, long silent, have each said something that the engine has
    not read yet when it is told to finish: each is answered, then gets its FIN.
    """
    b = bench(max_connections=count, level=level)
    socks = []
    for _ in range(count):
        socks.append(b.connect())
        b.until(lambda: b.engine.count == len(socks))
    for connection in b.engine.connections():
        connection.active_at -= 10.0
        connection.great_reads = 0
    for sock in socks:
        sock.sendall(b"ping" * LITTLE_BYTES)
    b.engine.stop_accepting()
    b.engine.finish(now() + patience_s, 1.0)
    for sock in socks:
        assert b.read(sock, 4 * LITTLE_BYTES + 1) == b"ping" * LITTLE_BYTES
        sock.close()
    b.until(lambda: not b.engine.count)
    assert b.ended() == {EndCause.SHUTDOWN: count}


def test_who_is_ending_already_is_waited_for_no_longer(bench: MakeBench) -> None:
    """A client that has had our FIN before the stop gets what a stop gives to each, not
    two seconds more.
    """
    b = bench(Saying(b"bye\n"))
    sock = b.connect()
    assert b.read(sock, 5) == b"bye\n"
    b.engine.stop_accepting()
    began = now()
    b.engine.finish(began + 5.0, 0.2)
    b.until(lambda: not b.engine.count)
    assert 0.2 <= now() - began < LINGER_S
    assert b.ended() == {EndCause.DONE: 1}


@both_ways
def test_finish_ends_the_quiet_ones_soon_and_the_others_in_time(
    bench: MakeBench, level: Level
) -> None:
    """After finish a client that is quiet gets its FIN after a moment, one that goes on
    talking at the deadline, both as shutdown; no byte is unanswered.
    """
    b = bench(level=level)
    quiet, talker = b.connect(), b.connect()
    b.engine.stop_accepting()
    began = now()
    b.engine.finish(began + 1.0, 0.3)
    ends = {quiet: math.inf, talker: math.inf}
    quiet.setblocking(False)
    talker.setblocking(False)
    said, heard = 0, 0

    def over() -> bool:
        nonlocal said, heard
        for sock, ended_s in ends.items():
            with contextlib.suppress(BlockingIOError):
                while piece := sock.recv(65536):
                    heard += len(piece)
                ends[sock] = min(ended_s, now() - began)
        if ends[talker] == math.inf:
            said += talker.send(b"x")
        return max(ends.values()) < math.inf

    b.until(over)
    assert QUIET_S <= ends[quiet] < 1.0 <= ends[talker]
    assert heard == said
    quiet.close()
    talker.close()
    b.until(lambda: not b.engine.count)
    assert b.ended() == {EndCause.SHUTDOWN: 2}


def test_a_peer_that_never_closes_is_waited_for_no_longer_than_the_linger(bench: MakeBench) -> None:
    """After our FIN the engine reads and discards for linger_s, then leaves."""
    b = bench()
    sock = b.connect()
    b.engine.stop_accepting()
    began = now()
    b.engine.finish(began, 0.3)
    assert b.read(sock, 1) == b""
    b.until(lambda: not b.engine.count)
    assert 0.3 <= now() - began < PATIENCE_S
    assert b.ended() == {EndCause.SHUTDOWN: 1}


def test_leave_ends_all_at_once(bench: MakeBench) -> None:
    """Every connection is closed and booked as shutdown; what was ending for another
    reason keeps that.
    """
    b = bench(Echo(EchoOptions()), Saying(b"bye\n"))
    socks = [b.connect(0), b.connect(0), b.connect(1)]
    assert b.read(socks[2], 4) == b"bye\n"
    b.until(lambda: b.engine.count == 3)
    b.engine.leave()
    assert not b.engine.count
    assert b.ended(0) == {EndCause.SHUTDOWN: 2}
    assert b.ended(1) == {EndCause.DONE: 1}


# names


def test_a_peer_s_name() -> None:
    """IPv4 and mapped IPv4 look the same, IPv6 has brackets, UNIX has no address, and a
    connection that is gone is unknown.
    """
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
            with socket.create_connection((host, port)) as client, listener.accept()[0] as accepted:
                assert peer_name(accepted) == f"{shown}:{client.getsockname()[1]}"
    with socket.socket() as unconnected:
        assert peer_name(unconnected) == "unknown"
    left, right = socket.socketpair()
    with left, right:
        assert peer_name(left) == "unix"
