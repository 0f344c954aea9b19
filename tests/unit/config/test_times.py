"""A service's times in one record."""

from collections.abc import Callable

from unpd.config.load import Loaded
from unpd.config.times import ServiceTimes


def test_each_time_is_that_of_its_key(accept: Callable[[str], Loaded]) -> None:
    """The record holds the three times of the service, each in its own field."""
    config = accept(
        "[services.echo]\nidle_timeout_s = 1\nsession_timeout_s = 2\nuser_timeout_s = 3\n"
    ).config
    assert config.services["echo"].times == ServiceTimes(
        idle_timeout_s=1.0, session_timeout_s=2.0, user_timeout_s=3.0
    )


def test_the_defaults_are_those_of_the_schema(accept: Callable[[str], Loaded]) -> None:
    """Without the keys, only the session has no limit."""
    config = accept("[services.echo]\n").config
    assert config.services["echo"].times == ServiceTimes(
        idle_timeout_s=600.0, session_timeout_s=0.0, user_timeout_s=60.0
    )
