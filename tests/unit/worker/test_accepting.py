"""Accepting: what each failure of accept(2) costs, how long a listener rests, and what
an accepted socket has from its listener.
"""

import contextlib
import errno
import os
import select
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from unpd.worker.event.connection import Terms

from unpd.kernel.sockets import (
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
    ListenOptions,
    listen_tcp,
    listen_unix,
)
from unpd.names import ACCEPT_ERRNOS
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.accepting import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    PATIENCE,
    AcceptFailure,
    Listener,
    errno_cell,
)

OPTIONS = ListenOptions(backlog=16, ipv6_only=False, keepalive=True, user_timeout_s=7.5, mode=0o600)


def terms() -> Terms:
    """An echo without deadlines."""
    return Terms("echo", Echo(EchoOptions()), 0, 0.0, 0.0, 0.0)


CLIENT = 12345
"""Stands for an accepted connection's descriptor."""


class Scripted(Listener):
    """A listener whose accepts are written down: an errno fails, None is a connection;
    at the end there is nobody. ``others``: the queue seems longer by them.
    """

    def __init__(self, *script: int | None, others: int = 0) -> None:
        with socket.socket() as sock:
            super().__init__(sock, terms(), "tcp://nowhere:0", 16, 0)
        self.script = deque(script)
        self.others = others

    def queued(self) -> int:
        """What is left of the script."""
        return len(self.script) + self.others

    def _accept_one(self) -> int:
        if not self.script:
            raise BlockingIOError(errno.EAGAIN, "nobody")
        if (number := self.script.popleft()) is not None:
            raise OSError(number, "as written")
        return CLIENT


@pytest.fixture
def tcp() -> Iterator[Listener]:
    """A real one on loopback."""
    with listen_tcp("127.0.0.1", 0, OPTIONS) as sock:
        yield Listener(sock, terms(), "tcp://127.0.0.1:0", 16, 0)


# batches


def test_a_batch_ends_where_nobody_is_left() -> None:
    """All that wait are accepted, up to the limit; an empty queue is no failure."""
    listener = Scripted(None, None, None)
    assert listener.accept(2, 0.0) == ([CLIENT] * 2, None)
    assert listener.accept(2, 0.0) == ([CLIENT], None)
    assert listener.accept(2, 0.0) == ([], None)


def test_another_worker_may_have_been_faster() -> None:
    """Of those that the queue held, what is still there is accepted, and what is gone
    is no failure.
    """
    assert Scripted(None, others=5).accept(16, 0.0) == ([CLIENT], None)


@pytest.mark.parametrize(
    "number",
    [
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.EHOSTUNREACH,
        errno.ETIMEDOUT,
        errno.ENOPROTOOPT,
    ],
)
def test_an_error_of_one_connection_ends_the_batch_and_rests_nothing(number: int) -> None:
    """Those accepted before it are kept, the failure is told, and the listener does not
    rest.
    """
    listener = Scripted(None, number, None)
    assert listener.accept(16, 5.0) == ([CLIENT], AcceptFailure(number, paused=False))
    assert listener.resume_at is None
    assert listener.accept(16, 5.0) == ([CLIENT], None)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_want_of_resources_rests_the_listener_longer_each_time(number: int) -> None:
    """The rest begins at 50 ms and doubles up to a second; an accepted connection sets
    it back.
    """
    listener = Scripted(*[number] * 7, None, number)
    rests = []
    for _ in range(7):
        assert listener.accept(16, 100.0) == ([], AcceptFailure(number, paused=True))
        assert listener.resume_at is not None
        rests.append(listener.resume_at - 100.0)
    assert rests == pytest.approx(
        [FIRST_PAUSE_S, 0.1, 0.2, 0.4, 0.8, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    )
    assert listener.accept(1, 100.0) == ([CLIENT], None)
    listener.accept(16, 100.0)
    assert listener.resume_at == pytest.approx(100.0 + FIRST_PAUSE_S)


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK])
def test_a_broken_listener_is_not_survived(number: int) -> None:
    """An error of the listener itself is the caller's to die of."""
    with pytest.raises(OSError, match="as written"):
        Scripted(number).accept(16, 0.0)


