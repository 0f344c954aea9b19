"""The control messages that say to which address a UDP datagram was sent: IP_PKTINFO
(ip(7)) and IPV6_PKTINFO (ipv6(7)). They go back with the answer, so that it leaves from
that address.

A process that shares the socket can ask the kernel for other messages as well, or for
these no more. So they are searched by level and type among all that come, and no other
message goes back.

Owns nothing. Called by :mod:`unpd.kernel.batches`. Calls nothing of unpd. Raises
nothing.
"""

import socket
import struct
from collections.abc import Iterable, Iterator

IP_PKTINFO = 8  # <linux/in.h>: the socket module of Python 3.11 lacks it
ROOM_BYTES = 512
"""The room for the messages of a datagram. The kernel writes the time, the drops and
the mark before these, about 200 bytes if all are asked for, and all others behind.
"""

# struct in_pktinfo has the interface, our address, and the address in the header of the
# datagram; struct in6_pktinfo has the address, then the interface.
PKTINFO = struct.Struct("=I4s4s")
PKTINFO6 = struct.Struct("=16sI")
MULTICAST_V6 = 0xFF  # ff00::/8, RFC 4291 section 2.7

_MESSAGE = struct.Struct("@Nii")  # struct cmsghdr: the length, the level, the type
_V4 = (socket.IPPROTO_IP, IP_PKTINFO)
_V6 = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
_FORMS = ((_V4, PKTINFO.size), (_V6, PKTINFO6.size))

Control = tuple[int, int, bytes]
"""The level, the type and the content of a message, as the module socket has them."""


def addresses_of(controls: Iterable[Control]) -> list[Control]:
    """The messages about the address, whole ones only, in their order."""
    return [each for each in controls if (each[:2], len(each[2])) in _FORMS]


def came_to_us(addresses: Iterable[Control]) -> bool:
    """Whether the datagram was sent to an address of this host. The kernel says both
    the address in the header and ours: over IPv4, only a broadcast or a multicast
    address differs from ours. Over IPv4, a socket of IPv6 gets a message of each.
    """
    ours = False
    for level, _, content in addresses:
        if level == socket.IPPROTO_IP:
            _, own, asked = PKTINFO.unpack(content)
            return bool(own == asked)
        ours = content[0] != MULTICAST_V6
    return ours


def free_interface(address: Control) -> Control:
    """Let the routes choose the interface by which the answer leaves: it need not be
    that of the question. A link-local address is of one interface.
    """
    level, kind, content = address
    if level == socket.IPPROTO_IP:
        return level, kind, bytes(4) + content[4:]
    link_local = content[0] == 0xFE and content[1] & 0xC0 == 0x80  # fe80::/10
    return address if link_local else (level, kind, content[:16] + bytes(4))


def unpacked(area: bytes) -> Iterator[Control]:
    """The messages in what the kernel wrote (cmsg(3))."""
    at = 0
    while at + _MESSAGE.size <= len(area):
        size, level, kind = _MESSAGE.unpack_from(area, at)
        yield level, kind, area[at + socket.CMSG_LEN(0) : at + size]
        at += socket.CMSG_SPACE(size - socket.CMSG_LEN(0))


def packed(controls: Iterable[Control]) -> bytes:
    """The messages as the kernel takes them."""
    return b"".join(
        (_MESSAGE.pack(socket.CMSG_LEN(len(content)), level, kind) + content).ljust(
            socket.CMSG_SPACE(len(content)), b"\0"
        )
        for level, kind, content in controls
    )
