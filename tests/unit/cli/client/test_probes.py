"""The requests of a measurement, and what is no answer."""

import pytest

from unpd.cli.client.probes import MIN_SIZE, STRANGE, Coder
from unpd.cli.client.tcpmux import is_name

TOKEN = b"12345678"


@pytest.mark.parametrize("size", [MIN_SIZE, MIN_SIZE + 1, 56, 1400, 65507])
def test_a_request_has_its_size_and_its_number(size: int) -> None:
    """The answer with the same bytes belongs to the request, also with high numbers."""
    coder = Coder(TOKEN, size)
    for number in (1, 2, 1 << 40):
        request = coder.request(number)
        assert (len(request), coder.number_of(request)) == (size, number)


def test_other_bytes_are_strange() -> None:
    """Neither a cut nor a longer datagram, a changed byte, the request of another
    measurement nor nothing is an answer.
    """
    coder = Coder(TOKEN, 56)
    request = coder.request(1)
    others = (
        b"",
        request[:-1],
        request + b"x",
        request[:-1] + b"x",
        Coder(b"87654321", 56).request(1),
        bytes(56),
    )
    assert [coder.number_of(other) for other in others] == [STRANGE] * len(others)


def test_a_name_behind_tcpmux_is_one_printable_word_or_more() -> None:
    """RFC 1078 ends a name with CR LF, so it has no control character."""
    assert is_name("echo")
    assert is_name("my service")
    assert not any(map(is_name, ("", "a\r\nb", "\x1b", "é", "x" * 65)))
