"""Rates: their texts, their windows, and when one more is too many."""

import pytest

from unpd.access.rate import Rate


@pytest.mark.parametrize(
    ("text", "rate", "window_s"),
    [
        ("100/s", Rate(100, 1, 100), 1.0),
        ("100/s burst 200", Rate(100, 1, 200), 2.0),
        ("30/min", Rate(30, 60, 30), 60.0),
        ("1/min burst 10", Rate(1, 60, 10), 600.0),
        ("1/h burst 24", Rate(1, 3600, 24), 86_400.0),
        (" 5/s  burst  6 ", Rate(5, 1, 6), 1.2),
        ("3/s burst 4", Rate(3, 1, 4), 1.334),
        ("10000000/s", Rate(10_000_000, 1, 10_000_000), 1.0),
    ],
)
def test_a_text(text: str, rate: Rate, window_s: float) -> None:
    """A rate has a count, a unit and perhaps a burst, which makes its window longer."""
    assert Rate.parse(text) == rate
    assert rate.window_s == window_s
    assert Rate.parse(str(rate)) == rate


def test_the_text_of_a_rate() -> None:
    """A rate is shown as the configuration writes it, without a needless burst."""
    assert str(Rate.parse("5/s burst 5")) == "5/s"
    assert str(Rate.parse("1/h burst 2")) == "1/h burst 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", '"" must be a rate such as "100/s", "600/min", "10/h" or "100/s burst 200"'),
        ("100", '"100" must be a rate'),
        ("100/s burst", "must be a rate"),
        ("100/s 200", 'is not known here: write "100/s burst 200"'),
        ("/s", "must be a rate"),
        ("100 /s", 'is not known here: write "100/s"'),
        ("25/s, burst 50", '"25/s, burst 50" is not known here: write "25/s burst 50"'),
        ("25/s,50", 'is not known here: write "25/s burst 50"'),
        ("25/s burst=50", 'is not known here: write "25/s burst 50"'),
        ("25/s,", 'is not known here: write "25/s"'),
        ("25r/m", 'is not known here: write "25/min"'),
        ("25 per hour", 'is not known here: write "25/h"'),
        ("50 10", '"50 10" must be a rate such as'),
        ("25/sec, burst 5", "must be a rate such as"),
        ("0/s", "must have numbers from 1 to 10000000"),
        ("10000001/s", "must have numbers from 1 to 10000000"),
        ("1" * 5000 + "/s", "must have numbers from 1 to 10000000"),
        ("100/s burst 0", "must have numbers from 1 to 10000000"),
        ("0.5/s", '"0.5/s" must have whole numbers, as in "30/min"'),
        ("100/s burst 1.5", "must have whole numbers"),
        ("-1/s", "must have whole numbers"),
        ("1e3/s", "must have whole numbers"),
        ("\u0663/s", "must have whole numbers"),
        ("100/d", '"100/d" has the unit "d"; use "s", "min" or "h"'),
        ("100/S", '"100/S" is not known here: write "100/s"'),
        ("100/sec", '"100/sec" is not known here: write "100/s"'),
        ("100/s burst 99", "has a burst below 100; it must be at least the count"),
        ("1/h burst 36", "would need a window of 1.5 days for its burst; one of a day"),
        ("\x1b/s", r'"\u001b/s" must have whole numbers'),
    ],
)
def test_a_bad_text(text: str, message: str) -> None:
    """A bad text is refused with one sentence that shows it."""
    with pytest.raises(ValueError, match=r".") as refusal:
        Rate.parse(text)
    assert message in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_one_more_is_too_many() -> None:
    """With as many as the burst in the estimate, one more is refused."""
    rate = Rate.parse("10/s")
    assert not rate.exceeded(9, 0, 1.0)
    assert rate.exceeded(10, 0, 1.0)
    assert rate.exceeded(0, 10, 1.0)
    assert not rate.exceeded(4, 10, 0.59)
    assert rate.exceeded(4, 10, 0.6)
    assert rate.estimate(4, 10, 0.6) == 10.0


@pytest.mark.parametrize(
    ("before", "share"), [(0, 1.0), (10, 1.0), (10, 0.65), (9, 0.01), (30, 1.0)]
)
@pytest.mark.parametrize("now_count", range(12))
def test_the_room_is_what_is_taken_one_after_the_other(
    now_count: int, before: int, share: float
) -> None:
    """Until one more is too many."""
    rate = Rate.parse("10/s")
    taken = 0
    while not rate.exceeded(now_count + taken, before, share):
        taken += 1
    assert max(0, rate.room(now_count, before, share)) == taken


@pytest.mark.parametrize(
    ("now_count", "before", "share", "wait_s"),
    [
        (0, 0, 1.0, 0.0),
        (9, 0, 0.5, 0.0),
        (0, 10, 1.0, 0.001),
        (5, 10, 0.75, 0.501),
        (10, 0, 0.5, 1.001),
        (10, 10, 0.25, 0.501),
        (20, 0, 0.5, 2.001),
    ],
)
def test_when_it_frees(now_count: int, before: int, share: float, wait_s: float) -> None:
    """It frees when the part of the window before that still counts is small enough, or
    after the end of this one.
    """
    assert Rate.parse("5/s burst 10").frees_in_s(now_count, before, share) == wait_s


def test_twice_the_burst() -> None:
    """The bound on any span of one window's length is reached: a full window, and the
    next one right behind it.
    """
    rate = Rate.parse("10/s")
    taken = [999] * 10
    count = 0
    for now_ms in range(1000, 1999):
        if not rate.exceeded(count, 10, (2000 - now_ms) / 1000):
            count += 1
            taken.append(now_ms)
    assert len(taken) == 2 * rate.burst
    assert taken[-1] - taken[0] < 1000 * rate.window_s
