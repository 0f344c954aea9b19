"""The bytes of a terminal as keys."""

import pytest

from unpd.cli.top.keys import keys_of


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA", ["up"]),
        (b"\x1b[5~\x1b[6~\x1b[1~\x1b[F", ["page_up", "page_down", "home", "end"]),
        (b"\x1b", ["escape"]),
        (b"\r\n\t\x7f\x08", ["enter", "enter", "tab", "backspace", "backspace"]),
        ("é€".encode(), ["é", "€"]),
        (b"a\xffb", ["a", "b"]),
        (b"\x00\x01\x1b[99~\x1b[200;1R", []),
        (b"/echo\r", ["/", "e", "c", "h", "o", "enter"]),
    ],
)
def test_bytes_become_keys(typed: bytes, keys: list[str]) -> None:
    """Also many at once, as when somebody types fast. What is no key is passed over."""
    assert keys_of(typed) == keys
