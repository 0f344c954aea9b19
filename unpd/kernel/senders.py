"""The address of a datagram's sender, as the kernel writes it (ip(7), ipv6(7),
unix(7)): its port, its network, its path.

Owns nothing. Called by the worker for each datagram. Calls nothing of unpd. Raises
nothing.
"""

import os
import socket
import sys

_V4_MAPPED = bytes(10) + b"\xff\xff"
_SOCKADDR_IN_BYTES = 16
V4_HEADERS = 20 + 8
V6_HEADERS = 40 + 8
_MULTICAST_V6 = 0xFF
_MULTICAST_V4 = 0xE0

Sender = tuple[str, int] | tuple[str, int, int, int] | str | bytes
"""A sender as the module socket shows it: host and port, with flow and scope for IPv6;
the path of a UNIX socket, as bytes if it is abstract.
"""


def port_of(name: bytes) -> int:
    """The port of a UDP sender."""
    return name[2] << 8 | name[3]


def network_of(name: bytes) -> tuple[bytes, int]:
    """The network of a UDP sender, a /24 or of IPv6 a /56, and the bytes of the headers
    of IP and UDP that a datagram has there.
    """
    if len(name) == _SOCKADDR_IN_BYTES:
        return name[4:7], V4_HEADERS
    host = name[8:24]
    if host.startswith(_V4_MAPPED):
        return host[12:15], V4_HEADERS
    return host[:7], V6_HEADERS


def is_group(name: bytes) -> bool:
    """Whether a UDP sender claims a multicast or broadcast address, or one that no
    host has (0.0.0.0/8 and 240.0.0.0/4).
    """
    network, headers = network_of(name)
    first = network[0]
    if headers == V6_HEADERS:
        return first == _MULTICAST_V6
    return first == 0 or first >= _MULTICAST_V4


def path_of(name: bytes) -> bytes:
    """The path of a UNIX sender, with a zero before an abstract one; b"" if the sender
    has no address, so that nothing can be sent back. A relative path is one from the
    directory where the sender was: here it leads elsewhere.
    """
    path = name[2:]
    return path if path[:1] == b"\0" else path.rstrip(b"\0")


def sender_of(name: bytes) -> Sender:
    """The sender as the module socket shows it."""
    family = int.from_bytes(name[:2], sys.byteorder)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, name[4:8]), port_of(name)
    if family == socket.AF_INET6:
        flow = int.from_bytes(name[4:8], "big")
        scope = int.from_bytes(name[24:28], sys.byteorder)
        return socket.inet_ntop(socket.AF_INET6, name[8:24]), port_of(name), flow, scope
    path = path_of(name)
    return path if path[:1] == b"\0" else os.fsdecode(path)
