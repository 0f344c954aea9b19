"""The header of the PROXY protocol, versions 1 and 2: a load balancer sends it before a
client's first byte, and tells with it who the client is.

Owns the form of the header (doc/proxy-protocol.txt of HAProxy, sections 2.1 and 2.2).
:mod:`unpd.worker.arrivals` parses what came, and a redirect writes headers for its
targets. Pure, and raises nothing, whatever the bytes are.

Known gaps: the fields behind the addresses (TLVs, section 2.2) are skipped unread, also
a checksum. The paths of UNIX sockets are neither told nor written.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from types import MappingProxyType
from typing import NamedTuple

from unpd.access.network import V4, V6, WIDTHS, address_text, unmapped
from unpd.access.peer import UNIX
from unpd.errors import quoted
from unpd.names import HeaderResult

MAX_BYTES = 536
"""The longest header that is read: what fits into the first segment on any path."""

_V1_START = b"PROXY "
_V1_MOST_BYTES = 107
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = struct.Struct(">12sBBH")
"""The signature, the version and the command, the family and the protocol, and the
length of what follows.
"""
_LOCAL, _PROXY = 0x20, 0x21
_KINDS: Mapping[int, int | None] = MappingProxyType(
    {
        family << 4 | protocol: told if protocol else None
        for family, told in ((0, None), (1, V4), (2, V6), (3, UNIX))
        for protocol in (0, 1, 2)
    }
)
"""The family of the addresses, by the byte of the family and the protocol; None if
there are none. The protocol, streams or datagrams, changes nothing.
"""
_STREAMS: Mapping[int, int] = MappingProxyType({V4: 0x11, V6: 0x21})
"""That byte of a stream."""
_ADDRESSES: Mapping[int, struct.Struct] = MappingProxyType(
    {V4: struct.Struct(">4s4sHH"), V6: struct.Struct(">16s16sHH"), UNIX: struct.Struct("108s108s")}
)
"""Both addresses, and the ports of IP."""
_IPV4, _IPV6 = (struct.Struct(form) for form in ("=H2s4s", "=H2s4x16s4x"))
# The numbers of Linux on every architecture (bits/socket.h).
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10


class Endpoint(NamedTuple):
    """One end of a client's connection. ``family``: 4, 6, or 0 of a UNIX socket.
    ``number``: the address; ``port``: 0 to 65535. Both are 0 of a UNIX socket.
    """

    family: int
    number: int = 0
    port: int = 0

    @property
    def sockaddr(self) -> bytes:
        """The same as the kernel would tell it of a peer, without padding (ip(7),
        ipv6(7), unix(7)).
        """
        port = self.port.to_bytes(2, "big")
        if self.family == V4:
            return _IPV4.pack(_AF_INET, port, self.number.to_bytes(4, "big"))
        if self.family == V6:
            return _IPV6.pack(_AF_INET6, port, self.number.to_bytes(16, "big"))
        return struct.pack("=H", _AF_UNIX)


def endpoint_of(sockaddr: bytes) -> Endpoint:
    """The end that has an address as the kernel tells it. A v4-mapped address is one of
    IPv4. What is neither of IPv4 nor of IPv6 counts as a UNIX socket.
    """
    family = struct.unpack_from("=H", sockaddr)[0] if sockaddr else _AF_UNIX
    port = int.from_bytes(sockaddr[2:4], "big")
    if family == _AF_INET:
        return Endpoint(V4, int.from_bytes(sockaddr[4:8], "big"), port)
    if family == _AF_INET6:
        return Endpoint(*unmapped(int.from_bytes(sockaddr[8:24], "big")), port)
    return Endpoint(UNIX)


@dataclass(frozen=True, slots=True)
class Header:
    """A header of ``length`` bytes. ``source``: the client. ``destination``: the
    address to which it has connected. Both are None if the header tells neither, as
    that of a connection of the load balancer's own does (LOCAL, UNKNOWN): then the
    ends of the connection itself hold.
    """

    length: int
    source: Endpoint | None = None
    destination: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class NoHeader:
    """Why there is no header. ``reason``: of bytes that came, MISSING if they begin
    like none, else MALFORMED. ``detail``: what is wrong with them, in a few words.
    """

    reason: HeaderResult
    detail: str = ""


def parse(data: bytes) -> Header | NoHeader | None:
    """Parse the header at the beginning of ``data``. None if it is not complete: it is
    parsed again when more has come.
    """
    if _begins(data, _V2_SIGNATURE):
        return _parse_v2(data)
    if _begins(data, _V1_START):
        return _parse_v1(data)
    return NoHeader(HeaderResult.MISSING, f"begins with {_shown(data[:16])}")


def _begins(data: bytes, start: bytes) -> bool:
    """Whether ``data`` begins with ``start``, as far as it has come."""
    return data[: len(start)] == start[: len(data)]


def _malformed(detail: str) -> NoHeader:
    return NoHeader(HeaderResult.MALFORMED, detail)


def _shown(data: bytes) -> str:
    return quoted(data.decode("latin-1"))


# --- version 1: a line ----------------------------------------------------------------


def _parse_v1(data: bytes) -> Header | NoHeader | None:
    line, end, _ = data[:_V1_MOST_BYTES].partition(b"\r\n")
    if not end:
        if len(data) < _V1_MOST_BYTES:
            return None
        return _malformed(f"version 1 without an end within {_V1_MOST_BYTES} bytes")
    length = len(line) + len(end)
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return Header(length)
    try:
        _, protocol, source, destination, source_port, destination_port = words
        family = {b"TCP4": V4, b"TCP6": V6}[protocol]
        return Header(
            length,
            _v1_endpoint(family, source, source_port),
            _v1_endpoint(family, destination, destination_port),
        )
    except (KeyError, ValueError):
        return _malformed(f"version 1 with the line {_shown(line)}")


def _v1_endpoint(family: int, host: bytes, port: bytes) -> Endpoint:
    """ValueError."""
    text = host.decode("ascii")
    if "%" in text:  # the module ipaddress takes an interface
        raise AddressValueError
    number = int(IPv4Address(text) if family == V4 else IPv6Address(text))
    if str(int(port)).encode() != port or not 0 <= int(port) <= 0xFFFF:
        raise ValueError
    return Endpoint(*unmapped(number) if family == V6 else (family, number), int(port))


def _written_v1(source: Endpoint, destination: Endpoint) -> bytes:
    if source.family == UNIX:
        return b"PROXY UNKNOWN\r\n"
    hosts = (address_text(each.family, each.number) for each in (source, destination))
    words = ("PROXY", f"TCP{source.family}", *hosts, str(source.port), str(destination.port))
    return " ".join(words).encode() + b"\r\n"


# --- version 2: binary ----------------------------------------------------------------


def _parse_v2(data: bytes) -> Header | NoHeader | None:
    if len(data) < _V2_FIXED.size:
        return None
    _, command, kind, following = _V2_FIXED.unpack_from(data)
    if fault := _v2_fault(command, kind, following):
        return _malformed(f"version 2 {fault}")
    length = _V2_FIXED.size + following
    if len(data) < length:
        return None
    family = _KINDS[kind] if command == _PROXY else None
    if family is None:
        return Header(length)
    if family == UNIX:
        return Header(length, Endpoint(UNIX), Endpoint(UNIX))
    source, destination, *ports = _ADDRESSES[family].unpack_from(data, _V2_FIXED.size)
    return Header(
        length, _v2_endpoint(family, source, ports[0]), _v2_endpoint(family, destination, ports[1])
    )


def _v2_fault(command: int, kind: int, following: int) -> str:
    """What is wrong with the fixed part; "" if nothing is. Of LOCAL, the rest does not
    matter.
    """
    if command not in (_LOCAL, _PROXY):
        return f"with the version and command 0x{command:02x}"
    if _V2_FIXED.size + following > MAX_BYTES:
        return f"of {_V2_FIXED.size + following} bytes, where {MAX_BYTES} is the most"
    if command == _LOCAL:
        return ""
    if kind not in _KINDS:
        return f"with the family and protocol 0x{kind:02x}"
    family = _KINDS[kind]
    if family is not None and following < _ADDRESSES[family].size:
        return f"with {following} bytes for the addresses of 0x{kind:02x}"
    return ""


def _v2_endpoint(family: int, address: bytes, port: int) -> Endpoint:
    number = int.from_bytes(address, "big")
    return Endpoint(*unmapped(number) if family == V6 else (family, number), port)


def _written_v2(source: Endpoint, destination: Endpoint) -> bytes:
    if source.family == UNIX:
        return _V2_FIXED.pack(_V2_SIGNATURE, _PROXY, 0, 0)
    form, size = _ADDRESSES[source.family], WIDTHS[source.family] // 8
    return _V2_FIXED.pack(_V2_SIGNATURE, _PROXY, _STREAMS[source.family], form.size) + form.pack(
        source.number.to_bytes(size, "big"),
        destination.number.to_bytes(size, "big"),
        source.port,
        destination.port,
    )


# --- both -----------------------------------------------------------------------------


def written(version: int, source: Endpoint, destination: Endpoint) -> bytes:
    """The header, of version 1 or 2, that tells both ends of a client's connection.
    That of a UNIX socket says that they are unknown, as HAProxy writes it.
    """
    source, destination = _alike(source, destination)
    return (_written_v1 if version == 1 else _written_v2)(source, destination)


def _alike(source: Endpoint, destination: Endpoint) -> tuple[Endpoint, Endpoint]:
    """Both ends in one family, as a header has them: IPv4 goes into IPv6, and beside a
    UNIX socket nothing is told.
    """
    families = {source.family, destination.family}
    if UNIX in families:
        return Endpoint(UNIX), Endpoint(UNIX)
    if len(families) == 1:
        return source, destination
    return _as_v6(source), _as_v6(destination)


def _as_v6(end: Endpoint) -> Endpoint:
    """The same end, with a v4-mapped address if it is one of IPv4."""
    number = end.number | 0xFFFF << 32 if end.family == V4 else end.number
    return Endpoint(V6, number, end.port)
