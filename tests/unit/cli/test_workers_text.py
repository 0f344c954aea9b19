"""Amounts and tables for people."""

import pytest

from unpd.cli.tables import aligned
from unpd.cli.workers_text import amount, listeners, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (2.0**30, "1.0 GiB"),
        (2.0**62, "4.0 EiB"),
    ],
)
def test_an_amount_has_a_unit(value: float | None, text: str) -> None:
    """A power of 1,024."""
    assert amount(value) == text


def test_what_is_not_known_is_a_dash() -> None:
    """A percentage that is known has one digit after the point."""
    assert (percent(None), percent(0.0), percent(250.04)) == ("-", "0.0 %", "250.0 %")


def test_cells_stand_below_each_other() -> None:
    """Without spaces at the end of a line."""
    assert aligned([("A", "LONG", "C"), ("wide", "b", "")]) == "A     LONG  C\nwide  b"


def test_a_daemon_without_listeners_says_so() -> None:
    """As at its stop."""
    assert listeners([]) == "no listener is open"
