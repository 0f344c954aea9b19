"""Accepting from real listeners: waking up, the length of the queue, and the options
that an accepted socket has.
"""

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from unpd.config.times import ServiceTimes
from unpd.kernel.connections import Acceptor
from unpd.kernel.signals import interrupt_waits
from unpd.kernel.sockets import (
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
    ListenOptions,
    listen_tcp,
    listen_unix,
)
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.accepting import (
    LONGEST_WAIT_S,
    Accepted,
    AcceptFailure,
    Listener,
    ListenerSetup,
)
from unpd.worker.terms import Terms

OPTIONS = ListenOptions(backlog=16, ipv6_only=False, keepalive=True, user_timeout_s=7.5, mode=0o600)
TERMS = Terms(name="echo", service=Echo(EchoOptions()), times=ServiceTimes(0.0, 0.0, 0.0), words=0)


def on(sock: socket.socket) -> Listener:
    """The listener on ``sock``."""
    return Listener(ListenerSetup("", sock, OPTIONS.backlog, 0), TERMS)


@pytest.fixture
def tcp() -> Iterator[Listener]:
    """A listener on loopback."""
    with listen_tcp("127.0.0.1", 0, OPTIONS) as sock:
        yield on(sock)


# watching


def test_a_listener_that_is_watched_again_misses_nobody(tcp: Listener) -> None:
    """A client that came while the listener was ignored is seen as soon as it is
    watched; watching and ignoring twice does no harm.
    """
    epoll = select.epoll()
    tcp.watch(epoll)
    tcp.watch(epoll)
    tcp.ignore(epoll)
    tcp.ignore(epoll)
    with socket.create_connection(tcp.sock.getsockname()):
        assert epoll.poll(0) == []
        tcp.watch(epoll)
        assert epoll.poll(1.0) == [(tcp.fd, select.EPOLLIN)]
        assert tcp.queued() == 1
        accepted, _ = tcp.accept(16, 0.0)
        assert tcp.queued() == 0
    for fd, _ in accepted:
        os.close(fd)
    epoll.close()


def test_a_listener_knows_whether_clients_wait(tcp: Listener, tmp_path: Path) -> None:
    """How many, but over a UNIX socket only that one does."""
    path = str(tmp_path / "unix")
    with listen_unix(path, OPTIONS) as sock, contextlib.ExitStack() as stack:
        unix = on(sock)
        assert (tcp.waiting(), unix.waiting()) == (0, 0)
        for _ in range(2):
            stack.enter_context(socket.create_connection(tcp.sock.getsockname()))
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(path)
        assert (tcp.waiting(), unix.waiting()) == (2, 1)


def test_a_unix_listener_cannot_tell_its_queue(tmp_path: Path) -> None:
    """There stands for the number what the kernel lets wait: one more than the
    backlog.
    """
    with listen_unix(str(tmp_path / "s"), OPTIONS) as sock, contextlib.ExitStack() as stack:
        listener = on(sock)
        for _ in range(listener.queued()):
            client = stack.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            )
            client.connect(str(tmp_path / "s"))
        one_more = stack.enter_context(
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        )
        with pytest.raises(BlockingIOError):
            one_more.connect(str(tmp_path / "s"))


# what an accepted socket has


def accepted_by(listener: Listener) -> socket.socket:
    """One connection, whose client has closed already."""
    with socket.socket(listener.sock.family) as client:
        client.connect(listener.sock.getsockname())
        accepted, _ = listener.accept(1, 0.0)
    return socket.socket(fileno=accepted[0][0])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("keepalive", [True, False])
def test_the_listener_s_options_are_on_every_connection(host: str, keepalive: bool) -> None:
    """No delay, keepalive with its times, the user timeout and urgent data in the
    stream: set once on the listener, inherited by what it accepts.
    """
    options = ListenOptions(
        backlog=16, ipv6_only=False, keepalive=keepalive, user_timeout_s=7.5, mode=0
    )
    with (
        listen_tcp(host, 0, options) as sock,
        accepted_by(on(sock)) as accepted,
    ):
        tcp = {
            name: accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in TCP_OPTIONS
        }
        assert tcp == TCP_OPTIONS
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == int(keepalive)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE) == 1


TCP_OPTIONS = {
    "TCP_NODELAY": 1,
    "TCP_CORK": 0,
    "TCP_KEEPIDLE": KEEPALIVE_IDLE_S,
    "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S,
    "TCP_KEEPCNT": KEEPALIVE_PROBES,
    "TCP_USER_TIMEOUT": 7500,
}


def test_a_unix_connection_has_urgent_data_in_its_stream(tmp_path: Path) -> None:
    """It inherits nothing, so that it is set on each."""
    with (
        listen_unix(str(tmp_path / "s"), OPTIONS) as sock,
        accepted_by(on(sock)) as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE) == 1


def test_an_accepted_socket_is_closed_on_exec_and_does_not_block(tcp: Listener) -> None:
    """No program that is started later inherits a client, and no read or write waits
    for one.
    """
    with accepted_by(tcp) as accepted:
        assert not accepted.get_inheritable()
        assert not os.get_blocking(accepted.fileno())


# a listener whose flag another process has cleared


def test_a_unix_listener_never_waits(tmp_path: Path) -> None:
    """O_NONBLOCK of a shared UNIX listener is set again before an accept, because its
    queue may be empty.
    """
    with listen_unix(str(tmp_path / "s"), OPTIONS) as sock:
        listener = on(sock)
        os.set_blocking(sock.fileno(), True)
        with interrupted_after(5.0):
            assert listener.accept(16, 0.0) == ([], None)
        assert not os.get_blocking(sock.fileno())


def test_an_accept_that_waits_ends_soon(tcp: Listener) -> None:
    """If another process clears the flag and takes the connection just before an
    accept, the wait ends. The flag is set again, and the listener rests for longer than
    the wait can have lasted.
    """
    acceptor = Acceptor(tcp.fd, socket.AF_INET)

    def late() -> Accepted:
        fd, _ = acceptor.accept()
        os.close(fd)
        os.set_blocking(tcp.fd, True)
        return acceptor.accept()

    listener = Listener(ListenerSetup("", tcp.sock, OPTIONS.backlog, 0), TERMS, late)
    with socket.create_connection(tcp.sock.getsockname()), interrupted_after(0.2):
        accepted, failure = listener.accept(16, 7.0)
    assert accepted == []
    assert failure == AcceptFailure(errno.EINTR, paused=True)
    assert listener.resume_at is not None
    assert listener.resume_at > 7.0 + LONGEST_WAIT_S
    assert not os.get_blocking(tcp.fd)


@contextlib.contextmanager
def interrupted_after(period_s: float) -> Iterator[None]:
    """Interrupt what waits, as in a worker."""
    interrupt_waits(period_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
