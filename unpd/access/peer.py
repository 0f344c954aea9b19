"""The other end of a connection or a datagram, as access rules and limits see it.

Owns :class:`Peer`, and the source under which a peer is counted. Called by workers and
dispatchers for each accept, and by ``unpd explain``.
"""

import struct
from typing import NamedTuple

from unpd.access.accounts import Accounts, parse_uid
from unpd.access.network import V4, V6, WIDTHS, Network, address_text, unmapped
from unpd.errors import quoted

UNIX = 0
"""The family of a UNIX peer, beside V4 and V6."""
UID = "uid:"
"""How the name of a UNIX peer with a known user begins."""
FORMS = 'an address such as "192.0.2.1" or "2001:db8::1", "unix", or "uid:NAME"'
_FAMILY = struct.Struct("=H")
_LINK_LOCAL, _AFTER_LINK_LOCAL = 0xFE80 >> 6, 118
"""The 10 bits with which a link-local address begins, and how many follow."""
# The numbers of Linux on every architecture (bits/socket.h).
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10


class Peer(NamedTuple):
    """``family``: 4, 6, or 0 of a UNIX peer. ``number``: the address, 0 of a UNIX peer.
    ``uid`` and ``gids``: the user and the groups of a UNIX peer (SO_PEERCRED and
    SO_PEERGROUPS, unix(7)); None and () if they are unknown.
    """

    family: int
    number: int = 0
    uid: int | None = None
    gids: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The peer as :func:`parse_peer` reads it."""
        if self.family != UNIX:
            return address_text(self.family, self.number)
        return "unix" if self.uid is None else f"uid:{self.uid}"


def peer_of(sockaddr: bytes) -> Peer:
    """The peer of a sockaddr as the kernel writes it (ip(7), ipv6(7), unix(7)), without
    padding or with it. A v4-mapped address is one of IPv4. An empty one is that of a
    UNIX datagram from a socket without a name. ValueError if the address is of another
    family.
    """
    family: int = _FAMILY.unpack_from(sockaddr)[0] if sockaddr else _AF_UNIX
    if family == _AF_INET:
        return Peer(V4, int.from_bytes(sockaddr[4:8], "big"))
    if family == _AF_INET6:
        return Peer(*unmapped(int.from_bytes(sockaddr[8:24], "big")))
    if family == _AF_UNIX:
        return Peer(UNIX)
    raise ValueError(f"address family {family} is none of IPv4, IPv6 and UNIX")


def parse_peer(text: str, accounts: Accounts) -> Peer:
    """Parse a peer that a person names: an address, "unix" for a UNIX peer of no known
    user, or "uid:NAME" for one of this user with all its groups. ValueError with one
    sentence if ``text`` is none of them.
    """
    if text.startswith(UID):
        uid = parse_uid(text, accounts)
        return Peer(UNIX, uid=uid, gids=_groups_of(uid, accounts))
    return parse_address(text)


def parse_address(text: str) -> Peer:
    """Parse a peer of no known user, as :func:`parse_peer` does. ValueError."""
    if text == "unix":
        return Peer(UNIX)
    network = Network.parse(text, FORMS)
    if network.bits < network.width:
        raise ValueError(f"{quoted(text)} is a network: name one address of it")
    return Peer(network.family, network.first)


def _groups_of(uid: int, accounts: Accounts) -> tuple[int, ...]:
    """The groups of a user: () for a number that no user has."""
    try:
        return accounts.gids_of(uid)
    except KeyError:
        return ()


def source_bits(peer: Peer, v4_bits: int, v6_bits: int) -> int:
    """How many bits of the address of an IP peer make its source. Of a link-local one
    (fe80::/10, RFC 4291 section 2.5.6) it is all, because every host on every link has
    the same prefix. Hosts with the same address on two links are one source.

    ``v4_bits``: 0 to 32. ``v6_bits``: 0 to 128. Those of other addresses.
    """
    if peer.family == V4:
        return v4_bits
    return WIDTHS[V6] if peer.number >> _AFTER_LINK_LOCAL == _LINK_LOCAL else v6_bits


def prefix(peer: Peer, v4_bits: int, v6_bits: int) -> bytes:
    """The source under which a peer is counted: the first bits of its address
    (:func:`source_bits`), or its user. Sources of two families are never equal.
    """
    if peer.family == V4:
        shift = 32 - v4_bits
        return (peer.number >> shift << shift).to_bytes(4, "big")
    if peer.family == V6:
        shift = WIDTHS[V6] - source_bits(peer, v4_bits, v6_bits)
        return (peer.number >> shift << shift).to_bytes(16, "big")
    return b"uid" if peer.uid is None else b"uid%d" % peer.uid
