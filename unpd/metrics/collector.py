"""The scoreboard as metric families of prometheus_client: a custom collector on a
registry of its own.

:mod:`unpd.metrics.pages` makes the registry, and prometheus_client calls the collector
at each rendering. The default registry is not used: it would show the exporter's
process as if it were the master. There are no ``_created`` series: a counter begins
with the scoreboard, which a service manager keeps over restarts, so none of our times
is the time of its first count.
"""

from collections.abc import Callable, Iterable
from itertools import accumulate

from unpd.board.memory import Scoreboard
from unpd.libraries import (
    Collector,
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    floatToGoString,
)
from unpd.metrics.catalog.row import Counter, Gauge, Histogram, Info, Series
from unpd.metrics.catalog.table import METRICS
from unpd.metrics.labels import Labels
from unpd.metrics.reading import Reading


class BoardCollector(Collector):
    """Yields every metric of the catalogue from one reading of ``board``. ``tracked``:
    how many sources of connections are counted now.
    """

    def __init__(self, board: Scoreboard, labels: Labels, tracked: Callable[[], int]) -> None:
        self._board = board
        self._labels = labels
        self._tracked = tracked

    def collect(self) -> Iterable[Metric]:
        """Yield all families, in the order of the catalogue."""
        reading = Reading.take(self._board, self._labels, self._tracked())
        for row in METRICS:
            yield _family(row, reading)


def make_registry(
    board: Scoreboard, labels: Labels, tracked: Callable[[], int] = int
) -> CollectorRegistry:
    """A registry that holds our collector and nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BoardCollector(board, labels, tracked))
    return registry


def _family(row: Counter | Gauge | Info | Histogram, reading: Reading) -> Metric:
    match row:
        case Counter():
            return _plain(
                CounterMetricFamily(row.name, row.help, labels=row.labels), row.series(reading)
            )
        case Gauge():
            return _plain(
                GaugeMetricFamily(row.name, row.help, labels=row.labels), row.series(reading)
            )
        case Info():
            return _info(row, reading)
        case Histogram():
            return _histogram(row, reading)


def _plain(family: CounterMetricFamily | GaugeMetricFamily, series: Series[float]) -> Metric:
    for labels, value in series:
        family.add_metric(labels, value)
    return family


def _info(row: Info, reading: Reading) -> Metric:
    family = InfoMetricFamily(row.name.removesuffix("_info"), row.help)
    for labels, _ in row.series(reading):
        family.add_metric([], dict(zip(row.labels, labels, strict=True)))
    return family


def _histogram(row: Histogram, reading: Reading) -> Metric:
    family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
    for labels, value in row.series(reading):
        bounds = [*map(floatToGoString, value.bounds_s), "+Inf"]
        family.add_metric(
            labels,
            buckets=list(zip(bounds, accumulate(value.counts), strict=True)),
            sum_value=value.sum_s,
        )
    return family
