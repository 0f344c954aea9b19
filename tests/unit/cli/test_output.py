"""Text on its way to a terminal."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.cli.output import complain, printable, show

EVIL = "\x1b]0;owned\x07\x9b31m\u202eabc\r\x7f\udcff\U000e0041"
ESCAPED = r"\x1b]0;owned\x07\u009b31m\u202eabc\r\x7f\udcff\U000e0041"


def test_control_characters_are_escaped() -> None:
    """Those of ASCII and Latin-1, those that turn the direction of writing, bytes that
    were no text, and invisible tags.
    """
    assert printable(EVIL) == ESCAPED


@given(st.text())
def test_nothing_that_is_not_printable_comes_out(text: str) -> None:
    """Printable text stays as it is."""
    assert printable(text).isprintable()
    assert (printable(text) == text) == text.isprintable()


@given(st.characters(min_codepoint=128, exclude_categories=["Cs"]))
def test_the_escapes_are_those_of_toml(char: str) -> None:
    """So the configuration that ``unpd check --show`` prints can be loaded."""
    assert tomllib.loads(f'key = "{printable(char)}"') == {"key": char}


def test_an_answer_and_a_message_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the newlines between lines stay, and each line of a message has the name of
    the program.
    """
    assert show(f"{EVIL}\nmore\n") is True
    complain(f"{EVIL}\nmore")
    shown = capsys.readouterr()
    assert shown.out == f"{ESCAPED}\nmore\n"
    assert shown.err == f"unpd: {ESCAPED}\nunpd: more\n"
