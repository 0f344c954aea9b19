"""Tables for people."""

from unpd.cli.tables import aligned
from unpd.cli.workers_text import listeners, percent


def test_what_is_not_known_is_a_dash() -> None:
    """A percentage that is known has one digit after the point."""
    assert (percent(None), percent(0.0), percent(250.04)) == ("-", "0.0 %", "250.0 %")


def test_cells_stand_below_each_other() -> None:
    """Without spaces at the end of a line."""
    assert aligned([("A", "LONG", "C"), ("wide", "b", "")]) == "A     LONG  C\nwide  b"


def test_a_daemon_without_listeners_says_so() -> None:
    """As at its stop."""
    assert listeners([]) == "no listener is open"