def test_what_was_accepted_before_the_listener_broke_is_not_lost() -> None:
    """Somebody ends it in the midst of a batch: those who are in are served, and it is
    told once that it is broken, by its next event.
    """
    listener = Scripted(None, errno.EINVAL, errno.EINVAL)
    assert listener.accept(16, 0.0) == ([CLIENT], None)
    assert listener.ended(0.0) == AcceptFailure(errno.EINVAL, paused=True)
    with pytest.raises(OSError, match="as written"):
        listener.accept(16, 0.0)


def test_an_error_that_lasts_rests_the_listener_too() -> None:
    """Where every accept is refused, by a security module say, the connection stays in
    the queue and wakes us again; one that succeeds sets the count back.
    """
    refused = [errno.EACCES] * (PATIENCE - 1)
    listener = Scripted(*refused, None, *refused, errno.EACCES)
    for _ in refused:
        assert listener.accept(1, 0.0) == ([], AcceptFailure(errno.EACCES, paused=False))
    assert listener.accept(1, 0.0) == ([CLIENT], None)
    for _ in refused:
        assert listener.accept(1, 0.0) == ([], AcceptFailure(errno.EACCES, paused=False))
    assert listener.accept(1, 7.0) == ([], AcceptFailure(errno.EACCES, paused=True))
    assert listener.resume_at == pytest.approx(7.0 + FIRST_PAUSE_S)


def test_each_errno_has_its_cell() -> None:
    """What accept(2) names has a label of its own, the rest shares the last one."""
    assert [ACCEPT_ERRNOS[errno_cell(getattr(errno, name))] for name in ACCEPT_ERRNOS[:-1]] == list(
        ACCEPT_ERRNOS[:-1]
    )
    assert ACCEPT_ERRNOS[errno_cell(errno.ETIMEDOUT)] == ACCEPT_ERRNOS[errno_cell(0)] == "other"


# watching


def test_a_listener_that_is_watched_again_misses_nobody(tcp: Listener) -> None:
    """A client that came while the listener rested is seen as soon as it is watched;
    watching and resting twice does no harm.
    """
    epoll = select.epoll()
    tcp.watch(epoll)
    tcp.watch(epoll)
    tcp.rest(epoll)
    tcp.rest(epoll)
    with socket.create_connection(tcp.sock.getsockname()):
        assert epoll.poll(0) == []
        tcp.watch(epoll)
        assert epoll.poll(1.0) == [(tcp.fd, select.EPOLLIN)]
        assert tcp.queued() == 1
        accepted, _ = tcp.accept(16, 0.0)
        assert tcp.queued() == 0
    for fd in accepted:
        os.close(fd)
    epoll.close()


def test_a_unix_listener_cannot_tell_its_queue(tmp_path: Path) -> None:
    """There stands for the number what the kernel lets wait: one more than the
    backlog.
    """
    with listen_unix(str(tmp_path / "s"), OPTIONS) as sock, contextlib.ExitStack() as stack:
        listener = Listener(sock, terms(), "", OPTIONS.backlog, 0)
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
    return socket.socket(fileno=accepted[0])


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
        accepted_by(Listener(sock, terms(), "", 16, 0)) as accepted,
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
        accepted_by(Listener(sock, terms(), "", 16, 0)) as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE) == 1


def test_an_accepted_socket_is_closed_on_exec_and_does_not_block(tcp: Listener) -> None:
    """No program that is started later inherits a client, and no read or write waits
    for one.
    """
    with accepted_by(tcp) as accepted:
        assert not accepted.get_inheritable()
        assert not os.get_blocking(accepted.fileno())
