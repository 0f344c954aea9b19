"""The arithmetic of a measurement: the spread of round trips, losses, throughput.

Called by ``tally`` and ``report``. Pure functions over integers of nanoseconds, so that
no sum of a long measurement rounds. Errors: ValueError where a function says so.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sums:
    """What is kept of all round trips: a few sums, however many there are."""

    count: int = 0
    total_ns: int = 0
    squares_ns2: int = 0
    least_ns: int = 0
    most_ns: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """The figures of ping(8), and the 99th percentile, in nanoseconds."""

    min_ns: int
    avg_ns: int
    max_ns: int
    mdev_ns: int
    p99_ns: int


def added(sums: Sums, round_trip_ns: int) -> Sums:
    """Return the sums with one more round trip."""
    return Sums(
        count=sums.count + 1,
        total_ns=sums.total_ns + round_trip_ns,
        squares_ns2=sums.squares_ns2 + round_trip_ns**2,
        least_ns=min(sums.least_ns, round_trip_ns) if sums.count else round_trip_ns,
        most_ns=max(sums.most_ns, round_trip_ns),
    )


def spread_of(sums: Sums, recent_ns: Iterable[int]) -> Spread | None:
    """Return the spread of all round trips, with the percentile of the recent ones;
    None if there was no round trip.
    """
    if not sums.count:
        return None
    return Spread(
        min_ns=sums.least_ns,
        avg_ns=sums.total_ns // sums.count,
        max_ns=sums.most_ns,
        mdev_ns=mdev_ns(sums),
        p99_ns=percentile(recent_ns, 99),
    )


def mdev_ns(sums: Sums) -> int:
    """Return the standard deviation of the population, which ping(8) calls mdev,
    rounded down. ValueError if there was no round trip.
    """
    if not sums.count:
        raise ValueError("no round trip")
    return math.isqrt(sums.count * sums.squares_ns2 - sums.total_ns**2) // sums.count


def percentile(samples: Iterable[int], percent: int) -> int:
    """Return the smallest sample that at least ``percent`` per cent of all do not
    exceed (the nearest rank). ValueError without samples or beyond 1 to 100 per cent.
    """
    ordered = sorted(samples)
    if not ordered or not 1 <= percent <= 100:
        raise ValueError("a percentile needs samples, and 1 to 100 per cent")
    return ordered[-(-percent * len(ordered) // 100) - 1]


def loss_percent(sent: int, received: int) -> float:
    """Return the share of lost requests in per cent; 0 if none was sent."""
    return 100 * (sent - received) / sent if sent else 0.0


def per_second(amount: int, elapsed_ns: int) -> float:
    """Return an amount per second; 0 if no time has passed."""
    return amount * 1e9 / elapsed_ns if elapsed_ns > 0 else 0.0


def linger_ns(sums: Sums, interval_ns: int, timeout_ns: int | None) -> int | None:
    """Return how long to wait for answers after the last request, as ping(8) does: two
    of the longest round trips or an interval if any answer came, but no longer than the
    timeout (None: no limit).
    """
    if not sums.count:
        return timeout_ns
    enough_ns = max(2 * sums.most_ns, interval_ns)
    return enough_ns if timeout_ns is None else min(enough_ns, timeout_ns)
