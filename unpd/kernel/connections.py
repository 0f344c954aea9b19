"""Calls on accepted connections that the ``os`` module lacks.

An accepted connection is a bare descriptor. A socket object costs 2 us of processor
time for each connection (getsockname(2), two enumerations, the object) and 100 bytes,
and its methods parse their arguments more slowly than those of ``os``: 1,500
instructions for each round trip. Rare calls borrow a socket object.

Owns nothing: each descriptor belongs to the caller. Called by the worker. Calls nothing
of unpd. Raises OSError with the errno of the man page.
"""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator

_LAST_DATA_FLAGS = int(socket.MSG_MORE | socket.MSG_NOSIGNAL)
_ACCEPT_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# None of these calls blocks, so PyDLL keeps the interpreter's lock: without threads,
# CDLL would only release it and take it again.
_libc = ctypes.PyDLL(None, use_errno=True)


def accept(listener_fd: int) -> int:
    """Accept a connection from a non-blocking listener (accept4(2)).

    Return its descriptor, non-blocking and close-on-exec. BlockingIOError if the accept
    queue is empty, OSError as in the man page.
    """
    fd: int = _libc.accept4(listener_fd, None, None, _ACCEPT_FLAGS)
    if fd < 0:
        raise _error()
    return fd


def send_before_fin(fd: int, data: bytes) -> int:
    """Send the last bytes before our FIN; return how many the kernel took (send(2)).

    Over TCP the end of them waits for the FIN and leaves in one segment with it
    (MSG_MORE). BlockingIOError if the send buffer is full, OSError as in the man page.
    """
    sent: int = _libc.send(fd, data, len(data), _LAST_DATA_FLAGS)
    if sent < 0:
        raise _error()
    return sent


def send_fin(fd: int) -> None:
    """End our direction of the connection (shutdown(2), SHUT_WR). OSError."""
    if _libc.shutdown(fd, socket.SHUT_WR) != 0:
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


@contextlib.contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """Make a socket object for ``fd`` and detach it at the end: the caller keeps the
    descriptor.
    """
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()
