"""What both versions of a batch do, and its bounds.

Owns nothing. Called by the versions and by their callers.
"""

import socket
from collections.abc import Hashable
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
RECEIVE_FLAGS = int(socket.MSG_DONTWAIT)
SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

Came = tuple[Hashable, int, bool, bool]
"""A datagram in a slot: its sender, as a key (:meth:`AnyBatch.name`); its size, which
is less than the sender sent if it came cut; whether it came cut; and whether the kernel
says that a UDP datagram was sent to an address of this host, and not to a broadcast or
multicast address.
"""


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

    def receive(self, sock: socket.socket, *, is_unix: bool) -> list[Came]:
        """Receive up to BATCH datagrams; the place in the list is the slot.
        ``is_unix``: whether it is a UNIX socket.

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
