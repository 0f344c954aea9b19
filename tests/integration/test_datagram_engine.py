"""Datagrams in an engine that the test turns, by a clock of the test: which are not
answered, and that the loop goes on.
"""

import contextlib
import errno
import gc
import json
import os
import socket
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.support import faults
from tests.support.clock import ManualClock
from unpd.board import layout
from unpd.board.memory import Scoreboard, create
from unpd.kernel import datagrams
from unpd.kernel.batches import BATCH, MAX_DATAGRAM_BYTES, Came
from unpd.kernel.sockets import ListenOptions, listen_unix
from unpd.logs import Log
from unpd.names import Unanswered
from unpd.services.base import Fitted, Peer, Piece
from unpd.services.chargen import Chargen, ChargenOptions
from unpd.services.daytime import Daytime, DaytimeOptions
from unpd.services.echo import Echo, EchoOptions
from unpd.sinks import Sink
from unpd.worker.event.datagram import (
    MAX_SENDERS,
    MOST_ERRORS,
    SHORT_BYTES,
    DatagramSetup,
    DatagramTerms,
    OwnAddresses,
)
from unpd.worker.event.engine import Engine, EngineSetup
from unpd.worker.networks import Networks

Answer = Callable[[Piece, Peer, float], Piece | Fitted | None]
OPTIONS = ListenOptions(backlog=1, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o666)
SERVICE = layout.Service
ECHO = Echo(EchoOptions())
NO_ADDRESSES = OwnAddresses()


@dataclass(frozen=True, slots=True)
class Answering:
    """A service that answers with a function of the test."""

    answer: Answer


@dataclass(slots=True)
class Padding:
    """A service that answers so many zeros."""

    length: int = 0

    def answer(self, piece: Piece, peer: Peer, now: float) -> bytes:
        """The zeros."""
        del piece, peer, now
        return bytes(self.length)


@dataclass(slots=True)
class Bench:
    """An engine with datagram sockets of one service."""

    engine: Engine
    socks: list[socket.socket]
    row: memoryview
    clock: ManualClock
    lines: list[bytes]
    clients: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def client(self, host: str = "127.0.0.1", *, index: int = 0, port: int = 0) -> socket.socket:
        """A UDP client of one socket, which does not block. ``port``: its own."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = self.clients.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        sock.bind((host, port))
        sock.connect((host, self.socks[index].getsockname()[1]))
        sock.setblocking(False)
        return sock

    def ask(self, sock: socket.socket, data: bytes, turns: int = 1) -> bytes | None:
        """Send, turn, and return the answer, None if none came."""
        sock.send(data)
        for _ in range(turns):
            self.engine.turn(0.0)
        with contextlib.suppress(BlockingIOError):
            return sock.recv(MAX_DATAGRAM_BYTES)
        return None

    def count(self, word: int) -> int:
        """One word of the service."""
        return self.row[layout.service_cells(0) + word]

    def unanswered(self) -> dict[str, int]:
        """The datagrams without an answer, by reason."""
        counts = {
            reason.value: self.count(SERVICE.UNANSWERED + index)
            for index, reason in enumerate(layout.UNANSWERED)
        }
        return {reason: count for reason, count in counts.items() if count}

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log with that event."""
        rows = [json.loads(line) for line in self.lines]
        return [row for row in rows if row["event"] == name]


@dataclass(slots=True)
class Benches:
    """Makes benches, and takes them down."""

    stack: contextlib.ExitStack
    batches: bool

    def __call__(
        self,
        answer: Answer = ECHO.answer,
        *,
        socks: list[socket.socket] | None = None,
        own: OwnAddresses = NO_ADDRESSES,
        amplification: float = 3.0,
        rate: int = 0,
        total_rate: int = 0,
    ) -> Bench:
        """Make a bench; without ``socks`` it has one UDP socket on every address."""
        if socks is None:
            socks = [datagrams.open_udp("::", 0, ipv6_only=False)]
        fd = create()
        self.stack.callback(socket.close, fd)
        row = Scoreboard(fd).row(0)
        lines: list[bytes] = []

        def write(_: int, line: bytes) -> int:
            lines.append(line)
            return len(line)

        clock = ManualClock()
        networks = Networks(amplification, rate, clock.now, total_rate=total_rate)
        terms = DatagramTerms("it", Answering(answer), layout.service_cells(0), networks)
        engine = Engine(
            EngineSetup(
                listeners=(),
                datagrams=[DatagramSetup(sock, 0, terms, own) for sock in socks],
                max_connections=1,
                row=row,
                log=Log(Sink(-1, write), "debug", "json"),
                clock=lambda: clock.now,
                batches=self.batches,
            )
        )
        bench = Bench(engine, socks, row, clock, lines)
        for sock in socks:
            self.stack.callback(sock.close)
        self.stack.enter_context(bench.clients)
        self.stack.callback(engine.close)
        return bench


