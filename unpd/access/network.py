"""Networks of IP addresses, as numbers, and their notation: 192.0.2.0/24,
2001:db8::/32, or an address alone.

Used by the rules, by the live denials, and by the verbs that change them. Pure.
ValueError with one sentence for a text that is no network; unpd.access.advice writes
it.

An address of IPv4 that is mapped into IPv6 (::ffff:192.0.2.1, RFC 4291 section 2.5.5.2)
is one of IPv4 here, as a peer is. So a wider IPv6 network such as ::/0 covers no IPv4
peer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Self

from unpd.access.advice import advice
from unpd.errors import quoted

V4, V6 = 4, 6
"""The families of an address."""
WIDTHS: Mapping[int, int] = MappingProxyType({V4: 32, V6: 128})
"""How many bits an address of each family has."""
FORMS = 'an address such as "192.0.2.1" or a network such as "192.0.2.0/24" or "2001:db8::/32"'
_MAPPED_BITS = 96
_MAPPED = 0xFFFF


def unmapped(number: int) -> tuple[int, int]:
    """The family and the number of an address that came as one of IPv6: a v4-mapped
    address is one of IPv4.
    """
    return (V4, number & 0xFFFFFFFF) if number >> 32 == _MAPPED else (V6, number)


def address_text(family: int, number: int) -> str:
    """The notation of an address (RFC 5952)."""
    return str((IPv4Address if family == V4 else IPv6Address)(number))


@dataclass(frozen=True, slots=True, order=True)
class Network:
    """The addresses that have the first ``bits`` bits of ``first`` (a number, of which
    the other bits are 0). ``family``: 4 or 6.

    Networks sort by family and address; of those that begin alike, the widest is first.
    """

    family: int
    first: int
    bits: int

    @classmethod
    def parse(cls, text: str, forms: str = FORMS) -> Self:
        """Read the notation. ValueError. ``forms``: what would be right, for it."""
        host, slash, length = text.partition("/")
        try:
            family, number = (V6, _v6(host)) if ":" in host else (V4, int(IPv4Address(host)))
            bits = _bits(length, WIDTHS[family]) if slash else WIDTHS[family]
        except ValueError:
            raise ValueError(advice(text, forms)) from None
        if family == V6 and bits >= _MAPPED_BITS:
            family, number = unmapped(number)
            bits -= WIDTHS[V6] - WIDTHS[family]
        if number & ((1 << WIDTHS[family] - bits) - 1):
            network = quoted(str(cls.around(family, number, bits)))
            address = quoted(address_text(family, number))
            raise ValueError(
                f"{quoted(text)} has bits beyond its prefix length: write {network} for the"
                f" network, or {address} for the address"
            )
        return cls(family, number, bits)

    @classmethod
    def around(cls, family: int, number: int, bits: int) -> Self:
        """The network with this prefix length that the address ``number`` is in."""
        host_bits = WIDTHS[family] - bits
        return cls(family, number >> host_bits << host_bits, bits)

    @property
    def width(self) -> int:
        """How many bits an address of the family has."""
        return WIDTHS[self.family]

    @property
    def last(self) -> int:
        """The last address, as a number."""
        return self.first | ((1 << WIDTHS[self.family] - self.bits) - 1)

    def holds(self, family: int, number: int) -> bool:
        """Whether the address ``number`` of a family lies in the network."""
        return family == self.family and self.first <= number <= self.last

    def __str__(self) -> str:
        """The notation; that of a single address has no prefix length."""
        address = address_text(self.family, self.first)
        return address if self.bits == WIDTHS[self.family] else f"{address}/{self.bits}"


def _v6(host: str) -> int:
    if "%" in host:  # the module ipaddress takes an interface
        raise AddressValueError
    return int(IPv6Address(host))


def _bits(length: str, most: int) -> int:
    if not (length.isascii() and length.isdigit()) or int(length) > most:
        raise ValueError
    return int(length)
