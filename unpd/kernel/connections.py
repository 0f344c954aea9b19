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
import errno
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Iterator, Mapping
from types import MappingProxyType

_MOST_UNREAD_BYTES = 64 * 1024
_LAST_DATA_FLAGS = int(socket.MSG_MORE | socket.MSG_NOSIGNAL)
_ACCEPT_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_ADDRESS_BYTES: Mapping[int, int] = MappingProxyType(
    {socket.AF_INET: 16, socket.AF_INET6: 28, socket.AF_UNIX: 128}
)
"""The size of each family's address (ip(7), ipv6(7), unix(7))."""
_KEPT_BYTES: Mapping[int, int] = MappingProxyType(
    {socket.AF_INET: 8, socket.AF_INET6: 28, socket.AF_UNIX: 2}
)
"""How much of it is kept for each open connection: a sockaddr_in ends in padding, and
the name of a UNIX peer is not shown.
"""
_MOST_ADDRESS_BYTES = 128  # struct sockaddr_storage
_V4_MAPPED = bytes(10) + b"\xff\xff"
_LINGER_NOT = struct.pack("ii", 1, 0)

# None of these calls blocks, so PyDLL keeps the interpreter's lock: without threads,
# CDLL would only release it and take it again.
_libc = ctypes.PyDLL(None, use_errno=True)


class Acceptor:
    """Accepts connections from one non-blocking listener (accept4(2)).

    Owns the buffer into which the kernel writes the peer's address. The address is
    taken here because getpeername(2) refuses to tell it once the peer has reset; that
    costs a connection 0.4 us.
    """

    def __init__(self, listener_fd: int, family: int) -> None:
        """``family``: the listener's, which all its peers have."""
        self._fd = listener_fd
        size = _ADDRESS_BYTES[family]
        self._kept = _KEPT_BYTES[family]
        self._address = ctypes.create_string_buffer(size)
        # The kernel reads the buffer's size here and writes the address' length, which
        # no later call sets back: an IP address has always the same. The length of a
        # UNIX address may shrink, of which only the first bytes matter.
        self._length = ctypes.c_uint(size)
        self._length_pointer = ctypes.byref(self._length)

    def accept(self) -> tuple[int, bytes]:
        """Return the descriptor of a new connection, non-blocking and close-on-exec,
        and its peer's address for :func:`address_text`.

        BlockingIOError if the accept queue is empty, OSError as in the man page.
        """
        fd: int = _libc.accept4(self._fd, self._address, self._length_pointer, _ACCEPT_FLAGS)
        if fd < 0:
            raise _error()
        return fd, self._address.raw[: self._kept]


def address_text(address: bytes) -> str:
    """Return the address of a peer, or our own, as text: "192.0.2.1:7", "[::1]:7",
    "unix" for every UNIX socket, or "none" for an empty one: the client of a program
    that gets a whole socket.

    ``address``: a sockaddr (ip(7), ipv6(7), unix(7)). A v4-mapped address is shown as
    IPv4.
    """
    if not address.strip(b"\0"):  # one that was stored has a fixed length
        return "none"
    found = host_and_port(address)
    if found is None:
        return "unix" if _family(address) == socket.AF_UNIX else "unknown"
    host, port = found
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_and_port(address: bytes) -> tuple[str, int] | None:
    """The host and the port of an Internet address, as in :func:`address_text`; None
    for another family.
    """
    family = _family(address)
    port = int.from_bytes(address[2:4], "big")
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, address[4:8]), port
    if family != socket.AF_INET6:
        return None
    host = address[8:24]
    if host.startswith(_V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, host[len(_V4_MAPPED) :]), port
    return f"{socket.inet_ntop(socket.AF_INET6, host)}{_zone(address[24:28])}", port


def _family(address: bytes) -> int:
    return int.from_bytes(address[:2], sys.byteorder)


def _zone(scope: bytes) -> str:
    """The interface of a link-local address, by name if it still exists."""
    index = int.from_bytes(scope, sys.byteorder)
    if not index:
        return ""
    try:
        return f"%{socket.if_indextoname(index)}"
    except OSError:
        return f"%{index}"


