"""Clients of an echo service with access rules or limits: they come from a source on
loopback, and are served or turned away. Integration and chaos tests use it.
"""

import contextlib
import socket
from collections.abc import Iterator

from tests.support import clients
from tests.support.daemon import Unpd

MODELS = ["event", "fork", "iterative"]
HOME, OTHER = "127.0.0.1", "127.0.0.9"
RESUMED_S = 1.0
"""Ten times what a listener may take to notice a place that any child has freed."""


def echo(*lines: str, model: str = "event", workers: int = 2) -> str:
    """An echo service with keys of its own."""
    listen = '[services.echo]\nlisten = ["tcp://0.0.0.0:0"]\n'
    return f'[pools.default]\nworkers = {workers}\n{listen}model = "{model}"\n' + "\n".join(lines)


def come(unpd: Unpd, source: str = HOME) -> socket.socket:
    """Connect from a source, and send a byte."""
    sock = clients.connect((HOME, unpd.port("echo")), source=source)
    with contextlib.suppress(OSError):
        sock.sendall(b"x")
    return sock


def outcome(sock: socket.socket) -> bytes:
    """The first byte that a client gets; b"" if it is turned away."""
    with contextlib.suppress(ConnectionResetError):
        return sock.recv(1)
    return b""


def refused(sock: socket.socket) -> bytes:
    """What a client gets until it is turned away; AssertionError if it is served."""
    with sock, contextlib.suppress(ConnectionResetError):
        said = clients.read_all(sock)
        assert said != b"x", "the client is served"
        return said
    return b""


@contextlib.contextmanager
def inside(unpd: Unpd, source: str = HOME, count: int = 1) -> Iterator[list[socket.socket]]:
    """Clients of a source that are served."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(come(unpd, source)) for _ in range(count)]
        assert [clients.read_exactly(sock, 1) for sock in socks] == [b"x"] * count
        yield socks


def refusals_become(unpd: Unpd, count: float, reason: str, service: str = "echo") -> None:
    """Wait until so many clients are counted as refused for a reason: a page of metrics
    is shown for a tenth of a second.
    """
    unpd.metric_becomes(count, "unpd_refused_total", service=service, reason=reason)
