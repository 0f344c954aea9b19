"""No metric, label, or fixed value of a label is lost or renamed unnoticed: dashboards
and alerts name them.
"""

import os
from collections.abc import Iterable, Iterator

import pytest

from tests.support.exporter import make_labels
from tests.support.golden_metrics import BUCKETS, LOOPS, VALUES
from tests.support.golden_metrics import METRICS as GOLDEN
from unpd import names
from unpd.board import layout, memory
from unpd.board.memory import Scoreboard
from unpd.metrics.catalog.row import Histogram, Info
from unpd.metrics.catalog.table import METRICS
from unpd.metrics.reading import Reading


@pytest.fixture
def reading() -> Iterator[Reading]:
    """A reading of a board on which a program has ended: otherwise programs have no
    series.
    """
    fd = memory.create()
    board = Scoreboard(fd)
    board.words[layout.Master.ROWS_USED] = 1
    board.row(0)[layout.service_cells(0) + layout.Service.PROGRAMS_ENDED] = 1
    yield Reading.take(board, make_labels(os.getpid()), 0)
    os.close(fd)


def test_the_metrics_are_those_of_the_golden_list() -> None:
    """Each with its type and its labels in their order, and no other. Prometheus knows
    no info: it is a gauge.
    """
    assert {
        row.name: ("gauge" if isinstance(row, Info) else type(row).__name__.lower(), row.labels)
        for row in METRICS
    } == GOLDEN


@pytest.mark.parametrize(("name", "values"), VALUES.items())
def test_the_values_of_a_label_are_those_of_the_golden_list(
    name: str, values: tuple[str, ...]
) -> None:
    """And no other."""
    found: Iterable[str] = getattr(names, name)
    assert tuple(map(str, found)) == values


def test_the_buckets_are_those_of_the_golden_list(reading: Reading) -> None:
    """Of every histogram, in each of its series."""
    histograms = [row for row in METRICS if isinstance(row, Histogram)]
    assert {
        row.name: {tuple(value.bounds_s) for _, value in row.series(reading)} for row in histograms
    } == {name: {bounds} for name, bounds in BUCKETS.items()}


def test_the_loops_are_those_of_the_golden_list(reading: Reading) -> None:
    """Of the main process and of the workers."""
    (lag,) = (row for row in METRICS if row.name == "unpd_loop_lag_seconds")
    assert tuple(labels for labels, _ in lag.series(reading)) == tuple((kind,) for kind in LOOPS)
