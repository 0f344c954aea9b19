"""The rates of services."""

from unpd.board.totals import Totals
from unpd.master.rates import SAMPLES, Rate, Rates


def test_a_rate_is_that_of_the_last_seconds() -> None:
    """The older samples are forgotten."""
    rates = Rates()
    for second in range(SAMPLES + 3):
        rates.take({"echo": Totals(10 * second, 100 * second, 50 * second, second)}, second)
    assert rates.of("echo") == Rate(10.0, 100.0, 50.0, 1.0)
    for second in range(SAMPLES):
        rates.take({"echo": Totals(80, 800, 400, 8)}, 9.0 + second)
    assert rates.of("echo") == Rate(0.0, 0.0, 0.0, 0.0)


def test_a_service_that_is_new_has_no_rate() -> None:
    """Nor one that there is not; a total that became smaller is no rate below 0."""
    rates = Rates()
    assert rates.of("echo") is None
    rates.take({"echo": Totals(9, 9, 9, 9)}, 1.0)
    assert rates.of("echo") is None
    rates.take({"echo": Totals(9, 9, 9, 9), "new": Totals(1, 1, 1, 1)}, 1.0)
    assert rates.of("echo") is None
    rates.take({"echo": Totals(0, 19, 9, 9), "new": Totals(1, 1, 1, 1)}, 2.0)
    assert rates.of("echo") == Rate(0.0, 10.0, 0.0, 0.0)
    assert rates.of("other") is None
