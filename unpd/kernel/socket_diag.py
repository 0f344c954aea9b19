"""Lists the TCP listeners and the unconnected UDP sockets of this network namespace, as
sock_diag(7) tells them: address, inode, queue and drops.

/proc/net/tcp has neither the limit of a listener's queue nor the drops of one socket.
Owns nothing. Called by the command line. Calls nothing of unpd. Raises OSError where
the kernel or a filter refuses netlink sockets.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_HEADER = struct.Struct("IHHII")
_QUERY = struct.Struct("=BBBxI48x")
_SOCKET = struct.Struct("=4B HH 16s16s I8x IIIII")
_ATTRIBUTE = struct.Struct("HH")
_SKMEMINFO, _SKV6ONLY = 7, 11
_DROPS_AT = 8 * 4
"""SK_MEMINFO_DROPS is the ninth number (linux/sock_diag.h)."""
_PROTOCOLS = (
    ("tcp", socket.IPPROTO_TCP, 1 << 10),  # TCP_LISTEN
    ("udp", socket.IPPROTO_UDP, 1 << 7),  # TCP_CLOSE: bound, and connected to nobody
)
_TIMEOUT_S = 5
_PIECE_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundSocket:
    """One socket. ``queued``: connections of a listener that wait, or bytes; ``limit``:
    how many connections may, 0 of a UDP socket. ``drops``: what the kernel has dropped
    for want of room since the socket was made.
    """

    transport: str
    host: str
    port: int
    inode: int
    queued: int
    limit: int
    drops: int
    ipv6_only: bool


def bound_sockets() -> tuple[BoundSocket, ...]:
    """All of them that have a port. OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
        seconds = struct.pack("ll", _TIMEOUT_S, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        return tuple(
            found
            for family in (socket.AF_INET, socket.AF_INET6)
            for transport, protocol, states in _PROTOCOLS
            for found in _dump(sock, transport, _QUERY.pack(family, protocol, 1 << 6, states))
        )


def _dump(sock: socket.socket, transport: str, query: bytes) -> Iterator[BoundSocket]:
    sock.send(_HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _REQUEST_DUMP, 0, 0) + query)
    while True:
        piece = sock.recv(_PIECE_BYTES)
        while len(piece) >= _HEADER.size:
            size, kind, _, _, _ = _HEADER.unpack_from(piece)
            body, piece = piece[_HEADER.size : size], piece[(size + 3) & ~3 :]
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                if number == 2:  # ENOENT: this kernel has no such protocol or family
                    return
                raise OSError(number, os.strerror(number))
            yield from _parsed(transport, body)


def _parsed(transport: str, body: bytes) -> Iterator[BoundSocket]:
    family, _, _, _, port, _, host, _, _, _, queued, limit, _, inode = _SOCKET.unpack_from(body)
    port = socket.ntohs(port)
    attributes = dict(_attributes(body[_SOCKET.size :]))
    if not port:
        return
    is_ipv4 = family == socket.AF_INET
    yield BoundSocket(
        transport=transport,
        host=socket.inet_ntop(family, host[:4] if is_ipv4 else host),
        port=port,
        inode=inode,
        queued=queued,
        limit=limit,
        drops=_drops(attributes.get(_SKMEMINFO, b"")),
        ipv6_only=attributes.get(_SKV6ONLY, b"\0")[:1] == b"\1",
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : size]
        data = data[(size + 3) & ~3 :]


def _drops(numbers: bytes) -> int:
    found = numbers[_DROPS_AT : _DROPS_AT + 4]
    return int.from_bytes(found, sys.byteorder) if len(found) == 4 else 0
