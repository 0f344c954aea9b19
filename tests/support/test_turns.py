"""The longest turn of a loop, between two pages."""

import math

from tests.support.turns import longest_s

INF = math.inf


def test_the_longest_turn_is_that_of_the_highest_bucket_that_grew() -> None:
    """Longer turns of before do not count."""
    before = {0.001: 5.0, 0.02: 6.0, 0.5: 7.0, INF: 8.0}
    assert longest_s(before, {0.001: 9.0, 0.02: 10.0, 0.5: 11.0, INF: 12.0}) == 0.001
    assert longest_s(before, {0.001: 6.0, 0.02: 8.0, 0.5: 9.0, INF: 10.0}) == 0.02
    assert longest_s(before, {0.001: 5.0, 0.02: 6.0, 0.5: 7.0, INF: 9.0}) == INF
