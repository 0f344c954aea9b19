"""Many datagrams a call: recvmmsg(2) and sendmmsg(2).

Called by the worker through :func:`unpd.kernel.batches.make_batch`. Owns the buffers.
Raises OSError with the errno of the man page.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys

from unpd.kernel.batches import pktinfo
from unpd.kernel.batches.batch import (
    BATCH,
    MAX_DATAGRAM_BYTES,
    RECEIVE_FLAGS,
    SEND_FLAGS,
    Came,
    Sent,
)

_NAME_BYTES = 128  # struct sockaddr_storage

# None of these calls blocks, so PyDLL keeps the interpreter's lock.
_libc = ctypes.PyDLL(None, use_errno=True)

# struct mmsghdr: a struct msghdr (name, vectors, control, flags) and the size of the
# datagram. "0P" pads as C does.
_HEADER = struct.Struct("@PIPNPNi0PI0P")
_VECTOR = struct.Struct("@PN")
_WORD_BYTES = 4
_CONTENT_WORD = socket.CMSG_LEN(0) // _WORD_BYTES
_CONTROL_WORDS = pktinfo.ROOM_BYTES // _WORD_BYTES
_CONTROL_SIZE_AT = struct.calcsize("@PIPNP0N")
_PKTINFO_SPACE = socket.CMSG_SPACE(pktinfo.PKTINFO.size)
_PKTINFO6_SPACE = socket.CMSG_SPACE(pktinfo.PKTINFO6.size)
_BOTH_SPACE = _PKTINFO6_SPACE + _PKTINFO_SPACE
_PKTINFO6_WORDS = _PKTINFO6_SPACE // _WORD_BYTES
# Masks over the first four bytes of an IPv6 address, as a word of this machine.
_FIRST_BYTE = int.from_bytes(b"\xff\0\0\0", sys.byteorder)
_LINK_LOCAL_MASK = int.from_bytes(b"\xff\xc0\0\0", sys.byteorder)
_LINK_LOCAL = int.from_bytes(b"\xfe\x80\0\0", sys.byteorder)


def takes_batches() -> bool:
    """Whether the kernel takes both calls: -1 is no socket, which only a call that is
    not refused finds out. A filter may also say that a call succeeded.
    """
    for call in (_libc.recvmmsg, _libc.sendmmsg):
        if call(-1, None, 0, 0, None) != -1 or ctypes.get_errno() != errno.EBADF:
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
        self._controls = bytearray(BATCH * pktinfo.ROOM_BYTES)
        self._control_words = memoryview(self._controls).cast("I")
        self._vectors = bytearray(BATCH * _VECTOR.size)
        self._vector_sizes = memoryview(self._vectors).cast("P")
        self._headers = bytearray(BATCH * _HEADER.size)
        headers_at = _address_of(self._headers)
        self._places = [ctypes.c_void_p(headers_at + at * _HEADER.size) for at in range(BATCH)]
        self._fresh_headers = {False: self._fill(), True: self._fill(is_unix=True)}
        self._fresh_vectors = bytes(self._vectors)
        self._came: list[Came] = []
        self._slots: list[int] = []  # of the answers that wait

    def _fill(self, *, is_unix: bool = False) -> bytes:
        """Make vectors and headers as recvmmsg(2) takes them; return the headers. Those
        for a UNIX socket have no room for control messages.
        """
        memory, names = _address_of(self._memory), _address_of(self._names)
        controls, vectors = _address_of(self._controls), _address_of(self._vectors)
        room = 0 if is_unix else pktinfo.ROOM_BYTES
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
                *(controls + slot * pktinfo.ROOM_BYTES if room else 0, room),
                *(0, 0),
            )
        return bytes(self._headers)

    def receive(self, sock: socket.socket, *, is_unix: bool) -> list[Came]:
        """See :class:`AnyBatch`."""
        self._vectors[:], self._headers[:] = self._fresh_vectors, self._fresh_headers[is_unix]
        count: int = _libc.recvmmsg(sock.fileno(), self._places[0], BATCH, RECEIVE_FLAGS, None)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        came = self._came = []
        for slot in range(count):
            _, name_bytes, _, _, _, control_bytes, flags, size = _HEADER.unpack_from(
                self._headers, slot * _HEADER.size
            )
            name = self._names[slot * _NAME_BYTES : slot * _NAME_BYTES + name_bytes]
            came.append(
                (name, size, flags & socket.MSG_TRUNC != 0, self._turn_back(slot, control_bytes))
            )
        return came

    def _turn_back(self, slot: int, control_bytes: int) -> bool:
        """Make the messages about the address fit for the answer, and remove others;
        return whether the datagram was sent to us. This is what
        :mod:`unpd.kernel.batches.pktinfo` does, in place.
        """
        words, at = self._control_words, slot * _CONTROL_WORDS + _CONTENT_WORD
        if control_bytes and not self._has_addresses_alone(at, control_bytes):
            control_bytes = self._keep_addresses(slot, control_bytes)
        if not control_bytes:
            return False
        if control_bytes != _PKTINFO_SPACE:
            first = words[at]
            if first & _LINK_LOCAL_MASK != _LINK_LOCAL:
                words[at + 4] = 0
            if control_bytes == _PKTINFO6_SPACE:
                return first & _FIRST_BYTE != _FIRST_BYTE
            at += _PKTINFO6_WORDS
        words[at] = 0
        return words[at + 1] == words[at + 2]

    def _has_addresses_alone(self, at: int, control_bytes: int) -> bool:
        """Whether the messages, of which the first has its content ``at``, are those
        about the address and no others. The type stands before the content.
        """
        words = self._control_words
        if control_bytes == _PKTINFO_SPACE:
            return words[at - 1] == pktinfo.IP_PKTINFO and words[at - 2] == socket.IPPROTO_IP
        if control_bytes not in (_PKTINFO6_SPACE, _BOTH_SPACE):
            return False
        if words[at - 1] != socket.IPV6_PKTINFO or words[at - 2] != socket.IPPROTO_IPV6:
            return False
        return control_bytes == _PKTINFO6_SPACE or self._has_addresses_alone(
            at + _PKTINFO6_WORDS, _PKTINFO_SPACE
        )

    def _keep_addresses(self, slot: int, control_bytes: int) -> int:
        """Remove all messages but those about the address; return their bytes."""
        at = slot * pktinfo.ROOM_BYTES
        came = pktinfo.unpacked(bytes(self._controls[at : at + control_bytes]))
        kept = pktinfo.packed(pktinfo.addresses_of(came))
        self._controls[at : at + len(kept)] = kept
        struct.pack_into("@N", self._headers, slot * _HEADER.size + _CONTROL_SIZE_AT, len(kept))
        return len(kept)

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
            sent: int = _libc.sendmmsg(sock.fileno(), self._places[first], count, SEND_FLAGS)
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
