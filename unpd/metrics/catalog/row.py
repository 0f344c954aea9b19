"""A row of the catalogue of metrics, and the series that several rows share.

Owns the types of metrics. Called by the rows beside this module, and by the collector.
Calls nothing but the reading that it is given, and raises nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from unpd.metrics.reading import Distribution, Reading

Value = TypeVar("Value", float, Distribution)
Series = Iterable[tuple[tuple[str, ...], Value]]
"""A metric's series: the label values of each, in the order of the row's labels, and
its value.
"""


@dataclass(frozen=True, slots=True)
class MetricRow(Generic[Value]):
    """One metric. ``name``: as in the exposition. ``series`` finds its series in a
    reading.
    """

    name: str
    labels: tuple[str, ...]
    help: str
    series: Callable[[Reading], Series[Value]]


class Counter(MetricRow[float]):
    """Goes up for as long as the master lives."""


class Gauge(MetricRow[float]):
    """Goes up and down."""


class Info(MetricRow[float]):
    """Is always 1; the labels hold the content."""


class Histogram(MetricRow[Distribution]):
    """Counts observations by size, and sums them."""


Metric = Counter | Gauge | Info | Histogram


def word(at: int, scale: int = 1) -> Callable[[Reading], Series[float]]:
    """A single series: a word of the master area, divided by ``scale``."""

    def series(reading: Reading) -> Series[float]:
        value = reading.master[at]
        yield (), value if scale == 1 else value / scale

    return series


def sampled(at: int, scale: int = 1) -> Callable[[Reading], Series[float]]:
    """As :func:`word`, but no series while the word is 0: the master could not take
    the sample, as without /proc.
    """
    series = word(at, scale)
    return lambda reading: series(reading) if reading.master[at] else ()
