"""The row of the benchmark that measures unpd behind HAProxy, on real daemons."""

import pytest

from tests.benchmarks.report import BALANCED_TITLES
from tests.support.faults import requires_namespaces, requires_tool
from tests.support.measuring import measured

PATIENCE = 10
"""A machine that runs other tests meanwhile may be so many times as slow."""


@pytest.mark.slow
@requires_namespaces()
@requires_tool("haproxy")
@requires_tool("gcc")
def test_a_round_has_every_figure_and_instances_cost_little() -> None:
    """HAProxy serves with each number of unpd, and three are not much slower than
    one.
    """
    figures = measured("balancing.measure(build.build(peers=False).load)")
    assert figures.keys() == BALANCED_TITLES.keys()
    for name in ("trips", "visits"):
        assert PATIENCE * figures[f"{name}_3"] > figures[f"{name}_1"] > 0
