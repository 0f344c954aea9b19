"""Renders readings as pages of metrics, in one of the formats of prometheus_client.

A page of 64 services has 10,000 lines, and the names and labels in them are the same
for an exporter's life. So prometheus_client encodes each line once, when its series is
first there, and the head of the line, which is all but the value, is kept. Afterwards a
page costs no more than its values.

Owns the heads. Called by :mod:`unpd.metrics.pages`, with one object for each format.
Raises nothing. The labels of the catalogue are names of the configuration and of
tables, so that the heads are bounded.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from unpd.libraries import CollectorRegistry, floatToGoString
from unpd.metrics.catalog.row import Metric
from unpd.metrics.catalog.table import METRICS
from unpd.metrics.families import family, registry_of
from unpd.metrics.reading import Distribution, Reading

MAX_NUMBERS = 4096
"""How many numbers are remembered as text: most values of a page are those of the page
before.
"""


class _Lines:
    """What is known of one metric: the lines about it, and for each series the heads of
    its lines, by the values of its labels.
    """

    def __init__(self) -> None:
        self.about = ""
        self.heads: dict[tuple[str, ...], list[str]] = {}


class Renderer:
    """``encode``: an encoder of prometheus_client."""

    def __init__(self, encode: Callable[[CollectorRegistry], bytes]) -> None:
        self._encode = encode
        self._end = encode(registry_of()).decode()
        self._lines = {row.name: _Lines() for row in METRICS}
        self._text = functools.lru_cache(MAX_NUMBERS)(floatToGoString)

    def render(self, reading: Reading) -> bytes:
        """Return the page."""
        page: list[str] = []
        for row in METRICS:
            series: list[tuple[tuple[str, ...], Any]] = list(row.series(reading))
            lines = self._lines[row.name]
            self._learn(row, lines, [each for each in series if each[0] not in lines.heads])
            page.append(lines.about)
            for labels, value in series:
                for head, number in zip(lines.heads[labels], _numbers(value), strict=True):
                    page.append(f"{head}{self._text(number)}\n")
        page.append(self._end)
        return "".join(page).encode()

    def _learn(
        self, row: Metric, lines: _Lines, series: Sequence[tuple[tuple[str, ...], Any]]
    ) -> None:
        """Have new series of a metric encoded, and keep the heads of their lines."""
        if lines.about and not series:
            return
        text = self._encode(registry_of(family(row, series))).decode()
        every = [f"{line}\n" for line in text.removesuffix(self._end).split("\n")[:-1]]
        lines.about = "".join(line for line in every if line.startswith("#"))
        heads = [f"{line.rpartition(' ')[0]} " for line in every if not line.startswith("#")]
        each = len(heads) // max(1, len(series))
        for place, (labels, _) in enumerate(series):
            lines.heads[labels] = heads[place * each : (place + 1) * each]


def _numbers(value: float | Distribution) -> Sequence[float]:
    """The numbers of a series, in the order of its lines."""
    if not isinstance(value, Distribution):
        return (value,)
    buckets = list(accumulate(value.counts))
    return [*buckets, buckets[-1], value.sum_s]
