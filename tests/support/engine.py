"""An engine that a test turns by hand, over real sockets and a clock of the test."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import clients
from tests.support.clock import ManualClock
from tests.support.gates import make_gate
from unpd.access.network import Network
from unpd.access.ranges import Ranges
from unpd.access.terms import AccessTerms
from unpd.board import layout
from unpd.board.denied import DeniedWriter
from unpd.board.memory import Scoreboard, create
from unpd.config.times import ServiceTimes
from unpd.kernel.connections import Acceptor
from unpd.kernel.sockets import ListenOptions, listen_tcp, listen_unix
from unpd.log_events.row import Level
from unpd.logs import Log
from unpd.names import EndCause
from unpd.services.base import Conversation, More, Reply, StreamService
from unpd.services.echo import Echo, EchoOptions
from unpd.sinks import Sink
from unpd.worker.accepting import Accepted, Listener, ListenerSetup
from unpd.worker.admission import Admission, Gate
from unpd.worker.event.engine import Engine, EngineSetup
from unpd.worker.event.session import Session
from unpd.worker.event.stream import BULK, BULK_BYTES
from unpd.worker.terms import Terms

MIB = 1 << 20
PATIENCE_S = 10.0
"""Real seconds that a condition may take: many, for a machine that is busy."""
OPTIONS = ListenOptions(
    backlog=64, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o600
)
NO_TIMES = ServiceTimes(idle_timeout_s=0.0, session_timeout_s=0.0, user_timeout_s=0.0)
_PERIOD = bytes(range(251))

AcceptOne = Callable[[], Accepted]


def pattern(begin: int, count: int) -> bytes:
    """``count`` bytes of an endless stream from its byte ``begin`` on; no byte that is
    lost or repeated goes unseen.
    """
    return (_PERIOD * (count // len(_PERIOD) + 2))[begin % len(_PERIOD) :][:count]


@dataclass(slots=True)
class Saying:
    """A service that greets with ``greeting`` and then answers with ``reply`` (None: it
    closes) and says ``more`` unasked; ``fault`` is raised instead of the greeting.
    """

    greeting: bytes = b""
    reply: Reply | None = None
    fault: BaseException | None = None
    more: More | None = None

    def greet(self, wall_s: float) -> bytes:
        """The greeting, or the fault."""
        if self.fault is not None:
            raise self.fault
        return self.greeting

    def converse(self) -> Conversation | None:
        """The conversation."""
        return None if self.reply is None else Conversation(self.reply, self.more)


@dataclass(slots=True)
class Bench:
    """An engine with one listener for each service, its row of a scoreboard, its log in
    memory, its clock, its clients, and the gate through which they come if there are
    terms of access. ``deny`` denies networks from now on, and no others.
    """

    engine: Engine
    row: memoryview
    listeners: list[Listener]
    lines: list[bytes]
    clock: ManualClock
    gate: Gate
    denied: DeniedWriter
    socks: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def connect(self, index: int = 0, *, source: str = "") -> socket.socket:
        """A client in the queue of listener ``index``. ``source``: its address."""
        address = self.listeners[index].sock.getsockname()
        client = clients.connect(address, timeout_s=PATIENCE_S, source=source)
        return self.socks.enter_context(client)

    def deny(self, *networks: str) -> None:
        """Deny networks of IPv4 from now on, and no others."""
        v4 = Ranges(4, map(Network.parse, networks))
        self.denied.publish(v4.words, Ranges(6).words)

    def turn(self) -> None:
        """One turn that does not wait."""
        self.engine.turn(0.0)

    def advance(self, seconds: float) -> None:
        """Let time pass, then turn once."""
        self.clock.advance(seconds)
        self.turn()

    def until(self, condition: Callable[[], object], message: str = "the condition") -> None:
        """Turn until ``condition`` holds. The engine's time stands still meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {message}"
            self.turn()

    def sessions(self) -> list[Session]:
        """Every open session."""
        return [each for each in self.engine.sessions() if isinstance(each, Session)]

    def session(self) -> Session:
        """The only session, once its client is accepted."""
        self.until(self.sessions, "the session")
        (session,) = self.sessions()
        return session

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

    def rests(self) -> bool:
        """Whether nothing wakes the engine: no descriptor is ready."""
        return not self.engine._poller.epoll.poll(0.0)  # noqa: SLF001 - nothing else shows it

    def bulk(self, sock: socket.socket) -> Session:
        """Make ``sock``, the only client, transfer bulk data, all of which has come
        back. ``sock`` no longer blocks.
        """
        session = self.session()
        sock.setblocking(False)

        def relayed() -> bool:
            self.read(sock, sock.send(bytes(2 * BULK_BYTES)))
            return session.stream.large_reads == BULK

        self.until(relayed, "bulk data")
        return session

    def stuff(self, sock: socket.socket) -> int:
        """Send, and read nothing, until neither the sockets nor the engine take any
        more (32 MiB at most); return how many bytes it were. ``sock`` no longer blocks.
        """
        sock.setblocking(False)
        sent, session = 0, self.session()

        def stuck() -> bool:
            nonlocal sent
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while sent + taken < 32 * MIB:
                    taken += sock.send(pattern(sent + taken, 65536))
            sent += taken
            return not taken and not session.stream.mask & READABLE

        self.until(stuck, "the engine to stop reading")
        return sent

    def ended(self, column: int = 0) -> dict[EndCause, int]:
        """How many connections of a service ended, by cause."""
        start = layout.service_cells(column) + layout.Service.ENDED
        return {
            cause: self.row[start + index]
            for index, cause in enumerate(layout.END_CAUSES)
            if self.row[start + index]
        }

    def count(self, word: int, column: int = 0) -> int:
        """One word of a service."""
        return self.row[layout.service_cells(column) + word]

    def bytes_counted(self, column: int = 0) -> tuple[int, int]:
        """How many bytes of a service were received and sent, as the row says."""
        return (
            self.count(layout.Service.RECEIVED, column),
            self.count(layout.Service.SENT, column),
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log with that event."""
        rows = [json.loads(line) for line in self.lines]
        return [row for row in rows if row["event"] == name]


READABLE = 0x001
"""EPOLLIN."""


def _as_it_is(accept_one: AcceptOne) -> AcceptOne:
    return accept_one


class Benches:
    """Makes benches, over UNIX sockets in ``directory`` or over TCP, and takes them
    down. ``hot_path``: whether their engines have one.
    """

    def __init__(self, directory: Path, *, hot_path: bool) -> None:
        self._directory = directory
        self._hot_path = hot_path
        self._made = 0
        self._stack = contextlib.ExitStack()

    def __call__(
        self,
        *services: StreamService,
        times: ServiceTimes = NO_TIMES,
        max_connections: int = 100,
        alone: bool = False,
        tcp: bool = False,
        level: Level = "debug",
        connections: bool = False,
        access: AccessTerms | None = None,
        accepting: Callable[[AcceptOne], AcceptOne] = _as_it_is,
    ) -> Bench:
        """Make a bench of ``services`` (an echo if there are none). ``alone``: no other
        worker shares the listeners. ``connections``: whether its log wants a line about
        each. ``access``: who may come in; None: that is not asked. ``accepting``: is
        given the kernel's accept of a listener, and returns the one to use.
        """
        fd = create()
        self._stack.callback(socket.close, fd)
        board = Scoreboard(fd)
        row, denied = board.row(0), DeniedWriter()
        gate = make_gate(self._stack, board, denied)
        lines: list[bytes] = []

        def write(line: bytes) -> int:
            lines.append(line)
            return len(line)

        listeners = []
        for column, service in enumerate(services or (Echo(EchoOptions()),)):
            sock = self._stack.enter_context(self._listen(tcp))
            terms = Terms(
                name=f"service-{column}",
                service=service,
                times=times,
                words=layout.service_cells(column),
                admission=None if access is None else Admission(access, column, gate),
            )
            setup = ListenerSetup("the listener", sock, OPTIONS.backlog, column)
            kernel_accept = Acceptor(sock.fileno(), sock.family).accept
            listeners.append(Listener(setup, terms, accepting(kernel_accept)))
        clock = ManualClock()
        engine = Engine(
            EngineSetup(
                listeners=listeners,
                max_connections=max_connections,
                alone=alone,
                row=row,
                log=Log(
                    Sink(-1, lambda _, line: write(line)), level, "json", connections=connections
                ),
                hot_path=self._hot_path,
                clock=lambda: clock.now,
            )
        )
        bench = Bench(engine, row, listeners, lines, clock, gate, denied)
        self._stack.enter_context(bench.socks)
        self._stack.callback(engine.close)
        self._stack.callback(engine.leave)
        return bench

    def _listen(self, tcp: bool) -> socket.socket:
        if tcp:
            return listen_tcp("127.0.0.1", 0, OPTIONS)
        self._made += 1
        return listen_unix(str(self._directory / f"{self._made}.sock"), OPTIONS)

    def close(self) -> None:
        """Take all benches down."""
        self._stack.close()


@contextlib.contextmanager
def benches(directory: Path, *, hot_path: bool) -> Iterator[Benches]:
    """Benches for one test."""
    made = Benches(directory, hot_path=hot_path)
    try:
        yield made
    finally:
        made.close()
