"""The sensor: it answers nothing."""

import pytest
from pydantic import ValidationError

from unpd.services.base import DatagramService, StreamService
from unpd.services.sensor import Sensor, SensorOptions


def test_it_closes_at_once() -> None:
    """A client gets no byte, and the end of the connection."""
    sensor: StreamService = Sensor(SensorOptions())
    assert sensor.greet(0.0) == b""
    assert sensor.converse() is None


def test_a_datagram_gets_no_answer() -> None:
    """Not even an empty one: its source may be forged."""
    sensor: DatagramService = Sensor(SensorOptions())
    assert sensor.answer(b"x", ("192.0.2.1", 7), 0.0) is None


@pytest.mark.parametrize("value", [0, 604_801, "60", True, float("nan"), float("inf")])
def test_the_time_of_a_denial_is_bounded(value: object) -> None:
    """It is a number of seconds, up to a week."""
    with pytest.raises(ValidationError):
        SensorOptions.model_validate({"deny_time_s": value})
    assert SensorOptions.model_validate({"deny_time_s": 60}).deny_time_s == 60
