"""Spans of time as people write them."""

import pytest

from unpd.control.spans import LONGEST_S, span_s, timeout_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("007s", 7), ("3650d", LONGEST_S)],
)
def test_a_span_has_a_number_and_a_unit(text: str, seconds: int) -> None:
    """Seconds, minutes, hours or days."""
    assert span_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "abc", "1w", "1.5h", "-1s", "1h30m", "10 m", "10M", "²s", "1s\n"]
)
def test_what_is_no_span_is_refused(text: str) -> None:
    """The sentence has the right forms."""
    with pytest.raises(ValueError, match=r"is no time: write a whole number and a unit, such as"):
        span_s(text)


@pytest.mark.parametrize("text", ["0s", "3651d", "999999999d"])
def test_a_span_is_within_its_bounds(text: str) -> None:
    """A denial of no time, or beyond all time, is a mistake."""
    with pytest.raises(ValueError, match=rf"^the time {text} must be from 1s to 3650d$"):
        span_s(text)


def test_a_number_alone_is_no_span() -> None:
    """Seconds or minutes: nobody should have to guess."""
    with pytest.raises(ValueError, match=r'^"10" has no unit: write one of 10s, 10m, 10h, 10d$'):
        span_s("10")


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("30", 30), ("30s", 30), ("2m", 120)])
def test_a_timeout_may_be_seconds_alone(text: str, seconds: int) -> None:
    """As those of other commands are."""
    assert timeout_s(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "0s", "9999999999"])
def test_what_is_no_timeout_is_refused(text: str) -> None:
    """As for a span."""
    with pytest.raises(ValueError, match=r"time|unit"):
        timeout_s(text)
