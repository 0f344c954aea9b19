"""Redirects that a test turns by hand: an engine with one redirect, its targets, whose
sockets the test holds, and names that the test resolves.
"""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support import clients
from tests.support.clock import ManualClock
from tests.support.engine import NO_TIMES, OPTIONS, PATIENCE_S, Bench
from tests.support.gates import make_gate
from unpd.board import layout
from unpd.board.denied import DeniedWriter
from unpd.board.memory import Scoreboard, create
from unpd.config.times import ServiceTimes
from unpd.kernel.outgoing import ConnectOptions
from unpd.kernel.resolver import Answer, Question
from unpd.kernel.sockets import listen_tcp, listen_unix
from unpd.logs import Log
from unpd.names import CONNECT_FAILURES
from unpd.services.echo import Echo, EchoOptions
from unpd.services.redirect import RedirectOptions
from unpd.sinks import Sink
from unpd.worker.accepting import Listener, ListenerSetup
from unpd.worker.event.engine import Engine, EngineSetup
from unpd.worker.redirect.names import Names
from unpd.worker.redirect.session import RelaySession
from unpd.worker.redirect.targets import Targets, TargetsSetup
from unpd.worker.terms import Terms

COLUMN = 0


class FakeResolver:
    """A resolver whose answers the test gives. ``questions``: what was asked."""

    def __init__(self) -> None:
        self.questions: list[Question] = []

    def fileno(self) -> int:
        """No test watches it."""
        raise AssertionError("watched")

    def ask(self, question: Question) -> None:
        """Note the question."""
        self.questions.append(question)

    def answers(self) -> Sequence[Answer]:
        """None: a test calls the names itself."""
        return ()


class Upstream:
    """A target: a listening socket of the test. ``text``: as the configuration has
    it.
    """

    def __init__(self, sock: socket.socket, text: str) -> None:
        self.sock = sock
        self.text = text

    def accept(self) -> socket.socket | None:
        """The next connection; None if there is none now."""
        self.sock.setblocking(False)
        try:
            return self.sock.accept()[0]
        except BlockingIOError:
            return None

    def take(self, bench: Bench) -> socket.socket:
        """The next connection, once the engine has made it."""
        taken: list[socket.socket] = []

        def is_there() -> bool:
            if (sock := self.accept()) is not None:
                taken.append(bench.socks.enter_context(sock))
            return bool(taken)

        bench.until(is_there, "a connection to the target")
        taken[0].settimeout(PATIENCE_S)
        return taken[0]


