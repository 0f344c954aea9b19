"""The plain version: recvmsg(2) and sendmsg(2) of the module socket, a datagram a call.

Called by the worker through :func:`unpd.kernel.batches.make_batch`. Raises OSError with
the errno of the man page.
"""

import errno
import os
import socket
import struct
from typing import Any

from unpd.kernel.batches import pktinfo
from unpd.kernel.batches.batch import (
    BATCH,
    MAX_DATAGRAM_BYTES,
    RECEIVE_FLAGS,
    SEND_FLAGS,
    Came,
    Sent,
)


class PlainBatch:
    """Receives and sends a datagram a call."""

    def __init__(self) -> None:
        self._came: list[tuple[bytes, list[pktinfo.Control], int, Any]] = []
        self._answers: list[tuple[bytes | memoryview, list[pktinfo.Control], Any]] = []

    def receive(self, sock: socket.socket, *, is_unix: bool) -> list[Came]:
        """See :class:`AnyBatch`. An error behind a datagram is lost."""
        self._came = []
        room = 0 if is_unix else pktinfo.ROOM_BYTES
        try:
            while len(self._came) < BATCH:
                piece, controls, flags, sender = sock.recvmsg(
                    MAX_DATAGRAM_BYTES, room, RECEIVE_FLAGS
                )
                self._came.append((piece, pktinfo.addresses_of(controls), flags, sender))
        except OSError:
            if not self._came:
                raise
        return [
            (sender, len(piece), flags & socket.MSG_TRUNC != 0, pktinfo.came_to_us(addresses))
            for piece, addresses, flags, sender in self._came
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
        _, addresses, _, sender = self._came[slot]
        self._answers.append((reply, [pktinfo.free_interface(one) for one in addresses], sender))

    def send(self, sock: socket.socket) -> Sent:
        """See :class:`AnyBatch`."""
        answers, self._answers = self._answers, []
        done = Sent()
        for reply, addresses, sender in answers:
            try:
                done.size += sock.sendmsg((reply,), addresses, SEND_FLAGS, sender)
                done.count += 1
            except OSError as error:
                done.failures.append(error.errno or errno.EIO)
        return done


def _internet_name(host: str, port: int, flow: int = 0, scope: int | None = None) -> bytes:
    if scope is None:
        head = struct.pack("=H", socket.AF_INET) + port.to_bytes(2, "big")
        return head + socket.inet_pton(socket.AF_INET, host) + bytes(8)
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, flow)
    return head + socket.inet_pton(socket.AF_INET6, host) + struct.pack("=I", scope)
