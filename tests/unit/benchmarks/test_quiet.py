"""Which measurements count on a machine that other programs use."""

from collections.abc import Callable, Iterator

from tests.benchmarks.machine import Cpus
from tests.benchmarks.quiet import Quiet, Taken

CPUS = Cpus(server=0, load=1)
TOOK_S = 10.0


class Clock:
    """A clock that moves only while something is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def measuring(self, *shares: float) -> Callable[[], tuple[str, float]]:
        """Return a measurement that takes TOOK_S seconds and counts its calls. Other
        programs use these shares meanwhile; the last one repeats.
        """

        def measured() -> Iterator[tuple[str, float]]:
            for number in range(99):
                self.now += TOOK_S
                yield f"number {number}", shares[min(number, len(shares) - 1)]

        return measured().__next__


def quiet(patience_s: float) -> tuple[Quiet, Clock]:
    """Build a Quiet that allows 2 %."""
    clock = Clock()
    return Quiet(CPUS, 0.02, patience_s, clock=clock), clock


def test_what_was_disturbed_is_repeated_and_costs_patience() -> None:
    """A disturbed measurement is repeated until other programs use no more than
    allowed. Repeats use up the patience.
    """
    machine, clock = quiet(100.0)
    assert machine.take(clock.measuring(0.5, 0.021, 0.02)) == Taken(
        "number 2", disturbed=False, thrown_away=2
    )
    assert (machine.patience_s, machine.thrown_away, machine.put_up_with) == (80.0, 2, 0)
    assert machine.take(clock.measuring(0.01, 0.005), allowed=0.005).thrown_away == 1


def test_at_the_end_of_patience_the_least_disturbed_one_counts() -> None:
    """Without patience the least disturbed measurement counts and is marked. Later
    measurements have one try each and use none of the patience of others.
    """
    machine, clock = quiet(30.0)
    assert machine.take(clock.measuring(0.5, 0.1, 0.4, 0.3)) == Taken(
        "number 1", disturbed=True, thrown_away=3
    )
    assert machine.take(clock.measuring(0.5)) == Taken("number 0", disturbed=True, thrown_away=0)
    assert machine.take(clock.measuring(0.02)) == Taken("number 0", disturbed=False, thrown_away=0)
    assert (machine.patience_s, machine.thrown_away, machine.put_up_with) == (0.0, 3, 2)


def test_each_row_has_its_share_of_the_patience_and_the_rest_of_others() -> None:
    """A disturbed row cannot use up the patience of later rows. It can use what earlier
    rows left.
    """
    machine, clock = quiet(90.0)
    left_s = []
    for rows, shares in ((3, (0.5,)), (2, (0.5, 0.0)), (1, (0.5,))):
        machine.share(rows)
        for _ in range(2):
            machine.take(clock.measuring(*shares))
        left_s.append(machine.patience_s)
    assert left_s == [60.0, 40.0, 0.0]
