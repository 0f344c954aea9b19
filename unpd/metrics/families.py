"""Rows of the catalogue as metric families of prometheus_client, from which it encodes
them. Called by :mod:`unpd.metrics.rendering`.

The default registry is not used: it would show the exporter's process as if it were the
master. There are no ``_created`` series: a counter begins with the scoreboard, which a
service manager keeps over restarts, so none of our times is the time of its first
count.
"""

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

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
from unpd.metrics.reading import Distribution


class _Families(Collector):
    """Yields the families that it was given."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """Yield them."""
        return self._families


def registry_of(*families: Metric) -> CollectorRegistry:
    """A registry that holds these families and nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return registry


def family(row: Counter | Gauge | Info | Histogram, series: Series[Any]) -> Metric:
    """The family of a row with these series."""
    match row:
        case Counter():
            return _plain(CounterMetricFamily(row.name, row.help, labels=row.labels), series)
        case Gauge():
            return _plain(GaugeMetricFamily(row.name, row.help, labels=row.labels), series)
        case Info():
            return _info(row, series)
        case Histogram():
            return _histogram(row, series)


def _plain(family: CounterMetricFamily | GaugeMetricFamily, series: Series[float]) -> Metric:
    for labels, value in series:
        family.add_metric(labels, value)
    return family


def _info(row: Info, series: Series[float]) -> Metric:
    family = InfoMetricFamily(row.name.removesuffix("_info"), row.help)
    for labels, _ in series:
        family.add_metric([], dict(zip(row.labels, labels, strict=True)))
    return family


def _histogram(row: Histogram, series: Series[Distribution]) -> Metric:
    family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
    for labels, value in series:
        bounds = [*map(floatToGoString, value.bounds_s), "+Inf"]
        family.add_metric(
            labels,
            buckets=list(zip(bounds, accumulate(value.counts), strict=True)),
            sum_value=value.sum_s,
        )
    return family
