"""No metric, label, or fixed value of a label is lost or renamed unnoticed: dashboards
and alerts name them.
"""

import enum

import pytest

from tests.support.golden_metrics import METRICS as GOLDEN
from tests.support.golden_metrics import VALUES
from unpd import names
from unpd.metrics.catalog.row import Info
from unpd.metrics.catalog.table import METRICS


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
    found: type[enum.StrEnum] = getattr(names, name)
    assert tuple(map(str, found)) == values
