"""Accepted connections as bare descriptors: the calls that the ``os`` module lacks for
them.

A socket object costs a connection 2 us of processor time (getsockname(2), two
enumerations, the object) and 100 bytes, and its methods parse their arguments in a
slower way than those of ``os`` do: 1,500 instructions a round trip. What is rare
borrows one.
"""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator

_LAST_WORDS = int(socket.MSG_MORE | socket.MSG_NOSIGNAL)
_ACCEPT_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# None of these calls waits, so that the interpreter's lock is kept (PyDLL); in a
# process without threads it would only be given away and taken back.
_libc = ctypes.PyDLL(None, use_errno=True)


def accept(listener_fd: int) -> int:
    """accept4(2) on a non-blocking listener: a descriptor that is non-blocking and
    closed on exec. BlockingIOError if nobody waits, OSError as the man page has it.
    """
    fd: int = _libc.accept4(listener_fd, None, None, _ACCEPT_FLAGS)
    if fd < 0:
        raise _error()
    return fd


def send_before_fin(fd: int, data: bytes) -> int:
    """send(2) of the last bytes: over TCP the end of them waits for our FIN, and goes
    out in one segment with it (MSG_MORE). How many were taken; BlockingIOError,
    OSError.
    """
    sent: int = _libc.send(fd, data, len(data), _LAST_WORDS)
    if sent < 0:
        raise _error()
    return sent


def send_fin(fd: int) -> None:
    """shutdown(2) of our direction. OSError."""
    if _libc.shutdown(fd, socket.SHUT_WR) != 0:
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


@contextlib.contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """A socket object for ``fd``, which stays the caller's."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()
