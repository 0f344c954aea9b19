"""How long the turns of the master's loop were, by the histogram on the page of the
exporter. Tests and the benchmark use it.
"""

import math
from collections.abc import Callable, Mapping

from tests.support.observed import Samples
from tests.support.waiting import until

BUCKET = "unpd_loop_lag_seconds_bucket"
PATIENCE_S = 10.0
Turns = Mapping[float, float]
"""How many turns lasted at most so many seconds, by each bound of the histogram. That
of math.inf is all of them.
"""


def turns_so_far(scrape: Callable[[], Samples], take_a_turn: Callable[[], object]) -> Turns:
    """Count the turns until now, by a page that was not shown before: a page is shown
    for a while. ``take_a_turn``: has the master do something.
    """
    earlier = _turns_on(scrape())

    def later() -> Turns | None:
        take_a_turn()
        found = _turns_on(scrape())
        return found if found[math.inf] > earlier[math.inf] else None

    found = until(later, PATIENCE_S, "another turn on the page")
    assert found is not None
    return found


def _turns_on(page: Samples) -> Turns:
    return {
        float(dict(labels)["le"]): count
        for (name, labels), count in page.items()
        if name == BUCKET and ("kind", "master") in labels
    }


def longer_than(turns: Turns, bound_s: float) -> float:
    """How many turns were longer than one of the bounds."""
    return turns[math.inf] - turns[bound_s]


def longest_s(before: Turns, after: Turns) -> float:
    """The least bound that no turn between the two was longer than, in seconds."""
    return min(bound for bound in after if longer_than(after, bound) == longer_than(before, bound))
