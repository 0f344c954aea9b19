"""Datagram sockets: opens UDP sockets, receives and sends datagrams in batches, counts
the datagrams that the kernel dropped.

A datagram is answered from the address to which it was sent: the kernel tells that
address (IP_PKTINFO, IPV6_RECVPKTINFO), and takes the same message back with the answer.
Otherwise the answer of a socket on a wildcard address would leave from the address of
the route, and the client would not know it.

One system call receives a batch and one sends the answers (recvmmsg(2), sendmmsg(2)),
and the bytes of an address are never made text for that: an echo of 64 bytes costs a
third of recvmsg and sendmsg of the module socket.

Owns the buffers of a :class:`Batch`; each socket belongs to the caller, which is the
master or a worker. Calls nothing of unpd. Raises OSError with the errno of the man
page.
"""

import ctypes
import errno
import mmap
import os
import select
import socket
import struct
import sys

BATCH = 32
"""How many datagrams of one socket are received in one turn: enough to pay for the
turn, few enough that the other descriptors get their turn.
"""
MAX_DATAGRAM_BYTES = 64 * 1024
"""The room for one datagram. UDP carries 65,507 bytes over IPv4 and 65,527 over IPv6;
a longer one of a UNIX socket arrives cut.
"""

# From <asm-generic/socket.h>, <linux/in.h>, <linux/in6.h>: Python's socket module lacks
# them.
_SO_MEMINFO = 55
_SO_TIMESTAMPS = (29, 35, 37)  # SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING
_IP_PKTINFO = 8
_MEMINFO_WORDS = 9
_MEMINFO_DROPS = 8

_NAME_BYTES = 128  # struct sockaddr_storage
_CONTROL_BYTES = 128
_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_RECEIVE_FLAGS = int(socket.MSG_DONTWAIT)
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

# Where a control message has its content: struct in_pktinfo has the interface, our
# address, and the address in the header of the datagram; struct in6_pktinfo has the
# address, then the interface. Over IPv4, a socket of IPv6 gets one of each.
_HEAD = socket.CMSG_LEN(0)
_PKTINFO_SPACE = socket.CMSG_SPACE(12)
_PKTINFO6_SPACE = socket.CMSG_SPACE(20)
_BOTH_SPACE = _PKTINFO6_SPACE + _PKTINFO_SPACE

# None of these calls blocks, so PyDLL keeps the interpreter's lock.
_libc = ctypes.PyDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("message", _Message), ("size", ctypes.c_uint))


_HEADER_BYTES = ctypes.sizeof(_Header)
_VECTOR_BYTES = ctypes.sizeof(_Vector)
_WORD = 4
_HEADER_WORDS = _HEADER_BYTES // _WORD
_HEADER_SIZES = _HEADER_BYTES // ctypes.sizeof(ctypes.c_size_t)
_SIZE_WORD = _Header.size.offset // _WORD
_FLAGS_WORD = _Message.flags.offset // _WORD
_NAME_SIZE_WORD = _Message.name_bytes.offset // _WORD
_CONTROL_SIZE = _Message.control_bytes.offset // ctypes.sizeof(ctypes.c_size_t)
_CONTROL_WORDS = _CONTROL_BYTES // _WORD
_CONTENT_WORD = _HEAD // _WORD
_PKTINFO6_WORDS = _PKTINFO6_SPACE // _WORD
# Masks over the first four bytes of an IPv6 address, as a word of this machine.
_FIRST_BYTE = int.from_bytes(b"\xff\0\0\0", sys.byteorder)
_LINK_LOCAL_MASK = int.from_bytes(b"\xff\xc0\0\0", sys.byteorder)
_LINK_LOCAL = int.from_bytes(b"\xfe\x80\0\0", sys.byteorder)


def _words(size: int) -> tuple[bytearray, memoryview, memoryview]:
    """Memory for structs: itself, and as words of 32 bits and of a pointer, which a
    size_t is as long as.
    """
    raw = bytearray(size)
    return raw, memoryview(raw).cast("I"), memoryview(raw).cast("P")


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
    """Set the options of a UDP socket that is open; none of a UNIX socket. OSError.

    Without SO_BROADCAST the kernel refuses to answer a broadcast address. The options
    of other programs would add control messages that nobody reads.
    """
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 0)
    for option in _SO_TIMESTAMPS:
        sock.setsockopt(socket.SOL_SOCKET, option, 0)
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


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