def local_text(fd: int) -> str:
    """Return our own address of a connection as text: "192.0.2.1:7", "[::1]:7", or the
    path of a UNIX listener. "unknown" if the kernel does not tell, or for -1.
    """
    if fd < 0:
        return "unknown"
    try:
        with borrowed(fd) as sock:
            name = sock.getsockname()
    except OSError:
        return "unknown"
    if isinstance(name, tuple):
        host = name[0].removeprefix("::ffff:") if "." in name[0] else name[0]
        return f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"
    return name if isinstance(name, str) else name.decode("utf-8", "replace")


def local_address(fd: int) -> bytes:
    """Our own address of a connection, as a sockaddr. OSError."""
    address, size = ctypes.create_string_buffer(_MOST_ADDRESS_BYTES), ctypes.c_uint()
    size.value = _MOST_ADDRESS_BYTES
    if _libc.getsockname(fd, address, ctypes.byref(size)) != 0:
        raise _error()
    return address.raw[: size.value]


def unsent(fd: int) -> int:
    """How many bytes the peer's kernel has not acknowledged (tcp(7), SIOCOUTQ), or a
    UNIX peer has not read. OSError.
    """
    found = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(found, sys.byteorder)


def send_before_fin(fd: int, data: bytes) -> int:
    """Send the last bytes before our FIN; return how many the kernel took (send(2)).

    Over TCP the end of them waits for the FIN and leaves in one segment with it
    (MSG_MORE). BlockingIOError if the send buffer is full, OSError as in the man page.
    """
    # c_char_p refuses a str, whose wide characters ctypes would send.
    sent: int = _libc.send(fd, ctypes.c_char_p(data), len(data), _LAST_DATA_FLAGS)
    if sent < 0:
        raise _error()
    return sent


def turn_away(fd: int, text: bytes = b"") -> None:
    """Send as much of ``text`` as the kernel takes, then our FIN, and close. What the
    peer has sent is read once, so that the close does not reset the connection before
    the text arrives (RFC 1122, 4.2.2.13). Errors of the connection are ignored: it ends
    in any case.
    """
    with contextlib.suppress(OSError):
        if text:
            os.write(fd, text)
            send_fin(fd)
            os.read(fd, _MOST_UNREAD_BYTES)
    os.close(fd)


def peek(fd: int, size: int) -> bytes:
    """Return up to ``size`` bytes that have come, and leave them to be read (MSG_PEEK,
    recv(2)). Empty if the peer's FIN is next. BlockingIOError if nothing has come,
    OSError as in the man page.
    """
    with borrowed(fd) as sock:
        return sock.recv(size, socket.MSG_PEEK)


def skip(fd: int, size: int) -> None:
    """Read ``size`` bytes that :func:`peek` has shown, and throw them away. OSError as
    in read(2).
    """
    while size:
        # A UNIX peer's bytes come in the pieces in which it has sent descriptors.
        piece = os.read(fd, size)
        if not piece:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        size -= len(piece)


def send_fin(fd: int) -> None:
    """End our direction of the connection (shutdown(2), SHUT_WR). OSError."""
    if _libc.shutdown(fd, socket.SHUT_WR) != 0:
        raise _error()


def reset_on_close(fd: int) -> None:
    """Let close(2) drop the unsent output and reset the connection (SO_LINGER of 0):
    else the kernel would go on trying to send it for minutes.
    """
    with borrowed(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def take_error(fd: int) -> OSError:
    """Return the error that waits on a socket, and clear it (SO_ERROR); ECONNRESET if
    none waits.
    """
    number = take_errno(fd) or errno.ECONNRESET
    return OSError(number, os.strerror(number))


def take_errno(fd: int) -> int:
    """Return the error that waits on a socket, and clear it (SO_ERROR); 0 if none
    waits. OSError.
    """
    with borrowed(fd) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def set_user_timeout(fd: int, user_timeout_s: float) -> None:
    """Set how long the peer may acknowledge nothing (TCP_USER_TIMEOUT, tcp(7)). A UNIX
    socket has no such option.
    """
    with borrowed(fd) as sock:
        if sock.family != socket.AF_UNIX:
            milliseconds = round(user_timeout_s * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def treat_urgent_as_data(fd: int) -> None:
    """Deliver an urgent byte in its place in the stream (SO_OOBINLINE)."""
    with borrowed(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


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
