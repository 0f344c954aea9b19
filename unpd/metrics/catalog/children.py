"""The metrics of children: those that serve each pool, and how children ended.

Owns their names, labels and helps. Called by :mod:`unpd.metrics.catalog.table`.
"""

from unpd.board import layout
from unpd.board.layout import Master
from unpd.metrics.catalog.row import Counter, Gauge, Histogram, Metric, Series, word
from unpd.metrics.reading import Distribution, Reading
from unpd.names import ChildKind, ChildPhase, ReapReason


def _workers(reading: Reading) -> Series[float]:
    return (
        ((kind.value, pool, phase.value), reading.children.get((kind, column, phase), 0))
        for pool, column in reading.labels.pools
        for kind in layout.SERVING_KINDS
        for phase in layout.PHASES
    )


def _wanted(reading: Reading) -> Series[float]:
    return (
        ((kind.value, pool), reading.master[word])
        for pool, column in reading.labels.pools
        for word, kind in enumerate(layout.SERVING_KINDS, layout.wanted_words(column))
    )


def _spawns(reading: Reading) -> Series[float]:
    return (
        ((pool,), reading.master[Master.SPAWNS + column]) for pool, column in reading.labels.pools
    )


def _reaped(reading: Reading) -> Series[float]:
    pairs = ((kind.value, reason.value) for kind in layout.KINDS for reason in layout.REAP_REASONS)
    return (
        (pair, reading.master[Master.REAPED + index])
        for index, pair in enumerate(pairs)
        if pair[1] != ReapReason.UNKNOWN.value  # only of sessions
    )


def _reap_delay(reading: Reading) -> Series[Distribution]:
    counts = reading.master[
        Master.REAP_BUCKETS : Master.REAP_BUCKETS + len(layout.REAP_BOUNDS_S) + 1
    ]
    yield (), Distribution(layout.REAP_BOUNDS_S, counts, reading.master[Master.REAP_SUM_NS])


def _busy_ratio(reading: Reading) -> Series[float]:
    """No sample of a pool without a ready worker."""
    return (
        ((pool,), reading.master[Master.BUSY + column] / 10_000)
        for pool, column in reading.labels.pools
        if any(
            reading.children.get((ChildKind.WORKER, column, phase))
            for phase in (ChildPhase.READY, ChildPhase.DRAINING)
        )
    )


def _loop_lag(reading: Reading) -> Series[Distribution]:
    span = Master.span(Master.LAG_BUCKETS)
    own = Distribution(layout.LAG_BOUNDS_S, reading.master[span], reading.master[Master.LAG_SUM_NS])
    yield ("master",), own
    yield (ChildKind.WORKER.value,), reading.worker_lag


def _zombies(reading: Reading) -> Series[float]:
    """No sample where /proc hides the master's children: 0 would be a lie."""
    return () if reading.zombies is None else (((), reading.zombies),)


ROWS: tuple[Metric, ...] = (
    Gauge(
        "unpd_workers",
        ("kind", "pool", "state"),
        "Workers, iterative workers, dispatchers and launchers that are not reaped yet, by state.",
        _workers,
    ),
    Gauge(
        "unpd_workers_wanted",
        ("kind", "pool"),
        "Workers, iterative workers, dispatchers and launchers that the pool should have, by the"
        " configuration and SIGTTIN or SIGTTOU.",
        _wanted,
    ),
    Gauge(
        "unpd_worker_busy_ratio",
        ("pool",),
        "Share of the last five seconds in which the loops of the pool's workers did not wait for"
        " events, from 0 to 1; the mean of its workers, without iterative ones, and one that is"
        " stuck counts as busy.",
        _busy_ratio,
    ),
    Histogram(
        "unpd_loop_lag_seconds",
        ("kind",),
        "Longest turn of a loop since the one counted before, at least 10 ms ago: how late an event"
        " or a deadline was served at most; of the main process (master), and of workers and"
        " iterative workers (worker).",
        _loop_lag,
    ),
    Counter(
        "unpd_worker_spawns_total",
        ("pool",),
        "Workers spawned and respawned, without the other kinds that serve.",
        _spawns,
    ),
    Counter(
        "unpd_children_reaped_total",
        ("kind", "reason"),
        "Children of the master that were reaped, by how they ended.",
        _reaped,
    ),
    Counter(
        "unpd_unknown_children_reaped_total",
        (),
        "Reaped processes that the master had not forked: orphans that came to it.",
        word(Master.UNKNOWN_REAPED),
    ),
    Gauge(
        "unpd_zombies",
        (),
        "Children of the master, and sessions of its dispatchers, that are dead and not reaped at"
        " this moment; absent where /proc hides them.",
        _zombies,
    ),
    Histogram(
        "unpd_reap_delay_seconds",
        (),
        "Time from a child's last act to its reaping, without children that were killed.",
        _reap_delay,
    ),
    Counter(
        "unpd_sigchld_total",
        (),
        "Runs of the SIGCHLD handler; one run can reap many children.",
        word(Master.SIGCHLD),
    ),
    Counter(
        "unpd_fork_failures_total",
        (),
        "Forks that the kernel refused.",
        word(Master.FORK_FAILURES),
    ),
)
"""In the order of the exposition."""
