"""Rates between two answers."""

import pytest

from tests.support.statuses import answered, child, service, status


def test_a_rate_is_the_difference_for_each_second() -> None:
    """Of the same service in the answer before, whatever its place there."""
    answers = answered(
        status(services=[service("echo", accepted=10), service("time", accepted=1)]),
        status(services=[service("time", accepted=2), service("echo", accepted=15)]),
        every_s=2.0,
    )
    assert [pair.rate("accepted") for pair in answers.services()] == [0.5, 2.5]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (status(), status(services=[service("echo", accepted=5)])),
        (
            status(services=[service("echo", accepted=9)]),
            status(services=[service("echo", accepted=5)]),
        ),
        (
            status(pid=6, services=[service("echo")]),
            status(services=[service("echo", accepted=5)]),
        ),
        (
            status(uptime_s=90.0, services=[service("echo")]),
            status(uptime_s=1.0, services=[service("echo", accepted=5)]),
        ),
        (status(services=[service("echo", accepted=None)]), status(services=[service("echo")])),
    ],
    ids=["new service", "went down", "another daemon", "the same pid again", "no number"],
)
def test_a_rate_may_not_be_known(before: dict[str, object], now: dict[str, object]) -> None:
    """Without the same count of the same daemon before, there is none."""
    (echo,) = answered(before, now).services()
    assert echo.rate("accepted") is None


def test_a_child_in_the_place_of_another_has_no_past() -> None:
    """It is told by the serial number of its start, not by its slot."""
    old, new = child(1, index=0, cpu_s=9.0), child(2, index=0, cpu_s=10.0)
    (pair,) = answered(status(children=[old]), status(children=[new])).children()
    assert pair.rate("cpu_s") is None


def test_no_time_between_two_answers_gives_no_rate() -> None:
    """A division by zero is not tried."""
    echo = [service("echo")]
    (pair,) = answered(status(services=echo), status(services=echo), every_s=0.0).services()
    assert pair.rate("accepted") is None
