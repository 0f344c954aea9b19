"""Datagram sockets: opens UDP sockets, prepares all, says their state, and counts the
datagrams that the kernel dropped. :mod:`unpd.kernel.batches` receives and sends.

A datagram is answered from the address to which it was sent: the kernel tells that
address (IP_PKTINFO, IPV6_RECVPKTINFO), and takes the same message back with the answer.
Otherwise the answer of a socket on a wildcard address would leave from the address of
the route, and the client would not know it.

An answer takes room in the send buffer until its UNIX client has read it, or until UDP
knows the Ethernet address of the receiver (arp(7)): three seconds if no host has it.
All clients share that buffer, so it is made large, and a half of it is kept for short
answers (:func:`room_for_long`).

Each socket belongs to the caller, which is the master or a worker. Calls nothing of
unpd. Raises OSError with the errno of the man page.
"""

import errno
import fcntl
import select
import socket
import struct
import termios

# From <asm-generic/socket.h>, <linux/in.h>, <linux/in6.h>: Python's socket module lacks
# them.
_SO_SNDBUFFORCE = 32
_SO_MEMINFO = 55
_SO_TIMESTAMPS = (29, 35, 37)  # SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING
_IP_PKTINFO = 8
_MEMINFO_WORDS = 9
_MEMINFO_DROPS = 8

SEND_BUFFER_BYTES = 4 << 20
"""The send buffer that is asked for; the kernel doubles it (socket(7)).

A UNIX client that reads nothing holds up to 11 answers
(net.unix.max_dgram_qlen), 769 KB of this if they are the longest: 11 such clients fill
it, where one filled the default.
"""


def open_udp(
    host: str, port: int, *, ipv6_only: bool, beside: socket.socket | None = None
) -> socket.socket:
    """Open a non-blocking UDP socket on a numeric host.

    On a kernel without IPv6, ``::`` becomes 0.0.0.0; getsockname(2) shows it.
    ``beside``: an older socket of ours that still has the address. OSError.
    """
    try:
        return _open_udp(host, port, ipv6_only, beside)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT and host == "::" and not ipv6_only:
            return _open_udp("0.0.0.0", port, ipv6_only, beside)
        raise


def _open_udp(host: str, port: int, ipv6_only: bool, beside: socket.socket | None) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(
        host.encode(),
        port,
        type=socket.SOCK_DGRAM,
        flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE,
    )[0]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, proto)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(ipv6_only))
        # With SO_REUSEADDR, a program of any other user could bind the same port and
        # get the datagrams: it is set only for this call, and only to replace our own.
        if beside is not None:
            beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(beside is not None))
        sock.bind(address)
        prepare(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def prepare(sock: socket.socket) -> None:
    """Set the options of a datagram socket that is open. OSError.

    Without SO_BROADCAST the kernel refuses to answer a broadcast address. The control
    messages that the options of other programs add would cost time.
    """
    _raise_send_buffer(sock)
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 0)
    for option in _SO_TIMESTAMPS:
        sock.setsockopt(socket.SOL_SOCKET, option, 0)
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


def _raise_send_buffer(sock: socket.socket) -> None:
    """Raise the send buffer to SEND_BUFFER_BYTES, or as far as net.core.wmem_max allows
    a process without CAP_NET_ADMIN. A trial socket shows how far: a buffer that is
    larger already, as by SendBuffer= of a socket unit, is left alone.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as trial:
        _set_send_buffer(trial)
        if _send_buffer(trial) > _send_buffer(sock):
            _set_send_buffer(sock)


def _set_send_buffer(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def _send_buffer(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def room_for_long(sock: socket.socket) -> int:
    """How many bytes of long answers may still be sent: while what waits fills half of
    the send buffer, the other half is for short answers. OSError.
    """
    waiting: int = struct.unpack("=i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return _send_buffer(sock) // 2 - waiting


def kernel_drops(sock: socket.socket) -> int:
    """How many datagrams the kernel dropped because the socket's buffer was full, or
    because they were damaged (SO_MEMINFO): 32 bits, 0 for a UNIX socket, whose senders
    wait instead. OSError.
    """
    words = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * _MEMINFO_WORDS)
    return int(struct.unpack_from("=I", words, 4 * _MEMINFO_DROPS)[0])


def is_open(sock: socket.socket) -> bool:
    """Whether this is a datagram socket with an address, which no process has shut
    down. A port or a path makes the address: one of 0 was never bound.
    """
    name = sock.getsockname()
    bound = bool(name[1]) if isinstance(name, tuple) else bool(name)
    return sock.type == socket.SOCK_DGRAM and bound and not is_shut_down(sock)


def is_connected(sock: socket.socket) -> bool:
    """Whether a process has connected the socket: it takes datagrams of one sender
    only.
    """
    try:
        return bool(sock.getpeername())
    except OSError:
        return False


def has_queued(sock: socket.socket) -> bool:
    """Whether a datagram waits; False for a socket that was shut down."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLRDHUP)
    seen = sum(mask for _, mask in poll.poll(0))
    return bool(seen & select.POLLIN) and not seen & (select.POLLRDHUP | select.POLLHUP)


def is_shut_down(sock: socket.socket) -> bool:
    """Whether a process has shut the socket down for reading (shutdown(2)): no datagram
    comes any more, and epoll calls it readable for ever.
    """
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))
