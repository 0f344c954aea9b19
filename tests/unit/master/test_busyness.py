"""How busy the workers of a pool are: what the samples of their heartbeats say."""

import pytest

from unpd.master.busyness import LATE_S, WINDOW_S, Busyness, Sample


def taken(*samples: tuple[float, float], now: float | None = None) -> float | None:
    """The share of a worker after samples of its heartbeat and of its busy time; the
    last is taken at ``now``.
    """
    busyness, shares = Busyness(), {}
    for beat_s, busy_s in samples:
        last = (beat_s, busy_s) == samples[-1]
        at = now if last and now is not None else beat_s
        shares = busyness.take([Sample(1, "default", beat_s, busy_s)], at)
    return shares.get("default")


def test_a_single_sample_tells_nothing() -> None:
    """A share is one of the time between two."""
    assert taken((10.0, 5.0)) is None


@pytest.mark.parametrize(
    ("samples", "share"),
    [
        (((10.0, 0.0), (11.0, 0.0)), 0.0),
        (((10.0, 3.0), (11.0, 3.25)), 0.25),
        (((10.0, 0.0), (11.0, 1.0)), 1.0),
        (((10.0, 0.0), (11.0, 0.9), (12.0, 1.0)), 0.5),
    ],
)
def test_the_share_is_that_of_the_time_between(
    samples: tuple[tuple[float, float], ...], share: float
) -> None:
    """From the first to the last sample."""
    assert taken(*samples) == pytest.approx(share)


def test_what_is_long_ago_does_not_count() -> None:
    """A worker that was busy before is idle after some seconds."""
    busy = [(float(second), float(second)) for second in range(10)]
    idle = [(float(second), 9.0) for second in range(10, 10 + int(WINDOW_S))]
    assert taken(*busy, *idle) == 0.0


def test_the_window_is_one_of_time() -> None:
    """However often the master sweeps: here ten times a second, for two windows."""
    busy = [(number / 10, number / 10) for number in range(50)]
    idle = [(number / 10, 4.9) for number in range(50, 75)]
    assert taken(*busy, *idle) == pytest.approx(0.5, abs=0.02)


def test_a_worker_that_is_stuck_counts_as_busy() -> None:
    """Since its last heartbeat, once that is late."""
    assert taken((10.0, 0.0), (11.0, 0.0), now=11.0 + LATE_S) == 0.0
    assert taken((10.0, 0.0), (11.0, 0.0), now=20.0) == pytest.approx(0.9)


@pytest.mark.parametrize("busy_s", [1e12, -1e12])
def test_a_forged_figure_stays_between_0_and_1(busy_s: float) -> None:
    """Whatever a faulty worker writes."""
    share = taken((10.0, 0.0), (11.0, busy_s))
    assert share is not None
    assert 0.0 <= share <= 1.0


def test_a_pool_has_the_mean_of_its_workers() -> None:
    """A worker that has died does not count any more."""
    busyness = Busyness()
    both = [Sample(1, "a", 10.0, 0.0), Sample(2, "a", 10.0, 0.0), Sample(3, "b", 10.0, 0.0)]
    assert busyness.take(both, 10.0) == {}
    both = [Sample(1, "a", 11.0, 1.0), Sample(2, "a", 11.0, 0.5), Sample(3, "b", 11.0, 0.0)]
    assert busyness.take(both, 11.0) == {"a": pytest.approx(0.75), "b": 0.0}
    assert busyness.take([Sample(2, "a", 12.0, 0.5)], 12.0) == {"a": pytest.approx(0.25)}
