"""The address of a datagram's sender, from its bytes."""

import socket
import struct

import pytest

from unpd.kernel import senders


def v4(host: str, port: int = 4000) -> bytes:
    """A struct sockaddr_in."""
    return struct.pack("=H", socket.AF_INET) + struct.pack(
        "!H4s8x", port, socket.inet_pton(socket.AF_INET, host)
    )


def v6(host: str, port: int = 4000, scope: int = 0) -> bytes:
    """A struct sockaddr_in6."""
    return (
        struct.pack("=H", socket.AF_INET6)
        + struct.pack("!HI16s", port, 0, socket.inet_pton(socket.AF_INET6, host))
        + struct.pack("=I", scope)
    )


def unix(path: bytes) -> bytes:
    """A struct sockaddr_un as long as its path."""
    return struct.pack("=H", socket.AF_UNIX) + path


@pytest.mark.parametrize(
    ("name", "network", "headers"),
    [
        (v4("192.0.2.77"), b"\xc0\x00\x02", 28),
        (v6("::ffff:192.0.2.77"), b"\xc0\x00\x02", 28),
        (v6("2001:db8:1:2ff::1"), bytes.fromhex("20010db8000102"), 48),
    ],
)
def test_networks(name: bytes, network: bytes, headers: int) -> None:
    """The network is a /24, of IPv6 a /56; a v4-mapped sender is one of IPv4."""
    assert senders.network_of(name) == (network, headers)
    assert senders.port_of(name) == 4000


@pytest.mark.parametrize(
    ("name", "group"),
    [
        (v4("192.0.2.1"), False),
        (v4("127.0.0.1"), False),
        (v4("223.255.255.255"), False),
        (v4("224.0.0.1"), True),
        (v4("255.255.255.255"), True),
        (v4("0.0.0.0"), True),
        (v6("::ffff:239.0.0.1"), True),
        (v6("::ffff:255.255.255.255"), True),
        (v6("ff02::1"), True),
        (v6("::1"), False),
        (v6("fe80::1", scope=2), False),
    ],
)
def test_groups(name: bytes, group: bool) -> None:
    """Multicast, broadcast and addresses of no host are told from those of hosts."""
    assert senders.is_group(name) is group


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (v4("192.0.2.1"), ("192.0.2.1", 4000)),
        (v6("fe80::1", scope=3), ("fe80::1", 4000, 0, 3)),
        (unix(b"/run/client\0"), "/run/client"),
        (unix(b"\0abstract"), b"\0abstract"),
        (unix(b""), ""),
    ],
)
def test_senders(name: bytes, shown: senders.Sender) -> None:
    """A sender is shown as the module socket shows it."""
    assert senders.sender_of(name) == shown
