"""Numbers as short text."""

from collections.abc import Callable

import pytest

from unpd.cli.top import figures


@pytest.mark.parametrize(
    ("shown", "value", "text"),
    [
        (figures.count, 0, "0"),
        (figures.count, 99_999, "99999"),
        (figures.count, 100_000, "100k"),
        (figures.count, 1_234_567, "1.23M"),
        (figures.count, 999_499, "999k"),
        (figures.count, 999_500, "1.00M"),
        (figures.count, 45_600_000, "45.6M"),
        (figures.count, 1e30, "1000000000000E"),
        (figures.percent, 12.3, "12%"),
        (figures.span, 9.9, "9s"),
        (figures.span, 247, "4m07s"),
        (figures.span, 7500, "2h05m"),
        (figures.span, 3 * 86400 + 4 * 3600, "3d04h"),
    ],
)
def test_a_number_is_short(shown: Callable[[float | None], str], value: float, text: str) -> None:
    """With at most three digits and a prefix where it is large."""
    assert shown(value) == text
    assert shown(None) == "-"
