"""What the four bytes of RFC 868 mean to the client."""

from datetime import UTC, datetime

import pytest

from unpd.cli.client.time868 import ERA_S, Asked, lines, offset_s, seconds_of
from unpd.services.time868 import Time, TimeOptions

WRAP_S = int(datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC).timestamp())
NOW_S = int(datetime(2026, 11, 29, 13, 0, 0, tzinfo=UTC).timestamp())


def answer_of(server_s: float) -> bytes:
    """Return what a server sends at this time."""
    return Time(TimeOptions()).greet(server_s)


@pytest.mark.parametrize("local_s", [NOW_S, NOW_S + 0.9, WRAP_S - 1, WRAP_S, WRAP_S + 1])
@pytest.mark.parametrize("ahead_s", [0, 1, -1, 3600, -3600, 60 * 365 * 86400, -60 * 365 * 86400])
def test_the_era_is_that_next_to_the_local_clock(local_s: float, ahead_s: int) -> None:
    """Before, at and after the wrap of 2036 the server's time is found, while the local
    clock is wrong by less than 68 years.
    """
    server_s = int(local_s) + ahead_s
    assert seconds_of(answer_of(server_s), local_s) == server_s


def test_the_wrap_is_on_2036_02_07() -> None:
    """The number after the highest one is 0, and means the next second."""
    assert (answer_of(WRAP_S - 1), answer_of(WRAP_S)) == (b"\xff" * 4, bytes(4))
    assert seconds_of(b"\xff" * 4, WRAP_S) == WRAP_S - 1
    assert seconds_of(bytes(4), WRAP_S - 1) == WRAP_S


def test_a_clock_that_is_wrong_by_more_than_half_an_era_gets_another_era() -> None:
    """Nobody can tell the eras apart then: the nearest one is taken."""
    half = ERA_S // 2
    assert seconds_of(answer_of(NOW_S + half - 1), NOW_S) == NOW_S + half - 1
    assert seconds_of(answer_of(NOW_S + half), NOW_S) == NOW_S - half


@pytest.mark.parametrize("answer", [b"", b"abc", b"abcde"])
def test_other_than_four_bytes_are_no_time(answer: bytes) -> None:
    """The error says how many came."""
    with pytest.raises(ValueError, match=f"it sent {len(answer)} bytes in place of 4"):
        seconds_of(answer, NOW_S)


def test_the_offset_has_its_error() -> None:
    """The server rounds down to a second, and read its clock between the question and
    the answer.
    """
    assert offset_s(100, Asked(99.0, 100.0)) == (1.0, 1.0)
    assert offset_s(100, Asked(100.5, 100.5)) == (0.0, 0.5)


def test_the_text_has_the_time_and_the_offset() -> None:
    """Two lines: the server's time in UTC, and how far it is ahead of the clock."""
    assert lines(answer_of(NOW_S + 3600), Asked(NOW_S + 0.4, NOW_S + 0.6)) == (
        "2026-11-29 14:00:00 UTC\noffset +3600.0 s (give or take 0.6 s)\n"
    )
    assert "2036-02-07 06:28:16 UTC" in lines(bytes(4), Asked(WRAP_S, WRAP_S))
