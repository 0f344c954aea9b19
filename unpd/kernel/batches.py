"""Receives datagrams and sends the answers, for all datagram sockets of a worker, one
after the other.

:class:`PlainBatch` is the plain version: recvmsg(2) and sendmsg(2) of the module
socket, a datagram a call. :class:`Batch` receives a batch by one system call and sends
the answers by another (recvmmsg(2), sendmmsg(2)), and never makes text of the bytes of
an address. That saves a quarter of the processor time: with 50 clients that echo 64
bytes, a datagram takes 7.9 us and 10.4 with the plain version, where a C server with
recvmsg and sendmsg takes 5.7 (make bench, row udp-64-50, on a busy machine). From a
single client there is no batch, and both take nearly the same. :func:`make_batch`
chooses.

Both take the control messages that :func:`unpd.kernel.datagrams.prepare` asks for, and
give them back with the answer, so that it leaves from the address that was asked.

Owns the buffers; each socket belongs to the caller, which is the worker. Calls nothing
of unpd. Raises OSError with the errno of the man page.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

BATCH = 32
"""How many datagrams of one socket are received in one turn: enough to pay for the
turn, few enough that the other descriptors get their turn.
"""
MAX_DATAGRAM_BYTES = 64 * 1024
"""The room for one datagram. UDP carries 65,507 bytes over IPv4 and 65,527 over IPv6;
a longer one of a UNIX socket arrives cut.
"""

_IP_PKTINFO = 8  # <linux/in.h>: the socket module of Python 3.11 lacks it
_NAME_BYTES = 128  # struct sockaddr_storage
_CONTROL_BYTES = 128
_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_RECEIVE_FLAGS = int(socket.MSG_DONTWAIT)
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

# struct in_pktinfo has the interface, our address, and the address in the header of the
# datagram; struct in6_pktinfo has the address, then the interface.
_PKTINFO = struct.Struct("=I4s4s")
_PKTINFO6 = struct.Struct("=16sI")
_MULTICAST_V6 = 0xFF  # ff00::/8, RFC 4291 section 2.7

Came = tuple[Hashable, int, bool, bool]
"""A datagram in a slot: its sender, as a key (:meth:`AnyBatch.name`); its size, less
than was sent if it came cut; whether it, or the message about its addresses, came cut;
and whether a UDP datagram was sent to an address of this host: not to a broadcast or
multicast address, and not without the kernel's word about it.
"""
Control = tuple[int, int, bytes]


@dataclass(slots=True)
class Sent:
    """How many answers the kernel took, their bytes, and the errno of each that it
    refused.
    """

    count: int = 0
    size: int = 0
    failures: list[int] = field(default_factory=list)


class AnyBatch(Protocol):
    """What both versions do."""

    def receive(self, sock: socket.socket) -> list[Came]:
        """Receive up to BATCH datagrams; the place in the list is the slot.

        BlockingIOError if none waits; OSError for an error that waits on the socket.
        """

    def name(self, key: Any) -> bytes:
        """The address of a sender: a sockaddr (ip(7), ipv6(7), unix(7)), as long as the
        kernel makes it.
        """

    def piece(self, slot: int) -> bytes | memoryview:
        """The bytes of the datagram, valid until the next :meth:`receive`."""

    def answer(self, slot: int, reply: bytes | memoryview) -> None:
        """Let ``reply``, of at most MAX_DATAGRAM_BYTES, wait for the next :meth:`send`
        as the answer to the slot's datagram. Slots are answered in ascending order.
        """

    def send(self, sock: socket.socket) -> Sent:
        """Send the answers that wait. One that the kernel refuses stops no other."""


def make_batch(*, plain: bool = False) -> AnyBatch:
    """Make the plain version if ``plain``, or if the kernel or a filter (seccomp(2))
    refuses one of the calls of the other one.
    """
    return PlainBatch() if plain or not _takes_batches() else Batch()


# --- the plain version ----------------------------------------------------------------


class PlainBatch:
    """Receives and sends a datagram a call."""

    def __init__(self) -> None:
        self._came: list[tuple[bytes, list[Control], int, Any]] = []
        self._answers: list[tuple[bytes | memoryview, list[Control], Any]] = []

    def receive(self, sock: socket.socket) -> list[Came]:
        """See :class:`AnyBatch`. An error behind a datagram is lost."""
        self._came = []
        try:
            while len(self._came) < BATCH:
                self._came.append(sock.recvmsg(MAX_DATAGRAM_BYTES, _CONTROL_BYTES, _RECEIVE_FLAGS))
        except OSError:
            if not self._came:
                raise
        return [
            (sender, len(piece), flags & _CUT != 0, _came_to_us(controls))
            for piece, controls, flags, sender in self._came
        ]

    def name(self, key: Any) -> bytes:
        """See :class:`AnyBatch`."""
        if isinstance(key, tuple):
            return _internet_name(*key)
        if not key:
            return b""
        return struct.pack("=H", socket.AF_UNIX) + os.fsencode(key)

    def piece(self, slot: int) -> bytes:
        """See :class:`AnyBatch`."""
        return self._came[slot][0]

    def answer(self, slot: int, reply: bytes | memoryview) -> None:
        """See :class:`AnyBatch`."""
        _, controls, _, sender = self._came[slot]
        self._answers.append((reply, [_free_interface(each) for each in controls], sender))

    def send(self, sock: socket.socket) -> Sent:
        """See :class:`AnyBatch`."""
        answers, self._answers = self._answers, []
        done = Sent()
        for reply, controls, sender in answers:
            try:
                done.size += sock.sendmsg((reply,), controls, _SEND_FLAGS, sender)
                done.count += 1
            except OSError as error:
                done.failures.append(error.errno or errno.EIO)
        return done


def _came_to_us(controls: Iterable[Control]) -> bool:
    """The kernel says both the address in the header and ours: over IPv4, only a
    broadcast or a multicast address differs from ours. Over IPv4, a socket of IPv6 gets
    a message of each.
    """
    ours = False
    for level, kind, content in controls:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, own, asked = _PKTINFO.unpack(content)
            return bool(own == asked)
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            ours = content[0] != _MULTICAST_V6
    return ours


def _free_interface(control: Control) -> Control:
    """Let the routes choose the interface by which the answer leaves: it need not be
    that of the question. A link-local address is of one interface.
    """
    level, kind, content = control
    if level == socket.IPPROTO_IP:
        return level, kind, bytes(4) + content[4:]
    link_local = content[0] == 0xFE and content[1] & 0xC0 == 0x80  # fe80::/10
    return control if link_local else (level, kind, content[:16] + bytes(4))


def _internet_name(host: str, port: int, flow: int = 0, scope: int | None = None) -> bytes:
    if scope is None:
        head = struct.pack("=H", socket.AF_INET) + port.to_bytes(2, "big")
        return head + socket.inet_pton(socket.AF_INET, host) + bytes(8)
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, flow)
    return head + socket.inet_pton(socket.AF_INET6, host) + struct.pack("=I", scope)


# --- many datagrams a call ------------------------------------------------------------

# None of these calls blocks, so PyDLL keeps the interpreter's lock.
_libc = ctypes.PyDLL(None, use_errno=True)

# struct mmsghdr: a struct msghdr (name, vectors, control, flags) and the size of the
# datagram. "0P" pads as C does.
_HEADER = struct.Struct("@PIPNPNi0PI0P")
_VECTOR = struct.Struct("@PN")
_WORD_BYTES = 4
_CONTENT_WORD = socket.CMSG_LEN(0) // _WORD_BYTES
_CONTROL_WORDS = _CONTROL_BYTES // _WORD_BYTES
_PKTINFO_SPACE = socket.CMSG_SPACE(_PKTINFO.size)
_PKTINFO6_SPACE = socket.CMSG_SPACE(_PKTINFO6.size)
_BOTH_SPACE = _PKTINFO6_SPACE + _PKTINFO_SPACE
# Masks over the first four bytes of an IPv6 address, as a word of this machine.
_FIRST_BYTE = int.from_bytes(b"\xff\0\0\0", sys.byteorder)
_LINK_LOCAL_MASK = int.from_bytes(b"\xff\xc0\0\0", sys.byteorder)
_LINK_LOCAL = int.from_bytes(b"\xfe\x80\0\0", sys.byteorder)


def _takes_batches() -> bool:
    """Whether the kernel takes both calls: -1 is no socket, which only a call that is
    not refused finds out.
    """
    for call in (_libc.recvmmsg, _libc.sendmmsg):
        call(-1, None, 0, 0, None)
        if ctypes.get_errno() != errno.EBADF:
            return False
    return True


class Batch:
    """Receives up to BATCH datagrams a call into slots, and sends the answers from
    there: an answer has the place and the header of its question, so that an echo moves
    no byte.

    The memory is mapped, not allocated: only the part that datagrams ever filled
    becomes memory.
    """

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, BATCH * MAX_DATAGRAM_BYTES))
        self._names = mmap.mmap(-1, BATCH * _NAME_BYTES)
        self._controls = bytearray(BATCH * _CONTROL_BYTES)
        self._control_words = memoryview(self._controls).cast("I")
        self._vectors = bytearray(BATCH * _VECTOR.size)
        self._vector_sizes = memoryview(self._vectors).cast("P")
        self._headers = bytearray(BATCH * _HEADER.size)
        headers_at = _address_of(self._headers)
        self._places = [ctypes.c_void_p(headers_at + at * _HEADER.size) for at in range(BATCH)]
        self._fill()
        self._fresh = bytes(self._vectors), bytes(self._headers)
        self._came: list[Came] = []
        self._slots: list[int] = []  # of the answers that wait

    def _fill(self) -> None:
        """Make vectors and headers as recvmmsg(2) takes them."""
        memory, names = _address_of(self._memory), _address_of(self._names)
        controls, vectors = _address_of(self._controls), _address_of(self._vectors)
        for slot in range(BATCH):
            _VECTOR.pack_into(
                self._vectors,
                slot * _VECTOR.size,
                memory + slot * MAX_DATAGRAM_BYTES,
                MAX_DATAGRAM_BYTES,
            )
            _HEADER.pack_into(
                self._headers,
                slot * _HEADER.size,
                *(names + slot * _NAME_BYTES, _NAME_BYTES),
                *(vectors + slot * _VECTOR.size, 1),
                *(controls + slot * _CONTROL_BYTES, _CONTROL_BYTES),
                *(0, 0),
            )

    def receive(self, sock: socket.socket) -> list[Came]:
        """See :class:`AnyBatch`."""
        self._vectors[:], self._headers[:] = self._fresh
        count: int = _libc.recvmmsg(sock.fileno(), self._places[0], BATCH, _RECEIVE_FLAGS, None)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        came = self._came = []
        for slot in range(count):
            _, name_bytes, _, _, _, control_bytes, flags, size = _HEADER.unpack_from(
                self._headers, slot * _HEADER.size
            )
            name = self._names[slot * _NAME_BYTES : slot * _NAME_BYTES + name_bytes]
            came.append((name, size, flags & _CUT != 0, self._turn_back(slot, control_bytes)))
        return came

    def _turn_back(self, slot: int, control_bytes: int) -> bool:
        """Make the message about the addresses fit for the answer, as
        :func:`_free_interface` does; return whether the datagram was sent to us, as
        :func:`_came_to_us` does.
        """
        words, at = self._control_words, slot * _CONTROL_WORDS + _CONTENT_WORD
        if control_bytes != _PKTINFO_SPACE:
            if control_bytes not in (_PKTINFO6_SPACE, _BOTH_SPACE):
                return False
            first = words[at]
            if first & _LINK_LOCAL_MASK != _LINK_LOCAL:
                words[at + 4] = 0
            if control_bytes == _PKTINFO6_SPACE:
                return first & _FIRST_BYTE != _FIRST_BYTE
            at += _PKTINFO6_SPACE // _WORD_BYTES
        words[at] = 0
        return words[at + 1] == words[at + 2]

    def name(self, key: bytes) -> bytes:
        """See :class:`AnyBatch`."""
        return key

    def piece(self, slot: int) -> memoryview:
        """See :class:`AnyBatch`."""
        at = slot * MAX_DATAGRAM_BYTES
        return self._memory[at : at + self._came[slot][1]]

    def answer(self, slot: int, reply: bytes | memoryview) -> None:
        """See :class:`AnyBatch`."""
        size, at = len(reply), slot * MAX_DATAGRAM_BYTES
        self._memory[at : at + size] = reply
        self._vector_sizes[2 * slot + 1] = size
        self._slots.append(slot)

    def send(self, sock: socket.socket) -> Sent:
        """See :class:`AnyBatch`. Neighbours leave in one call."""
        slots, self._slots = self._slots, []
        done = Sent()
        at = 0
        while at < len(slots):
            first, count = slots[at], 1
            while at + count < len(slots) and slots[at + count] == first + count:
                count += 1
            sent: int = _libc.sendmmsg(sock.fileno(), self._places[first], count, _SEND_FLAGS)
            if sent < 0:
                done.failures.append(ctypes.get_errno())
                at += 1
                continue
            done.count += sent
            done.size += sum(self._vector_sizes[2 * first + 1 : 2 * (first + sent) : 2])
            at += sent
        return done


def _address_of(memory: bytearray | memoryview | mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
