"""Clients for real sockets, well-behaved and badly behaved.

Integration, chaos and packaging tests use them. An address is (host, port), or the path
of a UNIX socket. The caller closes the sockets.
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
"""From <linux/tcp.h>. Python's socket module lacks it."""

PIECE_BYTES = 65536
IDLE_PER_SOURCE = 20_000


def family(address: Address) -> socket.AddressFamily:
    """Return the address family that ``address`` needs."""
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
    """Connect, and set ``timeout_s`` for every later call. Buffers are in bytes: 1 asks
    for the kernel's minimum, 0 keeps its default. OSError if refused.
    """
    sock = socket.socket(family(address), socket.SOCK_STREAM)
    try:
        if sock.family == socket.AF_UNIX:
            # Where the accept queue is full, a socket that does not block gets EAGAIN
            # at once (connect(2)): this one waits, and so long at most (socket(7)).
            limit = struct.pack("@ll", int(timeout_s), round(timeout_s % 1 * 1e6))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            sock.settimeout(timeout_s)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if source:
            sock.bind((source, 0))
        sock.connect(address)
        sock.settimeout(timeout_s)
    except BaseException:
        sock.close()
        raise
    return sock


def refuses(port: int) -> bool:
    """Whether a connection to ``port`` is refused."""
    try:
        connect(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def read_all(sock: socket.socket) -> bytes:
    """Read until the peer's FIN. TimeoutError or ConnectionResetError pass through."""
    pieces: list[bytes] = []
    while piece := sock.recv(PIECE_BYTES):
        pieces.append(piece)
    return b"".join(pieces)


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """Read the next ``count`` bytes; fewer only if the peer's FIN came first."""
    pieces: list[bytes] = []
    while count > 0 and (piece := sock.recv(min(count, PIECE_BYTES))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def ask(address: Address, *, timeout_s: float = 10.0) -> bytes:
    """Connect, send nothing, and return everything that the server sends until it
    closes (daytime).
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
    """Send ``data`` and read at the same time, half-close after the last byte, and
    return everything until the peer's FIN. TimeoutError if nothing moves for
    ``timeout_s``.
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
            readable, writable = wait_ready(sock, timeout_s, writing=bool(left))
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


def wait_ready(
    sock: socket.socket, timeout_s: float, *, reading: bool = True, writing: bool = False
) -> tuple[bool, bool]:
    """Wait until the socket can be read or written; return which of them, neither after
    ``timeout_s``. The descriptor may be beyond 1023, which select(2) refuses.
    """
    poll = select.poll()
    poll.register(sock, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
    events = sum(found for _, found in poll.poll(timeout_s * 1000))
    readable = reading and bool(events & (select.POLLIN | select.POLLHUP | select.POLLERR))
    return readable, writing and bool(events & (select.POLLOUT | select.POLLERR))


@contextlib.contextmanager
def asking(address: Address, *, timeout_s: float = 10.0) -> Iterator[socket.socket]:
    """A datagram client that takes answers from ``address`` alone. A UNIX one has an
    abstract name, because the user of the workers may not reach the directory of the
    test.
    """
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        if isinstance(address, str):
            sock.bind("")
        sock.connect(address)
        yield sock


def send_slowly(sock: socket.socket, data: bytes, interval_s: float) -> int:
    """Send ``data`` one byte each ``interval_s`` seconds (slowloris) and discard the
    answers. Return the number of bytes sent before the peer closed.
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
    """Read and discard for ``duration_s`` seconds. False at the peer's FIN."""
    deadline = time.monotonic() + duration_s
    while (left := deadline - time.monotonic()) > 0:
        if wait_ready(sock, left)[0] and not sock.recv(PIECE_BYTES):
            return False
    return True


def send_bytewise(sock: socket.socket, data: bytes) -> None:
    """Send each byte of ``data`` as a segment of its own (TCP_NODELAY). Long data needs
    a reader, because an echo could fill the buffers.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for index in range(len(data)):
        sock.send(data[index : index + 1])


def send_urgent(sock: socket.socket, data: bytes) -> None:
    """Send ``data`` with its last byte marked urgent (MSG_OOB). The receiver's stream
    lacks that byte unless it asks for it or has SO_OOBINLINE.
    """
    sock.send(data, socket.MSG_OOB)


def send_until_blocked(sock: socket.socket, limit: int, stall_s: float = 1.0) -> int:
    """Send up to ``limit`` bytes without reading, until the peer has taken nothing for
    ``stall_s`` seconds. Return the number of bytes taken.
    """
    sock.setblocking(False)
    piece = bytes(PIECE_BYTES)
    sent = 0
    while sent < limit and wait_ready(sock, stall_s, reading=False, writing=True)[1]:
        try:
            sent += sock.send(piece[: limit - sent])
        except BlockingIOError:
            continue
    return sent


def reset(sock: socket.socket) -> None:
    """Close with an RST instead of a FIN (SO_LINGER 0)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def close_silently(sock: socket.socket) -> None:
    """Close without a segment to the peer, which stays half-open (TCP_REPAIR; needs
    CAP_NET_ADMIN). Our kernel answers the peer's next segment with an RST.
    """
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.close()


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open files to its hard limit. Return the
    limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.contextmanager
def crowd(path: str, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Hold ``count`` connections to a UNIX socket whose queue has no room for all, and
    close them at the end of the block. Each sends ``data``, unless the peer has closed
    it before.
    """
    with contextlib.ExitStack() as stack:
        socks: list[socket.socket] = []
        for _ in range(count):
            sock = stack.enter_context(connect(path))
            socks.append(sock)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(data)
        yield socks


@contextlib.contextmanager
def idle(address: Address, count: int, *, timeout_s: float = 10.0) -> Iterator[list[socket.socket]]:
    """Hold ``count`` connections that send nothing, and close them at the end of the
    block. More than 20,000 on IPv4 loopback use several source addresses.
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
