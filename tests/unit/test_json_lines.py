"""Messages as lines: what is a message, and how long a line may be."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.json_lines import LineBuffer, LineError, decode, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES))
def test_a_message_comes_out_as_it_went_in(message: dict[str, object]) -> None:
    """As one line, whatever text is in it."""
    line = encode(message)
    assert (line[-1:], line.count(b"\n")) == (b"\n", 1)
    assert decode(line) == message


@given(st.binary(max_size=100) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_message_or_an_error(line: bytes) -> None:
    """Whatever the bytes are, decode raises LineError and nothing else."""
    with suppress(LineError):
        assert isinstance(decode(line), dict)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"", "not a line of JSON"),
        (b"\xff", "not a line of JSON"),
        (b"[" * 100_000, "not a line of JSON"),
        (b"1" * 5000, "not a line of JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
    ],
)
def test_the_error_ends_a_sentence(line: bytes, what: str) -> None:
    """Its text says what the line is not."""
    with pytest.raises(LineError, match=f"^{what}$"):
        decode(line)


@given(st.lists(st.binary(max_size=9)), st.integers(1, 5))
def test_lines_do_not_depend_on_the_pieces(texts: list[bytes], size: int) -> None:
    """However the bytes are cut into pieces, the same lines come out."""
    lines = [text.replace(b"\n", b"") for text in texts]
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    buffer, found = LineBuffer(10), list[bytes]()
    for start in range(0, len(stream), size):
        found += buffer.feed(stream[start : start + size])
    assert found == lines


@pytest.mark.parametrize("pieces", [(b"123456789\n",), (b"1234", b"56789", b"\n")])
def test_the_longest_line(pieces: tuple[bytes, ...]) -> None:
    """The bound counts the newline."""
    buffer = LineBuffer(10)
    assert [line for piece in pieces for line in buffer.feed(piece)] == [b"123456789"]


@pytest.mark.parametrize("pieces", [(b"1234567890\n",), (b"12345", b"67890"), (b"a\n1234567890",)])
def test_a_longer_line_is_an_error(pieces: tuple[bytes, ...]) -> None:
    """Also before its end has come, so the buffer is bounded."""
    buffer = LineBuffer(10)
    for piece in pieces[:-1]:
        assert buffer.feed(piece) == []
    with pytest.raises(LineError, match=r"^longer than 10 bytes$"):
        buffer.feed(pieces[-1])
