"""The time service: the bytes of RFC 868."""

import struct
from datetime import UTC, datetime

import pytest

from unpd.services.time868 import NOTE, Time, TimeOptions


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        # The examples of RFC 868.
        (datetime(1970, 1, 1, tzinfo=UTC), 2_208_988_800),
        (datetime(1976, 1, 1, tzinfo=UTC), 2_398_291_200),
        (datetime(1980, 1, 1, tzinfo=UTC), 2_524_521_600),
        (datetime(1983, 5, 1, tzinfo=UTC), 2_629_584_000),
        (datetime(2036, 2, 7, 6, 28, 15, tzinfo=UTC), 0xFFFFFFFF),
        (datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC), 0),
        (datetime(2036, 2, 7, 6, 28, 17, tzinfo=UTC), 1),
        (datetime(1900, 1, 1, tzinfo=UTC), 0),
    ],
)
def test_sends_the_seconds_since_1900(moment: datetime, seconds: int) -> None:
    """32 bits, the most significant first; in 2036 they begin again at 0."""
    time = Time(TimeOptions())
    assert time.greet(moment.timestamp()) == struct.pack("!I", seconds)
    assert time.answer(b"", None, moment.timestamp()) == struct.pack("!I", seconds)


def test_rounds_down() -> None:
    """A second begins when it begins."""
    time = Time(TimeOptions())
    assert time.greet(0.999_999) == time.greet(0.0) != time.greet(1.0)


def test_no_conversation() -> None:
    """The greeting is all: the server closes after it."""
    assert Time(TimeOptions()).converse() is None  # type: ignore[func-returns-value]


def test_the_note_names_the_second_after_the_last_one() -> None:
    """The log at start has it."""
    last = datetime.fromtimestamp(2**32 - 2_208_988_800, UTC)
    assert last.strftime("%Y-%m-%d %H:%M:%S UTC") in NOTE
