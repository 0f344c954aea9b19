"""What a rate takes, and what it refuses, for clients that come at any times."""

import math
from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from unpd.access.rate import Rate


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a rate on a clock of milliseconds, and what counts in them."""

    rate: Rate

    @property
    def length_ms(self) -> int:
        """The length of a window."""
        return round(1000 * self.rate.window_s)

    def of(self, now_ms: int) -> int:
        """The number of the window that has ``now_ms``."""
        return now_ms // self.length_ms

    def share(self, now_ms: int) -> float:
        """How much of the window before still counts at ``now_ms``."""
        return (self.length_ms - now_ms % self.length_ms) / self.length_ms

    def refuses(self, last: int, count: int, before: int, now_ms: int) -> bool:
        """Whether one more is refused at ``now_ms``, if ``count`` were taken in the
        window ``last``, and ``before`` in the one before that.
        """
        counted = {last: count, last - 1: before}
        window = self.of(now_ms)
        return self.rate.exceeded(
            counted.get(window, 0), counted.get(window - 1, 0), self.share(now_ms)
        )

    def taken_of(self, arrivals: list[int]) -> list[int]:
        """The arrivals that the rate takes."""
        taken: list[int] = []
        counted: Counter[int] = Counter()
        for now_ms in arrivals:
            window = self.of(now_ms)
            if not self.refuses(window, counted[window], counted[window - 1], now_ms):
                counted[window] += 1
                taken.append(now_ms)
        return taken


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """A small rate, so that few clients reach its bounds."""
    count = draw(st.integers(1, 12))
    return Rate(count, draw(st.sampled_from([1, 60])), count + draw(st.integers(0, 12)))


@st.composite
def rates_with_arrivals(draw: st.DrawFn) -> tuple[Rate, list[int]]:
    """A rate, and the milliseconds in which clients come: in floods, at the edges of
    windows, or at their leisure.
    """
    rate = draw(rates())
    window_ms = Windows(rate).length_ms
    gap_ms = st.one_of(
        st.sampled_from([0, 0, 0, 1, window_ms - 1, window_ms, window_ms // 2]),
        st.integers(0, max(1, 3 * window_ms // rate.burst)),
        st.integers(0, 2 * window_ms),
    )
    groups = draw(st.lists(st.tuples(gap_ms, st.integers(1, 30)), max_size=40))
    now_ms, arrivals = draw(st.integers(0, 10**9)), []
    for gap, clients in groups:
        now_ms += gap
        arrivals += [now_ms] * clients
    return rate, arrivals


@settings(max_examples=150, deadline=None)
@given(rates_with_arrivals())
def test_the_bound_of_any_span(case: tuple[Rate, list[int]]) -> None:
    """In any T seconds, at most burst * (1 + T / window_s) are taken, rounded up; in a
    window of the clock at most burst.
    """
    rate, arrivals = case
    taken = Windows(rate).taken_of(arrivals)
    for first, begin_ms in enumerate(taken):
        for last in range(first, len(taken)):
            span_ms = taken[last] - begin_ms + 1
            most = rate.burst + math.ceil(rate.burst * span_ms / Windows(rate).length_ms)
            assert last - first + 1 <= most
    assert all(count <= rate.burst for count in Counter(map(Windows(rate).of, taken)).values())


@settings(max_examples=100, deadline=None)
@given(rate=rates(), begin_ms=st.integers(0, 10**6), slower_ms=st.integers(0, 500))
def test_a_steady_client_below_the_rate(rate: Rate, begin_ms: int, slower_ms: int) -> None:
    """A client that comes steadily, and less often than the rate allows, is never
    refused.
    """
    step_ms = Windows(rate).length_ms // rate.burst + 1 + slower_ms
    arrivals = [begin_ms + i * step_ms for i in range(5 * rate.burst)]
    assert Windows(rate).taken_of(arrivals) == arrivals


@settings(max_examples=100, deadline=None)
@given(rate=rates(), data=st.data())
def test_a_client_that_makes_half_of_the_burst(rate: Rate, data: st.DataObject) -> None:
    """A client that makes at most half of the burst in each window, at whatever moments
    of it, is never refused.
    """
    moments = st.lists(st.integers(0, Windows(rate).length_ms - 1), max_size=rate.burst // 2)
    arrivals = [
        window * Windows(rate).length_ms + moment
        for window in range(6)
        for moment in sorted(data.draw(moments))
    ]
    assert Windows(rate).taken_of(arrivals) == arrivals


@settings(max_examples=100, deadline=None)
@given(rate=rates(), clients=st.integers(1, 3))
def test_a_flood_gets_the_rate(rate: Rate, clients: int) -> None:
    """A flood gets what the rate allows: burst in each window, or one less because it
    does not try in every millisecond.
    """
    window_ms = Windows(rate).length_ms
    steps = range(0, 4 * window_ms, max(1, window_ms // (5 * rate.burst)))
    taken = Windows(rate).taken_of([now_ms for now_ms in steps for _ in range(clients)])
    for window in range(4):
        inside = sum(now_ms // window_ms == window for now_ms in taken)
        assert rate.burst - 1 <= inside <= rate.burst


@settings(max_examples=150, deadline=None)
@given(
    rate=rates(),
    now_count=st.integers(0, 60),
    before=st.integers(0, 60),
    now_ms=st.integers(0, 10**6),
)
def test_when_a_refusal_ends(rate: Rate, now_count: int, before: int, now_ms: int) -> None:
    """One more is taken at the promised moment, and none two milliseconds before."""
    windows = Windows(rate)

    def refused(at_ms: int) -> bool:
        return windows.refuses(windows.of(now_ms), now_count, before, at_ms)

    wait_ms = rate.frees_in_s(now_count, before, windows.share(now_ms)) * 1000
    assert (wait_ms > 0) == refused(now_ms)
    assert not refused(now_ms + math.ceil(wait_ms))
    if wait_ms >= 3:
        assert refused(now_ms + math.floor(wait_ms) - 2)
