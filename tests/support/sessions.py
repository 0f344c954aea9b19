"""Clients of sessions, and the session processes that serve them. Tests of the models
fork and iterative use it.
"""

import contextlib
import socket
from collections.abc import Callable

from tests.support import clients, procs
from tests.support.clients import Address
from tests.support.daemon import Unpd
from tests.support.waiting import until
from unpd.names import ChildKind

FORK = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
model = "fork"
"""
"""One service, which forks."""

PATIENCE_S = 10.0


def greet(sock: socket.socket) -> socket.socket:
    """Exchange a byte with the echo service, so that the client certainly is served;
    return ``sock``.
    """
    sock.sendall(b"x")
    assert clients.read_exactly(sock, 1) == b"x"
    return sock


def served(
    stack: contextlib.ExitStack, address: Address, count: int = 1, *, timeout_s: float = PATIENCE_S
) -> list[socket.socket]:
    """Connect ``count`` clients to the echo service, each served before the next."""
    return [
        greet(stack.enter_context(clients.connect(address, timeout_s=timeout_s)))
        for _ in range(count)
    ]


def works(sock: socket.socket) -> bool:
    """Whether an echo connection still answers."""
    try:
        greet(sock)
    except (OSError, AssertionError):
        return False
    return True


def wait_over(*socks: socket.socket) -> None:
    """Wait until none of these echo connections answers. A process that serves one ends
    a moment after the answer to the command that ends it.
    """
    until(lambda: not any(map(works, socks)), 10.0, "the connections to end")


def session_of(unpd: Unpd, sock: socket.socket) -> int:
    """Return the pid of the session process that serves a TCP client, by its title."""
    end = f" 127.0.0.1:{sock.getsockname()[1]}"
    (found,) = [pid for pid in unpd.sessions() if procs.title(pid).endswith(end)]
    return found


def dispatcher(unpd: Unpd) -> int:
    """Return the pid of the only dispatcher that accepts, once it does."""

    def ready() -> list[int]:
        return [
            pid
            for pid in unpd.children(ChildKind.DISPATCHER)
            if " ready, " in procs.title(pid) and procs.alive(pid)
        ]

    return until(ready, PATIENCE_S, "a ready dispatcher")[0]


def kill_dispatcher(unpd: Unpd, pid: int) -> int:
    """Kill a dispatcher; return its successor, once that is ready."""
    ready = len(unpd.log_events("dispatcher.ready"))
    procs.kill([pid])
    unpd.wait_event("child.reaped", pid=pid, reason="sigkill")
    unpd.wait_event("dispatcher.ready", after=ready)
    return dispatcher(unpd)


def no_session_left(unpd: Unpd) -> Callable[[], bool]:
    """Return the condition that no session process is left."""
    return lambda: not unpd.sessions()
