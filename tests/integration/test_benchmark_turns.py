"""The row of the benchmark that measures the longest turns of the master, on a real
daemon.
"""

import pytest

from tests.benchmarks.figures import TURNS
from tests.benchmarks.report import TURNS_TITLES
from tests.benchmarks.targets import BOUNDS
from tests.support import clients, faults
from tests.support.measuring import measured

PATIENCE = 50
"""A machine that runs other tests meanwhile may be so many times as slow. The histogram
has the bound of 1 s.
"""


@pytest.mark.slow
@faults.requires_namespaces()
def test_a_round_has_every_figure_and_none_is_far_from_its_bound() -> None:
    """No turn is many times as long as it may be."""
    clients.raise_descriptor_limit()
    figures = measured("turns.round_of_turns(1)")
    assert figures.keys() == TURNS_TITLES.keys()
    goals = {bound.measure: PATIENCE * bound.goal for bound in BOUNDS if bound.row == TURNS}
    assert {name: took for name, took in figures.items() if took > goals[name]} == {}