@pytest.fixture(params=[True, False], ids=["batches", "plain"])
def make(request: pytest.FixtureRequest) -> Iterator[Benches]:
    """Benches for one test, whose engines receive in batches or a datagram a call."""
    with contextlib.ExitStack() as stack:
        yield Benches(stack, request.param)


def test_an_echo_of_datagrams(make: Benches) -> None:
    """Datagrams come back as they are, and both directions are counted."""
    bench = make()
    for host in ("127.0.0.1", "::1"):
        for data in (b"", b"hello", bytes(65507)):
            assert bench.ask(bench.client(host), data) == data
    for word, count in (
        (SERVICE.DATAGRAMS_RECEIVED, 6),
        (SERVICE.DATAGRAMS_SENT, 6),
        (SERVICE.DATAGRAM_BYTES_RECEIVED, 2 * 65512),
        (SERVICE.DATAGRAM_BYTES_SENT, 2 * 65512),
    ):
        assert bench.count(word) == count
    assert bench.unanswered() == {}
    assert bench.row[layout.Row.LISTENER_ACCEPTED] == 6


def test_daytime_answers_an_empty_datagram(make: Benches) -> None:
    """An empty datagram gets the line of daytime, in each of its formats."""
    for form in ("ctime", "rfc867", "iso8601"):
        options = DaytimeOptions(format=form, timezone="UTC")
        bench = make(Daytime(options).answer)
        answer = bench.ask(bench.client(), b"")
        assert answer is not None, form
        assert answer.endswith(b"\r\n")
        assert bench.ask(bench.client("::1"), b"") is not None


@faults.requires_root
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_low_port_gets_no_answer(make: Benches, host: str) -> None:
    """Nothing is answered to a source port below 1024, where another server listens;
    port 1024 gets its answer.
    """
    bench = make()
    for port in (7, 1023):
        sock = bench.client(host, port=port)
        assert bench.ask(sock, b"x") is None
    assert bench.unanswered() == {"low_port": 2}
    assert bench.ask(bench.client(host, port=1024), b"x") == b"x"


def test_a_port_of_unpd_gets_no_answer(make: Benches) -> None:
    """Nothing is answered to a port on which unpd itself listens."""
    bench = make()
    sock = bench.client()
    own = OwnAddresses(ports=frozenset((sock.getsockname()[1],)))
    bench = make(own=own, socks=bench.socks)
    assert bench.ask(sock, b"x") is None
    assert bench.unanswered() == {"own_port": 1}


def test_addresses_of_unpd_may_change(make: Benches) -> None:
    """A sender that was answered gets nothing once its port is one of unpd, and answers
    again afterwards.
    """
    bench = make()
    sock = bench.client()
    assert bench.ask(sock, b"x") == b"x"
    bench.engine.learn(OwnAddresses(ports=frozenset((sock.getsockname()[1],))))
    assert bench.ask(sock, b"x") is None
    bench.engine.learn(NO_ADDRESSES)
    assert bench.ask(sock, b"x") == b"x"
    assert bench.unanswered() == {"own_port": 1}


def test_the_amplification_bounds_an_answer(make: Benches) -> None:
    """Over IPv4 an empty datagram gets 56 bytes and not 57, over IPv6 96 and not 97;
    with an amplification of 1 an echo still goes.
    """
    padding = Padding()
    bench = make(padding.answer)
    for host, most in (("127.0.0.1", 56), ("::1", 96)):
        padding.length = most + 1
        assert bench.ask(bench.client(host), b"") is None
        bench.clock.advance(5.0)
        padding.length = most
        assert bench.ask(bench.client(host), b"") == bytes(most)
        bench.clock.advance(5.0)
    assert bench.unanswered() == {"amplification": 2}
    echo = make(amplification=1.0)
    assert echo.ask(echo.client(), b"hello") == b"hello"


