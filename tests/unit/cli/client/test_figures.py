"""The arithmetic of a measurement."""

from functools import reduce

import pytest

from unpd.cli.client.figures import (
    Sums,
    added,
    linger_ns,
    loss_percent,
    mdev_ns,
    per_second,
    percentile,
    spread_of,
)


def sums_of(*round_trips_ns: int) -> Sums:
    """Return the sums of these round trips."""
    return reduce(added, round_trips_ns, Sums())


def test_the_spread_has_the_figures_of_ping() -> None:
    """Minimum, mean, maximum, the deviation of the population and the percentile."""
    spread = spread_of(sums_of(2, 4, 4, 4, 5, 5, 7, 9), [2, 4, 4, 4, 5, 5, 7, 9])
    assert spread is not None
    assert (spread.min_ns, spread.avg_ns, spread.max_ns) == (2, 5, 9)
    assert (spread.mdev_ns, spread.p99_ns) == (2, 9)


def test_without_a_round_trip_there_is_no_spread() -> None:
    """No figure is made up where no answer came."""
    assert spread_of(Sums(), []) is None
    with pytest.raises(ValueError, match="no round trip"):
        mdev_ns(Sums())


def test_a_round_trip_of_zero_is_one() -> None:
    """The first round trip is the minimum, whatever the sums began with."""
    assert sums_of(0, 3).least_ns == 0
    assert sums_of(5, 3).least_ns == 3


def test_the_percentile_is_that_of_the_nearest_rank() -> None:
    """Of 1 to 100 the 99th percentile is 99, of 1 to 101 it is 100."""
    assert percentile(range(1, 101), 99) == 99
    assert percentile(range(1, 102), 99) == 100
    assert percentile([7], 99) == 7
    assert percentile([3, 1, 2], 50) == 2


@pytest.mark.parametrize(("samples", "percent"), [([], 99), ([1], 0), ([1], 101)])
def test_a_percentile_of_nothing_is_an_error(samples: list[int], percent: int) -> None:
    """Neither an empty sample nor a share beyond 1 to 100 per cent has a percentile."""
    with pytest.raises(ValueError, match="a percentile needs"):
        percentile(samples, percent)


def test_losses_and_rates_have_no_division_by_zero() -> None:
    """Before anything was sent, and in no time, they are 0."""
    assert (loss_percent(0, 0), loss_percent(4, 3), loss_percent(3, 0)) == (0.0, 25.0, 100.0)
    assert (per_second(100, 0), per_second(100, 500_000_000)) == (0.0, 200.0)


@pytest.mark.parametrize(
    ("most_ns", "interval_ns", "timeout_ns", "waited_ns"),
    [
        (0, 10, 1000, 1000),
        (0, 10, None, None),
        (100, 10, 1000, 200),
        (100, 500, 1000, 500),
        (900, 10, 1000, 1000),
        (100, 10, None, 200),
    ],
)
def test_the_last_answers_are_awaited_as_by_ping(
    most_ns: int, interval_ns: int, timeout_ns: int | None, waited_ns: int | None
) -> None:
    """Two of the longest round trips or an interval if anything came, else the timeout,
    which is the limit in any case.
    """
    sums = sums_of(most_ns) if most_ns else Sums()
    assert linger_ns(sums, interval_ns, timeout_ns) == waited_ns


def test_long_measurements_do_not_round() -> None:
    """A million equal round trips of a day deviate by nothing."""
    day_ns = 86_400 * 10**9 + 1
    sums = Sums(10**6, 10**6 * day_ns, 10**6 * day_ns**2, day_ns, day_ns)
    assert mdev_ns(sums) == 0
