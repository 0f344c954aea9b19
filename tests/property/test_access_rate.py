"""What a rate takes, and what it refuses, for clients that come at any times."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from unpd.access.rate import Rate


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
    window_ms = rate.window_ms
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


def taken_of(rate: Rate, arrivals: list[int]) -> list[int]:
    """The arrivals that the rate takes, counted as a lane of the board does."""
    taken = []
    ends_ms, count, before = 0, 0, 0
    for now_ms in arrivals:
        count, before = rate.counts(ends_ms, count, before, now_ms)
        ends_ms = rate.ends_ms(now_ms)
        if not rate.exceeded(count, before, rate.share(now_ms)):
            count += 1
            taken.append(now_ms)
    return taken


@settings(max_examples=150, deadline=None)
@given(rates_with_arrivals())
def test_the_bound_of_any_span(case: tuple[Rate, list[int]]) -> None:
    """In any T seconds, at most burst * (1 + T / window_s) are taken, rounded up; in a
    window of the clock at most burst.
    """
    rate, arrivals = case
    taken = taken_of(rate, arrivals)
    for first, begin_ms in enumerate(taken):
        for last in range(first, len(taken)):
            span_ms = taken[last] - begin_ms + 1
            most = rate.burst + math.ceil(rate.burst * span_ms / rate.window_ms)
            assert last - first + 1 <= most
    windows = [rate.ends_ms(now_ms) for now_ms in taken]
    assert all(windows.count(window) <= rate.burst for window in windows)


@settings(max_examples=100, deadline=None)
@given(rate=rates(), begin_ms=st.integers(0, 10**6), slower_ms=st.integers(0, 500))
def test_a_steady_client_below_the_rate(rate: Rate, begin_ms: int, slower_ms: int) -> None:
    """A client that comes steadily, and less often than the rate allows, is never
    refused.
    """
    step_ms = rate.window_ms // rate.burst + 1 + slower_ms
    arrivals = [begin_ms + i * step_ms for i in range(5 * rate.burst)]
    assert taken_of(rate, arrivals) == arrivals


@settings(max_examples=100, deadline=None)
@given(rate=rates(), data=st.data())
def test_a_client_that_makes_half_of_the_burst(rate: Rate, data: st.DataObject) -> None:
    """A client that makes at most half of the burst in each window, at whatever moments
    of it, is never refused.
    """
    moments = st.lists(st.integers(0, rate.window_ms - 1), max_size=rate.burst // 2)
    arrivals = [
        window * rate.window_ms + moment
        for window in range(6)
        for moment in sorted(data.draw(moments))
    ]
    assert taken_of(rate, arrivals) == arrivals


@settings(max_examples=100, deadline=None)
@given(rate=rates(), clients=st.integers(1, 3))
def test_a_flood_gets_the_rate(rate: Rate, clients: int) -> None:
    """A flood gets what the rate allows: burst in each window, or one less because it
    does not try in every millisecond.
    """
    window_ms = rate.window_ms
    steps = range(0, 4 * window_ms, max(1, window_ms // (5 * rate.burst)))
    taken = taken_of(rate, [now_ms for now_ms in steps for _ in range(clients)])
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
    ends_ms = rate.ends_ms(now_ms)

    def refused(at_ms: int) -> bool:
        counted = rate.counts(ends_ms, now_count, before, at_ms)
        return rate.exceeded(*counted, rate.share(at_ms))

    wait_ms = rate.frees_in_s(now_count, before, rate.share(now_ms)) * 1000
    assert (wait_ms > 0) == refused(now_ms)
    assert not refused(now_ms + math.ceil(wait_ms))
    if wait_ms >= 3:
        assert refused(now_ms + math.floor(wait_ms) - 2)