@pytest.mark.parametrize("amplification", [1.0, 1.5, 2.0, 3.0, 10.0])
@pytest.mark.parametrize(("host", "headers"), [("127.0.0.1", 28), ("::1", 48)])
def test_an_answer_of_any_length_fits_the_amplification(
    make: Benches, amplification: float, host: str, headers: int
) -> None:
    """Chargen answers each datagram, with no more bytes than it may, and not less than
    it could.
    """
    numbers = iter(range(10_000))
    chargen = Chargen(ChargenOptions())

    def answer(piece: Piece, peer: Peer, now: float) -> Fitted:
        del now
        return chargen.answer(piece, peer, (next(numbers) + 0.5) / 1e6)

    bench = make(answer, amplification=amplification)
    sock = bench.client(host)
    for size in (0, 30, 100):
        most = min(512, int(amplification * (headers + size)) - headers)
        got = [bench.ask(sock, bytes(size)) for _ in range(most + 10)]
        assert None not in got
        assert max(len(answer or b"") for answer in got) == most
    assert bench.unanswered() == {}


def test_a_function_that_makes_an_answer_fails(make: Benches) -> None:
    """It costs its datagram the answer, as a failure of the service does."""

    def answer(piece: Piece, peer: Peer, now: float) -> Fitted:
        del peer, now
        return lambda allowed: bytes(allowed // len(piece))

    bench = make(answer)
    assert bench.ask(bench.client(), b"") is None
    assert bench.unanswered() == {"error": 1}
    (line,) = bench.events("datagram.failed")
    assert line["error"].startswith("ZeroDivisionError")
    assert bench.ask(bench.client(), b"x") == bytes(59)


def test_the_rate_bounds_the_answers(make: Benches) -> None:
    """A network gets ``rate`` answers within a second, from all sockets of the service
    together, and more later.
    """
    socks = [datagrams.open_udp("127.0.0.1", 0, ipv6_only=False) for _ in range(2)]
    bench = make(rate=3, socks=socks)
    clients = [bench.client(index=index) for index in (0, 1)]
    answers = [bench.ask(clients[number % 2], b"x") for number in range(6)]
    assert answers == [b"x", b"x", b"x", None, None, None]
    assert bench.unanswered() == {"rate": 3}
    bench.clock.advance(3.0)
    assert bench.ask(clients[0], b"x") == b"x"


def test_a_service_may_be_silent_or_fail(make: Benches) -> None:
    """A service without an answer sends nothing; one that raises costs its datagram
    only, and logs once a second.
    """

    def answer(piece: Piece, peer: Peer, now: float) -> bytes | None:
        if piece == b"raise":
            raise LookupError("no")
        return None if piece == b"hush" else repr(peer).encode()

    bench = make(answer, amplification=100.0)
    sock = bench.client()
    assert bench.ask(sock, b"hush") is None
    assert [bench.ask(sock, b"raise") for _ in range(3)] == [None] * 3
    assert (
        bench.ask(sock, b"who") == repr(("::ffff:127.0.0.1", sock.getsockname()[1], 0, 0)).encode()
    )
    assert bench.unanswered() == {"no_answer": 1, "error": 3}
    assert [event["error"] for event in bench.events("datagram.failed")] == ["LookupError('no')"]
    bench.clock.advance(1.0)
    bench.ask(sock, b"raise")
    assert [event["suppressed"] for event in bench.events("datagram.failed")] == [0, 2]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_of_a_service_costs_a_datagram_only(
    make: Benches, kind: type[BaseException]
) -> None:
    """sys.exit() in a service does not end the worker."""

    def answer(piece: Piece, peer: Peer, now: float) -> bytes:
        if piece == b"exit":
            raise kind
        return b"here"

    bench = make(answer, amplification=100.0)
    sock = bench.client()
    assert bench.ask(sock, b"exit") is None
    assert bench.ask(sock, b"?") == b"here"
    assert bench.unanswered() == {"error": 1}
    assert [event["error"] for event in bench.events("datagram.failed")] == [f"{kind.__name__}()"]


WRONG: Mapping[str, Any] = MappingProxyType(
    {
        "str": "text",
        "int": 7,
        "list": [7],
        "float": 7.5,
    }
)


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_of_the_wrong_type_costs_a_datagram_only(make: Benches, name: str) -> None:
    """An answer that is no bytes is a fault of the service, and the worker goes on."""

    def answer(piece: Piece, peer: Peer, now: float) -> bytes:
        wrong: bytes = WRONG[name]
        return wrong if piece == b"wrong" else b"here"

    bench = make(answer, amplification=100.0)
    sock = bench.client()
    assert bench.ask(sock, b"wrong") is None
    assert bench.ask(sock, b"?") == b"here"
    assert bench.unanswered() == {"error": 1}
    (event,) = bench.events("datagram.failed")
    assert event["error"].startswith("TypeError(")
    assert "in _answer" in event["trace"]


def test_an_answer_that_the_kernel_refuses_is_counted(make: Benches) -> None:
    """An answer of more than UDP carries is not sent, and the loop goes on."""
    padding = Padding()
    bench = make(padding.answer, amplification=100.0)
    sock = bench.client()
    for padding.length in (65508, 70_000, 1):
        bench.ask(sock, bytes(1000))
        bench.ask(sock, bytes(1000))
    assert bench.count(SERVICE.DATAGRAMS_SENT) == 2
    assert bench.unanswered() == {"send_error": 4}


def test_too_long_an_answer_spoils_no_other(make: Benches) -> None:
    """An answer longer than the room for it leaves the next datagram as it came."""
    bench = make(
        lambda piece, _peer, _now: bytes(70_000) if piece == b"long" else bytes(piece),
        amplification=100.0,
    )
    sock = bench.client()
    bench.ask(sock, bytes(1000))
    sock.send(b"long")
    assert bench.ask(sock, b"hello") == b"hello"
    assert bench.unanswered() == {"send_error": 1}


def test_a_closed_port_stops_nothing(make: Benches) -> None:
    """Answers to clients that are gone cause ICMP errors, and the next client is
    served.
    """
    bench = make()
    for host in ("127.0.0.1", "::1"):
        for _ in range(5):
            gone = bench.client(host)
            gone.send(b"x")
            gone.close()
            bench.engine.turn(0.0)
            bench.engine.turn(0.0)
        assert bench.ask(bench.client(host), b"hello") == b"hello"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_error_in_the_place_of_a_datagram_is_counted(make: Benches, host: str) -> None:
    """An ICMP error that waits on the socket (ECONNREFUSED) is counted, and the
    datagram behind it is answered.
    """
    bench = make(socks=[datagrams.open_udp(host, 0, ipv6_only=False)])
    server, sock = bench.socks[0], bench.client(host)
    gone = bench.client(host)
    target = gone.getsockname()
    gone.close()
    server.connect(target)
    server.send(b"x")
    server.connect(sock.getsockname())
    assert bench.ask(sock, b"hello", turns=2) == b"hello"
    assert bench.count(SERVICE.DATAGRAM_RECEIVE_ERRORS) == 1
    assert bench.unanswered() == {}


def test_unix_senders(make: Benches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A UNIX sender with an absolute path or an abstract name gets its answer. One
    without a name, one whose name is relative to its own directory, one that is a
    socket of unpd, and one that sent more than 64 KiB do not.
    """
    path = str(tmp_path / "echo.dgram")
    server = listen_unix(path, OPTIONS, socket.SOCK_DGRAM)
    own = str(tmp_path / "own")
    bench = make(socks=[server], own=OwnAddresses(paths=frozenset((own.encode(),))))
    answered = {}
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "client"), "\0unpd-test-client", "", own, "relative"):
        sock = bench.clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        if name:
            sock.bind(name)
        sock.setblocking(False)
        sock.connect(path)
        answered[name] = bench.ask(sock, b"hello")
        if name.startswith("\0"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            assert bench.ask(sock, bytes(100_000)) is None
    assert list(answered.values()) == [b"hello", b"hello", None, None, None]
    assert bench.unanswered() == {"no_sender": 2, "own_port": 1, "cut": 1}


def test_unread_answers_leave_room_for_short_ones(make: Benches, tmp_path: Path) -> None:
    """However many long answers one UNIX client leaves unread, which the kernel charges
    to the one send buffer, the short ones of others go.
    """
    path = str(tmp_path / "echo.dgram")
    bench = make(socks=[listen_unix(path, OPTIONS, socket.SOCK_DGRAM)])
    socks = []
    for _ in range(2):
        sock = bench.clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        sock.bind("")
        sock.setblocking(False)
        sock.connect(path)
        socks.append(sock)
    greedy, honest = socks
    for _ in range(6):
        greedy.send(bytes(60_000))
        bench.engine.turn(0.0)
        for data in (b"", b"hello", bytes(SHORT_BYTES)):
            assert bench.ask(honest, data) == data
    assert bench.unanswered()["no_room"] >= 3
    for _ in range(6 - bench.unanswered()["no_room"]):
        assert greedy.recv(1 << 16) == bytes(60_000)
    assert bench.ask(honest, bytes(60_000)) == bytes(60_000)


@pytest.mark.parametrize("total", [False, True])
def test_the_rates_bound_the_answers_to_unix_senders(
    make: Benches, tmp_path: Path, *, total: bool
) -> None:
    """A UNIX sender gets ``rate`` answers within a second, whatever others get, and all
    together get ``total_rate``; so two servers do not answer each other without end.
    """
    path = str(tmp_path / "echo.dgram")
    server = listen_unix(path, OPTIONS, socket.SOCK_DGRAM)
    bench = make(socks=[server], rate=0 if total else 3, total_rate=3 if total else 0)
    socks = []
    for _ in range(2):
        sock = bench.clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        sock.bind("")
        sock.setblocking(False)
        sock.connect(path)
        socks.append(sock)
    answers = [[bench.ask(sock, b"x") for _ in range(5)] for sock in socks]
    assert answers[0] == [b"x", b"x", b"x", None, None]
    assert answers[1] == ([None] * 5 if total else answers[0])
    assert bench.unanswered() == ({"total_rate": 7} if total else {"rate": 4})
    bench.clock.advance(3.0)
    assert bench.ask(socks[0], bytes(1000)) == bytes(1000)


def test_two_servers_that_a_link_joins_fall_silent(make: Benches, tmp_path: Path) -> None:
    """A UNIX sender that puts a link to another server in the place of its socket lets
    the two answer each other, until a rate withholds an answer.
    """
    paths = [str(tmp_path / name) for name in ("one", "two")]
    benches = [
        make(socks=[listen_unix(path, OPTIONS, socket.SOCK_DGRAM)], rate=20) for path in paths
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        forged = tmp_path / "forged"
        sock.bind(str(forged))
        forged.unlink()
        forged.symlink_to(paths[1])
        sock.sendto(b"around", paths[0])
    for _ in range(100):
        for bench in benches:
            bench.engine.turn(0.0)
    assert [bench.unanswered() for bench in benches].count({"rate": 1}) == 1
    assert [bench.count(SERVICE.DATAGRAMS_SENT) for bench in benches] == [21, 20]


def test_descriptors_from_unix_senders_are_left_alone(make: Benches, tmp_path: Path) -> None:
    """A UNIX sender that sends descriptors along is answered, and fills no table of
    this process.
    """
    path = str(tmp_path / "echo.dgram")
    bench = make(socks=[listen_unix(path, OPTIONS, socket.SOCK_DGRAM)])
    sock = bench.clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sock.bind("")
    sock.connect(path)
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [sock.fileno()] * 20))
        sock.sendmsg([b"hello"], [rights])
        bench.engine.turn(0.0)
        assert sock.recvmsg(100, 1000)[:3] == (b"hello", [], 0)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_leaving_worker_answers_what_waits(make: Benches) -> None:
    """Datagrams that wait when a worker stops are answered, more than one turn takes;
    then its socket is closed.
    """
    bench = make()
    sock = bench.client()
    for number in range(100):
        sock.send(b"%d" % number)
    bench.engine.stop_accepting()
    assert [sock.recv(100) for _ in range(100)] == [b"%d" % number for number in range(100)]
    assert bench.count(SERVICE.DATAGRAMS_SENT) == 100
    assert bench.socks[0].fileno() == -1


def test_a_turn_is_bounded(make: Benches) -> None:
    """One turn serves no more than a batch, the next turn the rest."""
    bench = make()
    sock = bench.client()
    for _ in range(BATCH + 5):
        sock.send(b"x")
    bench.engine.turn(0.0)
    assert bench.count(SERVICE.DATAGRAMS_SENT) == BATCH
    bench.engine.turn(0.0)
    assert bench.count(SERVICE.DATAGRAMS_SENT) == BATCH + 5


def test_a_datagram_without_a_wake_up_is_found(make: Benches) -> None:
    """A worker finds within about a second a datagram for which the kernel woke
    another worker that died.
    """
    bench = make()
    sock = bench.client()
    # No wake-up comes without the epoll: only the patrol looks.
    for target in bench.engine._datagrams:  # noqa: SLF001
        bench.engine.forget(target._fd)  # noqa: SLF001
    sock.send(b"y")
    bench.engine.turn(0.0)
    with pytest.raises(BlockingIOError):
        sock.recv(10)
    bench.clock.advance(1.2)
    bench.engine.turn(0.0)
    assert sock.recv(10) == b"y"


@dataclass(slots=True)
class Refused:
    """A batch whose call a filter has begun to refuse."""

    calls: int = 0

    def receive(self, sock: socket.socket, *, is_unix: bool) -> list[Came]:
        """Fail."""
        del sock, is_unix
        self.calls += 1
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_refused_call_does_not_keep_the_loop_busy(make: Benches) -> None:
    """A worker that can receive no more looks once a second, says so once, and serves
    again as soon as it can.
    """
    bench = make()
    (target,) = bench.engine._datagrams  # noqa: SLF001
    sock, refused = bench.client(), Refused()
    sock.send(b"hello")
    for _ in range(3):
        target._batch = refused  # type: ignore[assignment]  # noqa: SLF001
        for _ in range(100):
            bench.engine.turn(0.0)
        bench.clock.advance(1.2)
    assert refused.calls < 2 * MOST_ERRORS
    assert bench.count(SERVICE.DATAGRAM_RECEIVE_ERRORS) == refused.calls
    assert [event["error"] for event in bench.events("datagram.receive_failed")] == [
        repr(PermissionError(errno.EPERM, os.strerror(errno.EPERM)))
    ]
    assert bench.ask(sock, b"again", turns=2) == b"hello"
    assert sock.recv(100) == b"again"


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
def test_a_socket_that_was_shut_down_does_not_keep_the_loop_busy(make: Benches, how: int) -> None:
    """The kernel calls such a socket ready for ever; the worker looks at it once a
    second.
    """
    bench = make()
    bench.engine.turn(0.0)
    with contextlib.suppress(OSError):
        bench.socks[0].shutdown(how)
    events = []
    for _ in range(10):
        events.append(bench.engine._poller.epoll.poll(0.0))  # noqa: SLF001
        bench.engine.turn(0.0)
    assert len(events[0]) == 1
    assert events[1:] == [[]] * 9
    bench.clock.advance(1.2)
    bench.engine.turn(0.0)
    assert len(bench.engine._poller.epoll.poll(0.0)) == 1  # noqa: SLF001


def test_more_senders_than_are_remembered(make: Benches) -> None:
    """The worker remembers a bounded number of senders, and answers every one."""
    bench = make()
    for number in range(MAX_SENDERS + 50):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
            sock.setblocking(False)
            sock.connect(("127.0.0.1", bench.socks[0].getsockname()[1]))
            assert bench.ask(sock, b"%d" % number) == b"%d" % number
    (target,) = bench.engine._datagrams  # noqa: SLF001
    assert len(target._senders) == 50  # noqa: SLF001


def test_the_reasons_are_known_to_the_board() -> None:
    """Each reason has a word."""
    assert tuple(Unanswered) == layout.UNANSWERED
