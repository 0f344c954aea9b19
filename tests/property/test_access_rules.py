"""Compiled access rules against the module ipaddress, for any list and any peer."""

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.accounts import ACCOUNTS
from unpd.access.network import Network
from unpd.access.peer import Peer, parse_peer, prefix
from unpd.access.rules import Entry, Origin, Rules

AnyNetwork = IPv4Network | IPv6Network
LAST = {4: 2**32 - 1, 6: 2**128 - 1}
"""The last address of each family."""


def _network(family: int, width: int, number: int, bits: int) -> AnyNetwork:
    address = (IPv4Address if family == 4 else IPv6Address)(number >> width - bits << width - bits)
    return ip_network(f"{address}/{bits}")


def addresses(family: int) -> st.SearchStrategy[int]:
    """Addresses of which many share their first bits, so that networks are nested."""
    width = 32 if family == 4 else 128
    few = st.builds(
        lambda high, low: (high << width - 4) | low, st.integers(0, 15), st.integers(0, 15)
    )
    return few | st.integers(0, 2**width - 1)


def networks(family: int) -> st.SearchStrategy[AnyNetwork]:
    """Networks, single addresses and the whole family among them."""
    width = 32 if family == 4 else 128
    bits = st.sampled_from((0, 1, 2, 3, 4, width - 4, width - 1, width)) | st.integers(0, width)
    return st.builds(
        lambda number, length: _network(family, width, number, length), addresses(family), bits
    )


def is_mapped(network: AnyNetwork) -> bool:
    """Whether all addresses of a network are v4-mapped."""
    return network.version == 6 and network.subnet_of(IPv6Network("::ffff:0:0/96"))


LISTS = st.lists(networks(4) | networks(6).filter(lambda n: not is_mapped(n)), max_size=30)


def numbered(listed: list[AnyNetwork]) -> list[Entry]:
    """The networks as entries, each in a line of its own."""
    return [Entry(str(network), Origin("x", line)) for line, network in enumerate(listed)]


@pytest.mark.parametrize("family", [4, 6])
@given(data=st.data(), listed=LISTS)
def test_the_entry_found_is_the_first_of_the_widest(
    family: int, data: st.DataObject, listed: list[AnyNetwork]
) -> None:
    """It is that of the module ipaddress, for addresses at and beside the ends of the
    networks, and for any others.
    """
    ours = [network for network in listed if network.version == family]
    near = [int(network[at]) for network in ours for at in (0, -1)]
    number = data.draw(addresses(family) | st.sampled_from(near or [0]))
    rules = Rules.of(numbered(listed), ACCOUNTS)
    address_of = IPv4Address if family == 4 else IPv6Address
    for peer in {max(number - 1, 0), number, min(number + 1, LAST[family])}:
        holding = [
            (network.prefixlen, line)
            for line, network in enumerate(listed)
            if address_of(peer) in network
        ]
        entry = rules.find(Peer(family, peer))
        assert (entry and entry.origin.line) == (min(holding)[1] if holding else None)


@given(addresses(4), st.integers(0, 32), addresses(4))
def test_a_v4_mapped_network_is_that_of_ipv4(number: int, bits: int, peer: int) -> None:
    """It means what the IPv4 network means, and a v4-mapped peer is one of IPv4."""
    plain = _network(4, 32, number, bits)
    mapped = f"::ffff:{plain.network_address}/{bits + 96}"
    assert Network.parse(mapped) == Network.parse(str(plain))
    address = IPv4Address(peer)
    assert parse_peer(f"::ffff:{address}", ACCOUNTS) == Peer(4, peer)
    entry = Rules.of([Entry(mapped)], ACCOUNTS).find(Peer(4, peer))
    assert (entry is not None) == (address in plain)


@given(networks(4) | networks(6))
def test_a_network_is_that_of_the_module(network: AnyNetwork) -> None:
    """First, last and text agree, in each notation that the module writes."""
    for text in (str(network), network.exploded):
        ours = Network.parse(text)
        if not is_mapped(network):
            assert (ours.first, ours.last) == (int(network[0]), int(network[-1]))
            assert ip_network(str(ours)) == network
        assert Network.parse(str(ours)) == ours


NOTATION = st.text("0123456789abcdefx:./% -{},*", max_size=24)


def read(text: str) -> tuple[Network | None, str]:
    """The network of a text, or None and the sentence about it."""
    try:
        return Network.parse(text), ""
    except ValueError as error:
        return None, str(error)


@given(NOTATION | st.text(max_size=12))
@example("10.0.0.0/08")
@example("::ffff:1.2.3.4")
@example("1.2.3.4/")
def test_any_text_is_a_network_or_has_a_sentence(text: str) -> None:
    """A text is refused if the module refuses it; of those that it takes, netmasks and
    interfaces are refused, too. The sentence is one line.
    """
    ours, sentence = read(text)
    try:
        theirs = ip_network(text)
    except ValueError:
        assert ours is None
        assert sentence.startswith('"')
        assert sentence.isprintable()
        return
    length = text.partition("/")[2]
    if ours is None:
        assert "%" in text or not (length.isascii() and length.isdecimal())
    else:
        assert is_mapped(theirs) or (ours.first, ours.bits) == (int(theirs[0]), theirs.prefixlen)


@given(st.lists(st.sampled_from(("all", "unix", "uid:1", "uid:2", "gid:1", "gid:2", "::1"))))
def test_a_unix_peer_has_an_entry_if_one_names_it(texts: list[str]) -> None:
    """The entry that is found holds for the peer, and one is found if any holds."""
    holds = {"all", "unix", "uid:1", "gid:2"}
    entry = Rules.of([Entry(text) for text in texts], ACCOUNTS).find(Peer(0, uid=1, gids=(2, 3)))
    assert (entry is not None) == bool(holds & set(texts))
    assert entry is None or entry.text in holds


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_peers_of_one_network_are_one_source(one: int, other: int, bits: int) -> None:
    """Two addresses have the same source exactly if their first bits are equal."""
    same = prefix(Peer(4, one), bits, 64) == prefix(Peer(4, other), bits, 64)
    assert same == (ip_address(other) in _network(4, 32, one, bits))
    high, low = one << 96 | other, other << 96 | one
    same = prefix(Peer(6, high), 32, 4 * bits) == prefix(Peer(6, low), 32, 4 * bits)
    assert same == (IPv6Address(low) in _network(6, 128, high, 4 * bits))
