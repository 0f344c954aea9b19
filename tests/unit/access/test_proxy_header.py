"""The header of the PROXY protocol: what is taken for one, and what is written."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from unpd.access.peer import UNIX, Peer, peer_of
from unpd.access.proxy_header import (
    MAX_BYTES,
    Endpoint,
    Header,
    NoHeader,
    endpoint_of,
    parse,
    written,
)
from unpd.names import HeaderResult

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT = Endpoint(4, int(IPv4Address("192.0.2.7")), 51234)
SERVER = Endpoint(4, int(IPv4Address("198.51.100.9")), 7)
CLIENT_V6 = Endpoint(6, int(IPv6Address("2001:db8::7")), 51234)
SERVER_V6 = Endpoint(6, int(IPv6Address("2001:db8::9")), 7)
MAPPED = IPv6Address("::ffff:192.0.2.7").packed
V4_BLOCK = bytes((192, 0, 2, 7, 198, 51, 100, 9)) + struct.pack(">HH", 51234, 7)


def v2(command: int, kind: int, block: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack(">BBH", command, kind, len(block)) + block


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.9 51234 7\r\n", CLIENT, SERVER),
        (b"PROXY TCP6 2001:db8::7 2001:DB8::9 51234 7\r\n", CLIENT_V6, SERVER_V6),
        (b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::9 51234 7\r\n", CLIENT, SERVER_V6),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            Endpoint(4),
            Endpoint(4, 2**32 - 1, 65535),
        ),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN whatever \xff stands here\r\n", None, None),
    ],
)
def test_a_line_of_version_1_tells_both_ends(
    line: bytes, source: Endpoint | None, destination: Endpoint | None
) -> None:
    """Data behind it is not the header's. A v4-mapped address is one of IPv4."""
    assert parse(line + b"data\r\n") == Header(len(line), source, destination)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.9 51234\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 51234 7 7\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.9 51234 7\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 51234 7 \r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.9 51234 7\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 051234 7\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 +51234 7\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 65536 7\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 51234 -1\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::9 51234 7\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.9 51234 7\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 51234 7\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.9 51234 7\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 192.0.2.\xff 198.51.100.9 51234 7\r\n",
        b"PROXY TCP4 192.0.2.7\n198.51.100.9 51234 7\r\n",
        b"PROXY UNKNOWN " + 100 * b"x" + b"\r\n",
    ],
)
def test_any_other_line_is_malformed(line: bytes) -> None:
    """One space stands between two words, numbers have no leading zero or sign, and the
    line has 107 bytes at most (section 2.1).
    """
    parsed = parse(line)
    assert isinstance(parsed, NoHeader)
    assert parsed.reason is HeaderResult.MALFORMED


def test_a_line_needs_both_its_last_bytes() -> None:
    """A carriage return or a line feed alone does not end it (section 2.1)."""
    line = b"PROXY TCP4 192.0.2.7 198.51.100.9 51234 7"
    assert parse(line + b"\r") is None
    assert parse(line + b"\n") is None
    assert parse(line + b"\n\r") is None


def test_a_line_that_can_no_longer_end_in_time_is_malformed() -> None:
    """107 bytes without an end: no more are awaited."""
    assert parse(b"PROXY UNKNOWN ".ljust(106, b"x")) is None
    assert parse(b"PROXY UNKNOWN ".ljust(107, b"x")) == NoHeader(
        HeaderResult.MALFORMED, "version 1 without an end within 107 bytes"
    )
    assert parse(b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n") == Header(107)


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize(
    ("family", "block", "source", "destination"),
    [
        (1, V4_BLOCK, CLIENT, SERVER),
        (
            2,
            IPv6Address("2001:db8::7").packed
            + IPv6Address("2001:db8::9").packed
            + struct.pack(">HH", 51234, 7),
            CLIENT_V6,
            SERVER_V6,
        ),
        (2, MAPPED + MAPPED + struct.pack(">HH", 51234, 51234), CLIENT, CLIENT),
        (3, b"/run/client".ljust(108, b"\0") + bytes(108), Endpoint(UNIX), Endpoint(UNIX)),
    ],
)
def test_a_header_of_version_2_tells_both_ends(
    protocol: int, family: int, block: bytes, source: Endpoint, destination: Endpoint
) -> None:
    """Of streams, and of datagrams that the load balancer passes on in a stream."""
    header = v2(0x21, family << 4 | protocol, block)
    assert parse(header + b"data") == Header(len(header), source, destination)


def test_fields_behind_the_addresses_are_skipped() -> None:
    """Whatever they hold, the length covers them (section 2.2)."""
    header = v2(0x21, 0x11, V4_BLOCK + b"\x04\x00\x03abc" + b"\xff\xff\xff")
    assert parse(header + b"data") == Header(len(header), CLIENT, SERVER)


@pytest.mark.parametrize("kind", [0x00, 0x10, 0x01, 0x20, 0x02])
def test_without_a_family_or_a_protocol_nothing_is_told(kind: int) -> None:
    """Section 2.2: the real ends hold, whatever the block has, and however short it
    is.
    """
    assert parse(v2(0x21, kind, b"")) == Header(16)
    assert parse(v2(0x21, kind, V4_BLOCK)) == Header(28)


@pytest.mark.parametrize("kind", [0x00, 0x11, 0x31, 0xFF])
def test_of_local_only_the_length_matters(kind: int) -> None:
    """A health check of the load balancer: also with a family of a later version."""
    assert parse(v2(0x20, kind, b"")) == Header(16)
    assert parse(v2(0x20, kind, V4_BLOCK)) == Header(28)


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (v2(0x11, 0x11, V4_BLOCK), "version 2 with the version and command 0x11"),
        (v2(0x22, 0x11, V4_BLOCK), "version 2 with the version and command 0x22"),
        (v2(0x21, 0x41, V4_BLOCK), "version 2 with the family and protocol 0x41"),
        (v2(0x21, 0x13, V4_BLOCK), "version 2 with the family and protocol 0x13"),
        (v2(0x21, 0x11, V4_BLOCK[:-1]), "version 2 with 11 bytes for the addresses of 0x11"),
        (v2(0x21, 0x21, V4_BLOCK), "version 2 with 12 bytes for the addresses of 0x21"),
        (v2(0x21, 0x31, bytes(215)), "version 2 with 215 bytes for the addresses of 0x31"),
        (v2(0x21, 0x11, bytes(521)), "version 2 of 537 bytes, where 536 is the most"),
        (v2(0x20, 0x00, bytes(521)), "version 2 of 537 bytes, where 536 is the most"),
    ],
)
def test_what_the_protocol_forbids_is_malformed(header: bytes, detail: str) -> None:
    """It is so as soon as the fixed part has come: nothing more is awaited."""
    assert parse(header) == NoHeader(HeaderResult.MALFORMED, detail)
    assert parse(header[:16]) == NoHeader(HeaderResult.MALFORMED, detail)


