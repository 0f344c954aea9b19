"""The metrics of redirects: what became of the connects to their targets.

Owns their names, labels and helps. Called by :mod:`unpd.metrics.catalog.table`.
"""

from unpd.metrics.catalog.row import Counter, Metric, Series
from unpd.metrics.reading import Reading
from unpd.names import CONNECT_FAILURES


def _connections(reading: Reading) -> Series[float]:
    return (((target.service, target.target), target.connected) for target in reading.targets)


def _connect_failures(reading: Reading) -> Series[float]:
    return (
        ((target.service, target.target, label), count)
        for target in reading.targets
        for label, count in zip(CONNECT_FAILURES, target.failed, strict=True)
    )


ROWS: tuple[Metric, ...] = (
    Counter(
        "unpd_target_connections_total",
        ("service", "target"),
        "Connections of redirects to their targets.",
        _connections,
    ),
    Counter(
        "unpd_target_connect_failures_total",
        ("service", "target", "errno"),
        "Connects of redirects that failed, by errno; unresolved stands for a name without an"
        " address.",
        _connect_failures,
    ),
)
"""In the order of the exposition."""
