"""Figures as people read them."""

import pytest

from unpd.wording import span_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (-7200.0, "0 s"),
        (0.31, "0.4 s"),
        (12.0, "12 s"),
        (59.99, "1 min"),
        (61.0, "1 min 1 s"),
        (3600.0, "1 h"),
        (38093.0, "10 h 35 min"),
        (86399.5, "1 d"),
        (90000.5, "1 d 2 h"),
    ],
)
def test_a_span_for_people(seconds: float, text: str) -> None:
    """Has at most two units, and is not shorter than the span."""
    assert span_text(seconds) == text