def test_the_longest_header_is_taken() -> None:
    """With fields up to 536 bytes."""
    header = v2(0x21, 0x11, V4_BLOCK.ljust(520, b"\0"))
    assert len(header) == MAX_BYTES
    assert parse(header) == Header(536, CLIENT, SERVER)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n", r'begins with "GET / HTTP/1.1\r\n"'),
        (b"PROXY\tTCP4", r'begins with "PROXY\tTCP4"'),
        (b"proxy TCP4", 'begins with "proxy TCP4"'),
        (b"\r\n\r\nX", r'begins with "\r\n\r\nX"'),
        (b"\xff", r'begins with "\u00ff"'),
    ],
)
def test_other_bytes_begin_no_header(data: bytes, detail: str) -> None:
    """That shows with the first byte that differs. The detail is fit for a log line."""
    assert parse(data) == NoHeader(HeaderResult.MISSING, detail)


def test_a_header_is_written_as_the_protocol_has_it() -> None:
    """Both versions, of IPv4 and of IPv6."""
    assert written(1, CLIENT, SERVER) == b"PROXY TCP4 192.0.2.7 198.51.100.9 51234 7\r\n"
    assert written(1, CLIENT_V6, SERVER_V6) == b"PROXY TCP6 2001:db8::7 2001:db8::9 51234 7\r\n"
    assert written(2, CLIENT, SERVER) == v2(0x21, 0x11, V4_BLOCK)


def test_ends_of_two_families_are_written_in_ipv6() -> None:
    """A header has one family, and a v4-mapped address says the same."""
    header = written(2, CLIENT, SERVER_V6)
    assert header[12:14] == b"\x21\x21"
    assert header[16:32] == MAPPED
    assert parse(header) == Header(52, CLIENT, SERVER_V6)
    assert parse(written(1, SERVER_V6, CLIENT)) == Header(
        len(written(1, SERVER_V6, CLIENT)), SERVER_V6, CLIENT
    )


def test_beside_a_unix_socket_nothing_is_told() -> None:
    """A target takes that for a connection of unpd's own."""
    for source, destination in ((Endpoint(UNIX), SERVER), (CLIENT, Endpoint(UNIX))):
        assert written(1, source, destination) == b"PROXY UNKNOWN\r\n"
        assert written(2, source, destination) == v2(0x21, 0x00, b"")


@pytest.mark.parametrize("end", [CLIENT, CLIENT_V6, Endpoint(UNIX)])
def test_an_end_is_a_peer_as_the_kernel_tells_it(end: Endpoint) -> None:
    """So sessions, access rules and log lines need not know where it comes from."""
    assert peer_of(end.sockaddr) == Peer(end.family, end.number)
    assert endpoint_of(end.sockaddr) == end


def test_the_end_of_a_v4_mapped_address_is_one_of_ipv4() -> None:
    """As a client of a dual-stack listener has it."""
    sockaddr = struct.pack("=H2s4x16s4x", 10, (51234).to_bytes(2, "big"), MAPPED)
    assert endpoint_of(sockaddr) == CLIENT
    assert endpoint_of(b"") == Endpoint(UNIX)