class Redirects:
    """Makes redirects, and takes them down."""

    def __init__(self, directory: Path) -> None:
        self.resolver = FakeResolver()
        self.names = Names(lambda: self.resolver)
        self._directory = directory
        self._made = 0
        self._stack = contextlib.ExitStack()

    def upstream(
        self, kind: str = "tcp", backlog: int = 64, *, receive_buffer: int = 0
    ) -> Upstream:
        """A target that listens: "tcp", "tcp6" or "unix". ``receive_buffer``: bytes for
        each connection; 0: the kernel's default.
        """
        if kind == "unix":
            path = self.path()
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            text = f"unix://{path}"
        else:
            host = "::1" if kind == "tcp6" else "127.0.0.1"
            sock = socket.socket(socket.AF_INET6 if kind == "tcp6" else socket.AF_INET)
            sock.bind((host, 0))
            port = sock.getsockname()[1]
            text = f"tcp://[{host}]:{port}" if kind == "tcp6" else f"tcp://{host}:{port}"
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.listen(backlog)
        return Upstream(self._stack.enter_context(sock), text)

    def dead(self) -> str:
        """A target at which nothing listens: a bound port, which no other test can
        take.
        """
        sock = self._stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{sock.getsockname()[1]}"

    def path(self) -> str:
        """The path of a new socket."""
        self._made += 1
        return str(self._directory / f"{self._made}.sock")

    def __call__(
        self,
        *to: str,
        listen: str = "tcp",
        times: ServiceTimes = NO_TIMES,
        splices: bool = True,
        banner: bytes = b"",
        connections: bool = True,
        **options: Any,
    ) -> Bench:
        """Make a redirect to these targets. ``listen``: "tcp", "tcp6" or "unix".
        ``splices``: whether bulk data is spliced. ``options``: more keys of it.
        """
        fd = create()
        self._stack.callback(socket.close, fd)
        board = Scoreboard(fd)
        row, denied = board.row(0), DeniedWriter()
        lines: list[bytes] = []

        def write(line: bytes) -> int:
            lines.append(line)
            return len(line)

        setup = TargetsSetup(
            service="web",
            options=RedirectOptions.model_validate({"to": list(to)} | options),
            columns=range(len(to)),
            connect=ConnectOptions(keepalive=True, user_timeout_s=times.user_timeout_s),
        )
        terms = Terms(
            name="web",
            service=Echo(EchoOptions()),
            times=times,
            words=layout.service_cells(COLUMN),
            relays=listen != "unix",
            banner=banner,
            targets=Targets(setup, self.names),
        )
        sock = self._stack.enter_context(self._listen(listen))
        clock = ManualClock()
        listener = Listener(ListenerSetup("the listener", sock, OPTIONS.backlog, COLUMN), terms)
        engine = Engine(
            EngineSetup(
                listeners=[listener],
                max_connections=100,
                row=row,
                log=Log(
                    Sink(-1, lambda _, line: write(line)), "debug", "json", connections=connections
                ),
                splices=splices,
                clock=lambda: clock.now,
            )
        )
        gate = make_gate(self._stack, board, denied)
        bench = Bench(engine, row, [listener], lines, clock, gate, denied)
        self._stack.enter_context(bench.socks)
        self._stack.callback(engine.close)
        self._stack.callback(engine.leave)
        return bench

    def _listen(self, kind: str) -> socket.socket:
        if kind == "unix":
            return listen_unix(self.path(), OPTIONS)
        return listen_tcp("::1" if kind == "tcp6" else "127.0.0.1", 0, OPTIONS)

    def close(self) -> None:
        """Take all down."""
        self._stack.close()


def relay(bench: Bench) -> RelaySession:
    """The only session, once its client is accepted."""
    bench.until(lambda: list(bench.engine.sessions()), "the session")
    (session,) = bench.engine.sessions()
    assert isinstance(session, RelaySession)
    return session


def failures(bench: Bench, target: int = 0) -> dict[str, int]:
    """How many connects to a target failed, by label."""
    start = layout.target_cells(target) + layout.Target.FAILED
    return {
        label: bench.row[start + place]
        for place, label in enumerate(CONNECT_FAILURES)
        if bench.row[start + place]
    }


def connected(bench: Bench, target: int = 0) -> int:
    """How many connections to a target were made."""
    return bench.row[layout.target_cells(target) + layout.Target.CONNECTED]


def pair(
    bench: Bench, upstream: Upstream, *, receive_buffer: int = 0
) -> tuple[socket.socket, socket.socket]:
    """A client, and the connection of its target. They relay."""
    before = relaying(bench)
    address = bench.listeners[0].sock.getsockname()
    client = bench.socks.enter_context(
        clients.connect(address, timeout_s=PATIENCE_S, receive_buffer=receive_buffer)
    )
    target = upstream.take(bench)
    bench.until(lambda: relaying(bench) > before, "the relay")
    return client, target


def relaying(bench: Bench) -> int:
    """How many sessions have their targets."""
    sessions = [each for each in bench.engine.sessions() if isinstance(each, RelaySession)]
    return sum(session.target.fd >= 0 for session in sessions)


def is_reset(sock: socket.socket) -> bool:
    """Whether the peer of a socket that does not block has reset it."""
    try:
        sock.recv(1)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    raise AssertionError("the end, or data, but no reset")


@contextlib.contextmanager
def redirects(directory: Path) -> Iterator[Redirects]:
    """Redirects for one test."""
    made = Redirects(directory)
    try:
        yield made
    finally:
        made.close()