class Batch:
    """Receives datagrams into slots, and sends answers from them. One batch serves all
    sockets of a worker, one after the other.

    The bytes of an answer stand in the slot of its question, so that an echo moves
    none. The memory is mapped, not allocated: only the part that datagrams ever filled
    becomes memory.
    """

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, BATCH * MAX_DATAGRAM_BYTES))
        self._names = bytearray(BATCH * _NAME_BYTES)
        self._controls, self._control_words, _ = _words(BATCH * _CONTROL_BYTES)
        self._vectors, _, self._vector_sizes = _words(2 * BATCH * _VECTOR_BYTES)
        self._in, self._in_words, self._in_sizes = _words(BATCH * _HEADER_BYTES)
        self._out, self._out_words, self._out_sizes = _words(BATCH * _HEADER_BYTES)
        self._empty = self._make_headers(first_vector=0)
        self._answers = self._make_headers(first_vector=BATCH)
        self._in_at = _address_of(self._in)
        self._out_at = _address_of(self._out)
        self._sizes: list[int] = []  # of the answers that wait

    def _make_headers(self, first_vector: int) -> bytes:
        """The headers of all slots, as recvmmsg(2) takes them."""
        memory, names = _address_of(self._memory), _address_of(self._names)
        controls, vectors = _address_of(self._controls), _address_of(self._vectors)
        made = bytearray(BATCH * _HEADER_BYTES)
        for slot in range(BATCH):
            vector = (first_vector + slot) * _VECTOR_BYTES
            base = memory + slot * MAX_DATAGRAM_BYTES
            self._vectors[vector : vector + _VECTOR_BYTES] = bytes(
                _Vector(base, MAX_DATAGRAM_BYTES)
            )
            message = _Message(
                name=names + slot * _NAME_BYTES,
                name_bytes=_NAME_BYTES,
                vectors=vectors + vector,
                vector_count=1,
                control=controls + slot * _CONTROL_BYTES,
                control_bytes=_CONTROL_BYTES,
            )
            at = slot * _HEADER_BYTES
            made[at : at + _HEADER_BYTES] = bytes(_Header(message, 0))
        return bytes(made)

    def receive(self, fd: int) -> int:
        """Receive up to BATCH datagrams into the slots from 0 on; return how many.

        BlockingIOError if none waits; OSError for an error that waits on the socket.
        """
        self._in[:] = self._empty
        count: int = _libc.recvmmsg(fd, ctypes.c_void_p(self._in_at), BATCH, _RECEIVE_FLAGS, None)
        if count < 0:
            raise _error()
        return count

    def size(self, slot: int) -> int:
        """How many bytes came into the slot; fewer than were sent if it came
        :meth:`cut`.
        """
        return self._in_words[slot * _HEADER_WORDS + _SIZE_WORD]

    def cut(self, slot: int) -> bool:
        """Whether the datagram, or the message about its addresses, came cut."""
        return bool(self._in_words[slot * _HEADER_WORDS + _FLAGS_WORD] & _CUT)

    def piece(self, slot: int) -> memoryview:
        """The bytes of the datagram, valid until the next :meth:`receive`."""
        at = slot * MAX_DATAGRAM_BYTES
        return self._memory[at : at + self._in_words[slot * _HEADER_WORDS + _SIZE_WORD]]

    def name(self, slot: int) -> bytes:
        """The sender's address: a sockaddr (ip(7), ipv6(7), unix(7)), as long as the
        kernel made it.
        """
        at = slot * _NAME_BYTES
        size = self._in_words[slot * _HEADER_WORDS + _NAME_SIZE_WORD]
        return bytes(self._names[at : at + size])

    def came_to_us(self, slot: int) -> bool:
        """Whether a UDP datagram was sent to an address of this host: not to a
        broadcast or multicast address, and not without the kernel's word about it.

        The kernel says both the address in the header and ours: only a broadcast or a
        multicast address differs from ours.
        """
        words, at = self._control_words, slot * _CONTROL_WORDS
        size = self._in_sizes[slot * _HEADER_SIZES + _CONTROL_SIZE]
        if size == _PKTINFO6_SPACE:
            first = words[at + _CONTENT_WORD] & _FIRST_BYTE
            return first != _FIRST_BYTE  # ff00::/8 is multicast (RFC 4291 section 2.7)
        if size == _BOTH_SPACE:
            at += _PKTINFO6_WORDS
        elif size != _PKTINFO_SPACE:
            return False
        return words[at + _CONTENT_WORD + 1] == words[at + _CONTENT_WORD + 2]

    def answer(self, slot: int, reply: bytes | memoryview) -> None:
        """Let ``reply``, of at most MAX_DATAGRAM_BYTES, wait for the next :meth:`send`
        as the answer to the slot's datagram.
        """
        size, index = len(reply), len(self._sizes)
        at = slot * MAX_DATAGRAM_BYTES
        self._memory[at : at + size] = reply
        self._vector_sizes[(BATCH + slot) * 2 + 1] = size
        out, template = index * _HEADER_BYTES, slot * _HEADER_BYTES
        self._out[out : out + _HEADER_BYTES] = self._answers[template : template + _HEADER_BYTES]
        source = slot * _HEADER_WORDS + _NAME_SIZE_WORD
        self._out_words[index * _HEADER_WORDS + _NAME_SIZE_WORD] = self._in_words[source]
        control = self._in_sizes[slot * _HEADER_SIZES + _CONTROL_SIZE]
        self._out_sizes[index * _HEADER_SIZES + _CONTROL_SIZE] = control
        if control:
            self._free_interface(slot, control)
        self._sizes.append(size)

    def _free_interface(self, slot: int, control: int) -> None:
        """Let the routes choose the interface by which the answer leaves: it need not
        be that of the question. A link-local address is of one interface.
        """
        words, at = self._control_words, slot * _CONTROL_WORDS
        if control != _PKTINFO_SPACE:
            if words[at + _CONTENT_WORD] & _LINK_LOCAL_MASK != _LINK_LOCAL:
                words[at + _CONTENT_WORD + 4] = 0
            at += _PKTINFO6_WORDS
        if control != _PKTINFO6_SPACE:
            words[at + _CONTENT_WORD] = 0

    def pending_bytes(self) -> int:
        """The bytes of all answers that wait."""
        return sum(self._sizes)

    def send(self, fd: int) -> list[tuple[int, int]]:
        """Send the answers that wait. Return the size and the errno of each that the
        kernel refused; the others go on.
        """
        sizes, self._sizes = self._sizes, []
        failures = []
        done = 0
        while done < len(sizes):
            first = ctypes.c_void_p(self._out_at + done * _HEADER_BYTES)
            sent: int = _libc.sendmmsg(fd, first, len(sizes) - done, _SEND_FLAGS)
            if sent < 0:
                failures.append((sizes[done], ctypes.get_errno()))
            done += max(1, sent)
        return failures


def _address_of(memory: bytearray | memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
