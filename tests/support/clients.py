"""Clients that behave badly on purpose, and the plain one. Addresses are (host, port),
or a path for a UNIX socket; all sockets are the caller's to close.
"""

import contextlib
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator

Address = tuple[str, int] | str

TCP_REPAIR = 19
"""From <linux/tcp.h>; missing in Python's socket module."""

PIECE_BYTES = 65536
IDLE_PER_SOURCE = 20_000


def family(address: Address) -> socket.AddressFamily:
    """The address family that ``address`` needs."""
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def connect(
    address: Address,
    *,
    timeout_s: float = 10.0,
    receive_buffer: int = 0,
    send_buffer: int = 0,
    source: str = "",
) -> socket.socket:
    """A connection with ``timeout_s`` on every later call. Buffers in bytes (1 asks for
    the kernel's least, 0 leaves its default). OSError if refused.
    """
    sock = socket.socket(family(address), socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if source:
            sock.bind((source, 0))
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def refuses(port: int) -> bool:
    """Whether nobody listens on ``port``."""
    try:
        connect(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def read_all(sock: socket.socket) -> bytes:
    """All bytes until the peer's FIN; TimeoutError or ConnectionResetError as they
    come.
    """
    pieces: list[bytes] = []
    while piece := sock.recv(PIECE_BYTES):
        pieces.append(piece)
    return b"".join(pieces)


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """The next ``count`` bytes; fewer only if the peer's FIN came first."""
    pieces: list[bytes] = []
    while count > 0 and (piece := sock.recv(min(count, PIECE_BYTES))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def ask(address: Address, *, timeout_s: float = 10.0) -> bytes:
    """Connect, say nothing, return everything the server says until it closes
    (daytime).
    """
    with connect(address, timeout_s=timeout_s) as sock:
        return read_all(sock)


def converse(
    address: Address,
    data: bytes,
    *,
    timeout_s: float = 10.0,
    receive_buffer: int = 0,
    send_buffer: int = 0,
) -> bytes:
    """Send ``data`` while reading, half-close when it is sent, return everything until
    the peer's FIN (echo, of any length). TimeoutError after a standstill.
    """
    with connect(
        address, timeout_s=timeout_s, receive_buffer=receive_buffer, send_buffer=send_buffer
    ) as sock:
        sock.setblocking(False)
        left = memoryview(data)
        if not left:
            sock.shutdown(socket.SHUT_WR)
        pieces: list[bytes] = []
        while True:
            readable, writable, _ = select.select([sock], [sock] if left else [], [], timeout_s)
            if not readable and not writable:
                raise TimeoutError(
                    f"nothing moved for {timeout_s} s; {len(left)} bytes are not sent"
                )
            if writable:
                left = left[sock.send(left[:PIECE_BYTES]) :]
                if not left:
                    sock.shutdown(socket.SHUT_WR)
            if readable:
                piece = sock.recv(PIECE_BYTES)
                if not piece:
                    return b"".join(pieces)
                pieces.append(piece)


def drip(sock: socket.socket, data: bytes, interval_s: float) -> int:
    """Send ``data`` one byte each ``interval_s`` seconds (slowloris), throwing away
    what comes back. Returns how many bytes went before the peer ended it.
    """
    for sent in range(len(data)):
        try:
            sock.send(data[sent : sent + 1])
            if not _discard(sock, interval_s):
                return sent + 1
        except (ConnectionResetError, BrokenPipeError):
            return sent
    return len(data)


def _discard(sock: socket.socket, duration_s: float) -> bool:
    """Read and forget for ``duration_s`` seconds; False at the peer's FIN."""
    deadline = time.monotonic() + duration_s
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0] and not sock.recv(PIECE_BYTES):
            return False
    return True


def segments(sock: socket.socket, data: bytes) -> None:
    """Send each byte of ``data`` as a segment of its own (TCP_NODELAY). Read meanwhile
    if it is long: an echo could fill up.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for index in range(len(data)):
        sock.send(data[index : index + 1])


def urgent(sock: socket.socket, data: bytes) -> None:
    """Send ``data`` with its last byte marked urgent (MSG_OOB). The receiver's stream
    lacks that byte unless it asks for it or has SO_OOBINLINE.
    """
    sock.send(data, socket.MSG_OOB)


def stuff(sock: socket.socket, limit: int, stall_s: float = 1.0) -> int:
    """Send up to ``limit`` bytes and never read, until the peer has taken nothing for
    ``stall_s`` seconds. Returns how many bytes were taken.
    """
    sock.setblocking(False)
    piece = bytes(PIECE_BYTES)
    sent = 0
    while sent < limit and select.select([], [sock], [], stall_s)[1]:
        try:
            sent += sock.send(piece[: limit - sent])
        except BlockingIOError:
            continue
    return sent


def reset(sock: socket.socket) -> None:
    """Close with an RST instead of a FIN (SO_LINGER 0)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def vanish(sock: socket.socket) -> None:
    """Close without telling the peer, which is left half-open (TCP_REPAIR; needs
    CAP_NET_ADMIN). Our kernel answers the peer's next segment with an RST.
    """
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.close()


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open files to its hard limit, and
    return it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.contextmanager
def idle(address: Address, count: int, *, timeout_s: float = 10.0) -> Iterator[list[socket.socket]]:
    """``count`` connections that say nothing, closed at the end of the block. Beyond
    20,000 of IPv4 loopback they come from several source addresses.
    """
    raise_descriptor_limit()
    with contextlib.ExitStack() as stack:
        loopback = not isinstance(address, str) and address[0].startswith("127.")
        sources = (
            f"127.0.2.{index // IDLE_PER_SOURCE + 1}"
            if loopback and count > IDLE_PER_SOURCE
            else ""
            for index in range(count)
        )
        yield [
            stack.enter_context(connect(address, timeout_s=timeout_s, source=source))
            for source in sources
        ]
