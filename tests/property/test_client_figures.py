"""The figures of a measurement against those of the standard library, and the tally
against a simple model, for any round trips and any order of events.
"""

import statistics
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from unpd.cli.client import figures, time868
from unpd.cli.client.tally import Tally, Verdict

ROUND_TRIPS = st.lists(st.integers(0, 10**14), min_size=1, max_size=200)


@given(ROUND_TRIPS)
def test_the_spread_is_that_of_the_standard_library(round_trips_ns: list[int]) -> None:
    """Mean and deviation are right to a nanosecond, and the order is min, avg, max."""
    sums = reduce(figures.added, round_trips_ns, figures.Sums())
    spread = figures.spread_of(sums, round_trips_ns)
    assert spread is not None
    assert (spread.min_ns, spread.max_ns) == (min(round_trips_ns), max(round_trips_ns))
    assert spread.avg_ns == sum(round_trips_ns) // len(round_trips_ns)
    assert abs(spread.mdev_ns - statistics.pstdev(round_trips_ns)) <= 1 + spread.mdev_ns * 1e-9
    assert spread.min_ns <= spread.avg_ns <= spread.max_ns
    assert spread.mdev_ns <= spread.max_ns - spread.min_ns


@given(ROUND_TRIPS, st.integers(1, 100))
def test_a_percentile_is_a_sample_that_so_many_do_not_exceed(
    samples: list[int], percent: int
) -> None:
    """It is the least sample of that kind, whatever the order."""
    found = figures.percentile(samples, percent)
    assert found in samples
    assert 100 * sum(sample <= found for sample in samples) >= percent * len(samples)
    assert 100 * sum(sample < found for sample in samples) < percent * len(samples)
    assert figures.percentile(reversed(samples), percent) == found


@given(st.lists(st.tuples(st.sampled_from(["send", "answer", "wait"]), st.integers(0, 30))))
def test_every_answer_counts_once(events: list[tuple[str, int]]) -> None:
    """Whatever the order of requests, answers and pauses: sent is received and lost,
    each request is received and expires at most once, and each late one is received.
    """
    tally, now_ns, timeout_ns = Tally(timeout_ns=20), 0, 20
    sent_ns: dict[int, int] = {}
    answers: list[int] = []
    late = 0
    expired: list[int] = []
    for event, number in events:
        if event == "send":
            sent_ns[tally.send(now_ns)] = now_ns
        elif event == "wait":
            now_ns += number
            expired += tally.expire(now_ns)
        elif number in sent_ns:
            verdict, round_trip_ns = tally.answer(number, now_ns)
            assert round_trip_ns == now_ns - sent_ns[number]
            assert (verdict is Verdict.DUPLICATE) == (number in answers)
            late += verdict is Verdict.LATE
            assert (verdict is Verdict.LATE) <= (round_trip_ns > timeout_ns)
            answers.append(number)
    counts = tally.counts
    assert (counts.sent, counts.received) == (len(sent_ns), len(set(answers)))
    assert counts.lost == counts.sent - counts.received >= 0
    assert (counts.late, counts.duplicates) == (late, len(answers) - len(set(answers)))
    assert len(expired) == len(set(expired)) <= counts.sent
    assert tally.complete == (counts.lost == 0)


@given(st.floats(-(2**33), 2**33), st.integers(-(2**31), 2**31 - 1))
def test_a_time_is_found_within_half_an_era(local_s: float, ahead_s: int) -> None:
    """The era next to the local clock, also before 1970 and after 2036."""
    server_s = int(local_s // 1) + ahead_s
    word = (server_s + time868.EPOCH_S) % time868.ERA_S
    assert time868.seconds_of(word.to_bytes(4, "big"), local_s) == server_s
