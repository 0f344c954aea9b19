"""Cutting standard input into pieces to send."""

import itertools

import pytest

from unpd.cli.client.framing import Framing, Lines, Pieces


def pieces_of(framing: Framing, chunks: list[bytes]) -> list[bytes]:
    """Return the bytes that go out for each chunk, and at the end."""
    return [*(framing.feed(chunk) for chunk in chunks), framing.finish()]


def test_a_line_is_held_until_its_newline_has_been_read() -> None:
    """In line mode no byte of a line goes out before its end has been read."""
    assert pieces_of(Lines(), [b"hel", b"lo\nwo", b"rld\n"]) == [b"", b"hello\n", b"world\n", b""]


def test_whole_lines_go_out_together_and_the_rest_waits() -> None:
    """Whole lines that were read at once go out as one piece; the beginning of the next
    line is held.
    """
    assert pieces_of(Lines(), [b"a\nb\nc"]) == [b"a\nb\n", b"c"]


def test_a_last_line_without_a_newline_is_sent_as_it_is() -> None:
    """A last line without a newline goes out whole, and gets no newline."""
    assert pieces_of(Lines(), [b"no end"]) == [b"", b"no end"]


def test_a_line_too_long_to_hold_goes_out_in_parts() -> None:
    """Once a line reaches the limit, the held part goes out, so that memory is
    bounded.
    """
    assert pieces_of(Lines(max_held_bytes=4), [b"abc", b"de", b"f\n"]) == [
        b"",
        b"abcde",
        b"f\n",
        b"",
    ]


def test_raw_pieces_go_out_as_they_come() -> None:
    """In raw mode every piece goes out at once and unchanged, newline or not."""
    assert pieces_of(Pieces(), [b"\0\xff", b"\n", b"x"]) == [b"\0\xff", b"\n", b"x", b""]


@pytest.mark.parametrize("make", [Lines, Pieces, lambda: Lines(max_held_bytes=2)])
def test_every_cut_of_the_input_comes_out_byte_for_byte(make: type[Framing]) -> None:
    """However the input arrives, the same bytes go out in the same order."""
    text = b"a\n\nbcd\r\ne"
    for first, second in itertools.combinations(range(len(text) + 1), 2):
        assert (
            b"".join(pieces_of(make(), [text[:first], text[first:second], text[second:]])) == text
        )


def test_a_datagram_has_one_line() -> None:
    """Each line is a datagram with its newline, an empty one too, and so is the rest;
    a line that is too long is several.
    """
    assert Lines().cut(b"a\n\nbc\nd", 100) == [b"a\n", b"\n", b"bc\n", b"d"]
    assert Lines().cut(b"abcde\nf\n", 3) == [b"abc", b"de\n", b"f\n"]
    assert Lines().cut(b"", 3) == []


def test_a_raw_piece_is_one_datagram() -> None:
    """Newlines mean nothing; a piece that is too long is several datagrams."""
    assert Pieces().cut(b"a\nb\n", 100) == [b"a\nb\n"]
    assert Pieces().cut(b"abcde", 2) == [b"ab", b"cd", b"e"]
    assert Pieces().cut(b"", 2) == []
