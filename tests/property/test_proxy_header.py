"""The header of the PROXY protocol, for any ends and any bytes."""

from hypothesis import given
from hypothesis import strategies as st

from unpd.access.proxy_header import MAX_BYTES, Endpoint, Header, NoHeader, parse, written

PORTS = st.integers(0, 0xFFFF)
V4_ENDS = st.builds(Endpoint, st.just(4), st.integers(0, 2**32 - 1), PORTS)
V6_ENDS = st.builds(
    Endpoint, st.just(6), st.integers(0, 2**128 - 1).filter(lambda n: n >> 32 != 0xFFFF), PORTS
)
ENDS = V4_ENDS | V6_ENDS
VERSIONS = st.sampled_from((1, 2))
STARTS = st.sampled_from(
    (
        b"",
        b"PROXY ",
        b"PROXY TCP4 ",
        b"PROXY TCP6 ::1 ",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
    )
)


@given(VERSIONS, ENDS, ENDS, st.binary(max_size=40))
def test_what_is_written_is_parsed(
    version: int, source: Endpoint, destination: Endpoint, data: bytes
) -> None:
    """Whatever follows, and also for ends of two families."""
    header = written(version, source, destination)
    assert parse(header + data) == Header(len(header), source, destination)


@given(VERSIONS, ENDS, ENDS, st.data())
def test_a_part_of_a_header_is_incomplete(
    version: int, source: Endpoint, destination: Endpoint, data: st.DataObject
) -> None:
    """However little of it has come."""
    header = written(version, source, destination)
    assert parse(header[: data.draw(st.integers(0, len(header) - 1))]) is None


@given(STARTS, st.binary(max_size=2 * MAX_BYTES))
def test_any_bytes_have_an_outcome(start: bytes, rest: bytes) -> None:
    """They never raise; a header is no longer than what came and than the most that
    is read; and MAX_BYTES suffice to decide.
    """
    data = start + rest
    parsed = parse(data)
    if isinstance(parsed, Header):
        assert parsed.length <= min(len(data), MAX_BYTES)
        assert parse(data[: parsed.length]) == parsed
    if len(data) >= MAX_BYTES:
        assert parsed is not None
    if isinstance(parsed, NoHeader):
        assert parsed.detail.isascii()
        assert parsed.detail.isprintable()
        assert len(parsed.detail) < 4 * MAX_BYTES
