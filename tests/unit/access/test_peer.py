"""Peers: from the kernel's sockaddr, from text, and as the source that is counted."""

import re
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.support.accounts import ACCOUNTS
from unpd.access.peer import UNIX, Peer, parse_peer, peer_of, prefix, source_bits

V4_PEER = Peer(4, int(IPv4Address("192.0.2.129")))
V6_PEER = Peer(6, int(IPv6Address("2001:db8:1:2:3:4:5:6")))


def sockaddr_in(host: str) -> bytes:
    """An address and a port without padding, as an accept keeps it."""
    return struct.pack("=H", socket.AF_INET) + b"\x00\x07" + socket.inet_pton(socket.AF_INET, host)


def sockaddr_in6(host: str) -> bytes:
    """An address with a port, a flow and a scope id."""
    name = socket.inet_pton(socket.AF_INET6, host)
    return struct.pack("=HH4s16sI", socket.AF_INET6, 7, b"flow", name, 2)


def test_a_sockaddr_becomes_a_peer() -> None:
    """The address counts, not the port, the padding, the flow or the scope."""
    assert peer_of(sockaddr_in("192.0.2.129")) == V4_PEER
    assert peer_of(sockaddr_in("192.0.2.129") + bytes(8)) == V4_PEER
    assert peer_of(sockaddr_in6("2001:db8:1:2:3:4:5:6")) == V6_PEER
    assert peer_of(struct.pack("=H", socket.AF_UNIX)) == Peer(UNIX)
    assert peer_of(struct.pack("=H", socket.AF_UNIX) + b"/run/client") == Peer(UNIX)


def test_a_datagram_without_a_sender_is_of_a_unix_peer() -> None:
    """recvfrom(2) gives no address for a UNIX socket that has none."""
    assert peer_of(b"") == Peer(UNIX)


def test_a_v4_mapped_peer_is_one_of_ipv4() -> None:
    """Its IPv4-compatible neighbour is not: nothing sends from such an address."""
    assert peer_of(sockaddr_in6("::ffff:192.0.2.129")) == V4_PEER
    assert peer_of(sockaddr_in6("::192.0.2.129")).family == 6
    assert peer_of(sockaddr_in6("::1")) == Peer(6, 1)


def test_another_family_is_no_peer() -> None:
    """A netlink address is refused, whatever its bytes mean."""
    with pytest.raises(ValueError, match="address family 16 is none of IPv4, IPv6 and UNIX"):
        peer_of(struct.pack("=H", socket.AF_NETLINK) + bytes(10))


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("192.0.2.129", V4_PEER),
        ("::ffff:192.0.2.129", V4_PEER),
        ("192.0.2.129/32", V4_PEER),
        ("2001:DB8:1:2:3:4:5:6", V6_PEER),
        ("unix", Peer(UNIX)),
        ("uid:alice", Peer(UNIX, uid=1000, gids=(1000, 50, 51))),
        ("uid:1001", Peer(UNIX, uid=1001, gids=(50,))),
        ("uid:77", Peer(UNIX, uid=77)),
    ],
)
def test_a_person_names_a_peer(text: str, peer: Peer) -> None:
    """An address, any UNIX peer, or a user with all its groups."""
    assert parse_peer(text, ACCOUNTS) == peer


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("192.0.2.0/24", '"192.0.2.0/24" is a network: name one address of it'),
        ("fe80::1%eth0", 'write "fe80::1", which holds on every interface'),
        ("example.org", "names are not looked up"),
        ("uid:carol", '"uid:carol" is not known: this host has no user "carol"'),
        ("all", '"all" is no address and no network'),
        ("gid:staff", '"gid:staff" is no address and no network'),
        ("", '"" must be an address such as "192.0.2.1" or "2001:db8::1", "unix", or "uid:NAME"'),
    ],
)
def test_a_text_that_is_no_peer_is_refused(text: str, sentence: str) -> None:
    """One sentence says what is wrong and what would be right."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_peer(text, ACCOUNTS)


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (V4_PEER, "192.0.2.129"),
        (V6_PEER, "2001:db8:1:2:3:4:5:6"),
        (Peer(UNIX), "unix"),
        (Peer(UNIX, uid=1000, gids=(1000, 50, 51)), "uid:1000"),
    ],
)
def test_the_text_of_a_peer_names_it(peer: Peer, text: str) -> None:
    """What is shown can be asked for."""
    assert peer.text == text
    assert parse_peer(text, ACCOUNTS) == peer


def test_a_source_is_the_first_bits_of_an_address() -> None:
    """The others are zero, so that all addresses of a network are one source."""
    assert prefix(V4_PEER, 32, 64) == bytes((192, 0, 2, 129))
    assert prefix(V4_PEER, 25, 64) == bytes((192, 0, 2, 128))
    assert prefix(V4_PEER, 0, 64) == bytes(4)
    network = IPv6Address("2001:db8:1:2::").packed
    assert prefix(V6_PEER, 32, 64) == network
    assert prefix(V6_PEER, 32, 128) == IPv6Address(V6_PEER.number).packed
    assert prefix(V6_PEER, 32, 0) == bytes(16)


def test_link_local_hosts_are_no_source_together() -> None:
    """Every host has such an address, all with one prefix: fe80::/64 in practice."""
    hosts = [Peer(6, int(IPv6Address(text))) for text in ("fe80::1", "fe80::2", "febf::1")]
    assert len({prefix(host, 32, 64) for host in hosts}) == 3
    assert prefix(hosts[0], 32, 10) == IPv6Address("fe80::1").packed
    assert [source_bits(host, 32, 64) for host in hosts] == [128, 128, 128]
    others = [Peer(6, int(IPv6Address(text))) for text in ("fe7f::1", "fec0::1", "fd00::1")]
    assert [source_bits(other, 32, 64) for other in others] == [64, 64, 64]
    assert [source_bits(V4_PEER, 24, 64), source_bits(V6_PEER, 24, 56)] == [24, 56]


def test_a_unix_source_is_a_user() -> None:
    """Users differ from each other, from an unknown one, and from every address."""
    peers = [Peer(UNIX), Peer(UNIX, uid=0), Peer(UNIX, uid=1), Peer(4, 0), Peer(4, 1), Peer(6, 1)]
    assert len({prefix(peer, 32, 128) for peer in peers}) == len(peers)
    assert prefix(Peer(UNIX, uid=7, gids=(1,)), 32, 64) == prefix(Peer(UNIX, uid=7), 0, 0)
