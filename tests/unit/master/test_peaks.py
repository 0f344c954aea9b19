"""The peaks of services: the window of samples that the master keeps for each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.master.peaks import WINDOW_S, Peak, Peaks


def test_the_peak_is_the_highest_sample_of_a_minute() -> None:
    """It stays for sixty samples, one a second, and then the next highest is the
    peak.
    """
    peak = Peak()
    assert peak.take(9, 1000.0) == 9
    assert peak.take(4, 1001.0) == 9
    shown = [peak.take(1, 1002.0 + second) for second in range(60)]
    assert shown == [9] * 58 + [4, 1]


def test_samples_of_one_second_are_one() -> None:
    """A sweep that comes more often than once a second does not shorten the window,
    and the highest sample of a second counts.
    """
    peak = Peak()
    shown = [peak.take(5 if tenth == 3 else 1, 1000.0 + tenth / 10) for tenth in range(600)]
    assert shown == [1] * 3 + [5] * 597
    assert len(peak._samples) == WINDOW_S  # noqa: SLF001 - the bound of its memory
    assert peak.take(0, 1000.0 + WINDOW_S) == 1


def test_an_old_sample_does_not_outlive_a_pause() -> None:
    """A master that stood still shows no peak that is older than the window."""
    peak = Peak()
    peak.take(9, 1000.0)
    assert peak.take(2, 1500.0) == 2


@given(
    st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(0, 1000)), min_size=1, max_size=100),
    st.floats(0.0, 1e6),
)
def test_the_peak_is_what_a_search_finds(steps: list[tuple[float, int]], began: float) -> None:
    """For any times and counts it is the highest of the samples whose seconds are among
    the last sixty; and the memory is bounded.
    """
    peak, seen, at = Peak(), list[tuple[int, int]](), began
    for pause_s, count in steps:
        at += pause_s
        seen.append((int(at), count))
        expected = max(each for second, each in seen if second > int(at) - WINDOW_S)
        assert peak.take(count, at) == expected
        assert len(peak._samples) <= WINDOW_S  # noqa: SLF001 - the bound of its memory


@pytest.mark.parametrize("pause_s", [1, 30])
def test_each_service_has_its_own_peak(pause_s: int) -> None:
    """A service that went and came back begins again: its column may have been that of
    another.
    """
    peaks = Peaks()
    assert peaks.take({"echo": 3, "daytime": 0}, 1.0) == {"echo": 3, "daytime": 0}
    assert peaks.take({"echo": 1, "daytime": 2}, 1.0 + pause_s) == {"echo": 3, "daytime": 2}
    assert peaks.take({"daytime": 0}, 2.0 + pause_s) == {"daytime": 2}
    assert peaks.take({"echo": 0, "daytime": 0}, 3.0 + pause_s) == {"echo": 0, "daytime": 2}
