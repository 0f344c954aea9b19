"""Words of a file in messages: short and printable."""

from unpd.errors import MAX_CHARACTERS, quoted


def test_the_longest_text_is_not_cut() -> None:
    """A text of MAX_CHARACTERS stays whole; a longer one is cut after as many."""
    longest = "x" * MAX_CHARACTERS
    assert quoted(longest) == f'"{longest}"'
    assert quoted(f"{longest}y") == f'"{longest}..."'


def test_every_control_character_is_escaped() -> None:
    """A terminal sees no escape sequence, and no DEL."""
    assert quoted("a\x1b\x7fb") == '"a\\u001b\\u007fb"'
