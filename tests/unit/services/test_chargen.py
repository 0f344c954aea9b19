"""The chargen service: the bytes of RFC 864."""

import re

import pytest

from unpd.services.base import MAX_PIECE_BYTES, Piece
from unpd.services.chargen import Chargen, ChargenOptions, lines

FIRST_LINES = (
    b" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n"
    b"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r\n"
    b"\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghi\r\n"
)
"""As RFC 864 prints them."""


def said(count: int) -> bytes:
    """The first bytes of a conversation."""
    more = Chargen(ChargenOptions()).converse().more
    assert more is not None
    got = bytearray()
    while len(got) < count:
        piece = more()
        assert piece
        got += piece
    return bytes(got[:count])


def test_begins_with_the_lines_of_the_rfc() -> None:
    """72 printing characters and CR LF, each line one character later."""
    assert said(len(FIRST_LINES)) == FIRST_LINES


def test_the_lines_follow_each_other_over_any_length() -> None:
    """Also where one piece ends and the next begins, and where the lines repeat."""
    got = said(3 * MAX_PIECE_BYTES).split(b"\r\n")[:-1]
    ring = bytes(range(32, 127))
    for number, line in enumerate(got):
        first = number % len(ring)
        assert line == (ring * 2)[first : first + 72], number


def test_the_lines_repeat_after_95() -> None:
    """95 lines of 74 bytes: each printing character has begun one line."""
    assert len(lines()) == 95 * 74
    assert said(2 * len(lines())) == lines() * 2


def test_a_piece_is_bounded() -> None:
    """No piece is longer than one may be, nor so short that a turn is not worth it."""
    more = Chargen(ChargenOptions()).converse().more
    assert more is not None
    piece: Piece | None = more()
    assert piece is not None
    assert MAX_PIECE_BYTES // 2 < len(piece) <= MAX_PIECE_BYTES


def test_throws_received_bytes_away() -> None:
    """And says nothing before the socket has room."""
    chargen = Chargen(ChargenOptions())
    assert chargen.converse().received(b"stop") == b""
    assert chargen.greet(0.0) == b""


def answers(allowed: int) -> list[bytes]:
    """Answers to datagrams of which each may have so many bytes."""
    chargen = Chargen(ChargenOptions())
    moments = ((number + 0.5) / 1e6 for number in range(2000))
    return [bytes(chargen.answer(b"", None, moment)(allowed)) for moment in moments]


def test_a_datagram_has_the_beginning_of_the_lines_of_a_random_length() -> None:
    """From 1 to 512 characters (RFC 864)."""
    got = answers(65507)
    assert all(lines().startswith(answer) for answer in got)
    assert {len(answer) for answer in got} == set(range(1, 513))


@pytest.mark.parametrize("allowed", [0, 1, 2, 56, 511, 512])
def test_a_datagram_has_as_many_bytes_as_are_allowed(allowed: int) -> None:
    """Each length from 1 on comes; where no byte is allowed, the answer is empty."""
    assert {len(answer) for answer in answers(allowed)} == set(range(min(1, allowed), allowed + 1))


def test_the_pattern_is_printable() -> None:
    """Printing ASCII and the ends of lines, nothing else."""
    assert re.fullmatch(rb"([ -~]{72}\r\n)+", lines())
