"""Connections that this process makes: begins them without waiting, and tells how they
turned out (connect(2), EINPROGRESS).

A connection is a bare descriptor, as an accepted one is (:mod:`unpd.kernel.connections`
says why).

Owns nothing: each descriptor belongs to the caller, a worker. Calls nothing of unpd.
Raises OSError with the errno of the man page.
"""

import errno
import os
import socket
from dataclasses import dataclass
from typing import Any

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3

SocketAddress = tuple[int, Any]
"""A family, and an address of it as the module socket takes it."""


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """The options of a connection over TCP. ``user_timeout_s``: TCP_USER_TIMEOUT in
    seconds, 0 for the kernel's default.
    """

    keepalive: bool
    user_timeout_s: float


def numeric_address(host: str, port: int) -> SocketAddress:
    """The address of a numeric host, which may have a scope id. OSError if this host
    has no such interface.
    """
    # As bytes: a str would go through the codec of domain names, which fails on the
    # names of some interfaces.
    family, _, _, _, address = socket.getaddrinfo(
        host.encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    return family, address


def begin_connect(to: SocketAddress, options: ConnectOptions) -> tuple[int, bool]:
    """Begin to connect. Return the descriptor, non-blocking and close-on-exec, and
    whether the connection is made already: if not, the descriptor becomes writable when
    :func:`outcome` can tell. OSError; EAGAIN if the queue of a UNIX listener is full.
    """
    family, address = to
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family != socket.AF_UNIX:
            _tune(sock, options)
        number = sock.connect_ex(address)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock.detach(), number == 0


def _tune(sock: socket.socket, options: ConnectOptions) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Urgent data is ordinary data (RFC 6093).
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    milliseconds = round(options.user_timeout_s * 1000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    if options.keepalive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def outcome(fd: int) -> int:
    """The errno of a connect over TCP, 0 if the connection is made, EINPROGRESS if it
    is still to be.

    ECONNREFUSED also for a connection with itself: while nothing listens at a port from
    which the kernel takes its own, TCP may connect a socket with itself (RFC 9293,
    3.5, simultaneous open).
    """
    sock = socket.socket(fileno=fd)
    try:
        if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return number
        is_own = sock.getsockname() == sock.getpeername()
    except OSError as error:
        return errno.EINPROGRESS if error.errno == errno.ENOTCONN else error.errno or 0
    finally:
        sock.detach()
    return errno.ECONNREFUSED if is_own else 0
