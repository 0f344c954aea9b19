"""The row of the benchmark that measures access rules and limits, on a real daemon."""

import pytest

from tests.benchmarks.figures import ACCESS
from tests.benchmarks.report import ACCESS_TITLES
from tests.benchmarks.targets import BOUNDS
from tests.support import clients, faults
from tests.support.measuring import measured

PATIENCE = 10
"""A machine that runs other tests meanwhile may be so many times as slow."""


@pytest.mark.slow
@faults.requires_namespaces()
def test_a_round_has_every_figure_and_none_is_far_from_its_bound() -> None:
    """What is promised within a time happens within ten times that."""
    clients.raise_descriptor_limit()
    figures = measured("access.measure(1)")
    assert figures.keys() == ACCESS_TITLES.keys()
    goals = {bound.measure: PATIENCE * bound.goal for bound in BOUNDS if bound.row == ACCESS}
    assert {name: took for name, took in figures.items() if took > goals.get(name, took)} == {}
