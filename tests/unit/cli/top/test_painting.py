"""The bytes that a terminal is sent."""

import re

import pytest

from unpd.cli.top.layout import Size, Span
from unpd.cli.top.painting import Painter

LINES = [(Span("bad", "bad"), Span(" [red]plain")), (Span("cursor", "cursor"),)]


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False)])
def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch, value: str, coloured: bool) -> None:
    """With NO_COLOR no colour is sent, but the cursor stands out all the same. What
    looks like the markup of the library is plain text.
    """
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", value)
    painter = Painter()
    painter.begin()
    made = painter.frame(LINES, Size(20, 3)).decode()
    assert ("31m" in made) is coloured
    assert "\x1b[7m" in made
    assert "[red]plain" in made


def test_a_frame_covers_the_whole_screen() -> None:
    """Nothing of the frame before remains: each line begins at its place, and is as
    wide as the screen.
    """
    painter = Painter()
    painter.begin()
    painter.frame([(Span("x" * 20),)] * 4, Size(20, 4))
    made = painter.frame(LINES, Size(20, 4)).decode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", made)
    pieces = re.split(r"\x1b\[[0-9;]*H", plain)[1:]
    assert [len(piece.strip("\n")) for piece in pieces] == [20] * 4


def test_the_other_screen_is_left_again() -> None:
    """With the cursor in sight (xterm's control sequences)."""
    painter = Painter()
    assert "\x1b[?1049h" in painter.begin().decode()
    assert "\x1b[?25l" not in painter.end().decode()
