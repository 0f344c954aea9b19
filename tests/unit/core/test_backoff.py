"""The back-off: a dead child is replaced at once, more and more slowly if its
successors die early, and for ever.
"""

from itertools import pairwise

import pytest

from tests.support.machine import Machine, running, wants
from unpd.core import events as ev
from unpd.core.backoff import after_death, after_failure
from unpd.core.model import Child, Slot, Throttle
from unpd.names import ChildKind, ChildPhase

NOW = 1000.0
SLOT = Slot(ChildKind.WORKER, "default", 0)


def child(ready_for_s: float | None) -> Child:
    """A child that has been ready for this long, or never was (None)."""
    ready_at = None if ready_for_s is None else NOW - ready_for_s
    return Child(1, SLOT, 1, ChildPhase.READY, NOW - 3600.0, ready_at=ready_at)


@pytest.mark.parametrize(
    ("prior", "ready_for_s", "after"),
    [
        (None, None, Throttle(1, NOW + 0.1)),
        (None, 0.0, Throttle(1, NOW + 0.1)),
        (None, 0.999, Throttle(1, NOW + 0.1)),
        (None, 1.0, None),
        (None, 3600.0, None),
        (Throttle(3, 0.0), None, Throttle(4, NOW + 0.8)),
        (Throttle(3, 0.0), 0.5, Throttle(4, NOW + 0.8)),
        (Throttle(3, 0.0), 1.0, Throttle(3, NOW)),
        (Throttle(3, 0.0), 9.999, Throttle(3, NOW)),
        (Throttle(3, 0.0), 10.0, None),
    ],
)
def test_after_a_death(
    prior: Throttle | None, ready_for_s: float | None, after: Throttle | None
) -> None:
    """A death counts as early if the child was never ready, or ready for less than a
    second. After one second the slot is filled at once; after ten its back-off ends.
    """
    assert after_death(prior, child(ready_for_s), NOW) == after


@pytest.mark.parametrize(
    ("failures", "delay_s"),
    [
        (0, 0.1),
        (1, 0.2),
        (2, 0.4),
        (3, 0.8),
        (7, 12.8),
        (8, 25.6),
        (9, 30.0),
        (10, 30.0),
        (1100, 30.0),
        (10**6, 30.0),
    ],
)
def test_delays_double(failures: int, delay_s: float) -> None:
    """The delay doubles from 0.1 s to 30 s and stays there, even after a night of
    failures.
    """
    prior = Throttle(failures, 0.0) if failures else None
    assert after_failure(prior, NOW) == Throttle(failures + 1, NOW + delay_s)


def test_a_dead_worker_is_replaced_at_once() -> None:
    """A worker that served for a while and dies has its successor in the same step, in
    the same slot and generation, with a new birth number.
    """
    machine = running(wants(2))
    machine.wait(60)
    done = machine.exit(2, ended="killed by SIGKILL")
    (successor,) = done.born
    assert (successor.slot.index, successor.generation, successor.birth) == (1, 1, 3)
    assert done.notes("worker.died") == [
        {
            "pool": "default",
            "index": 1,
            "birth": 2,
            "generation": 1,
            "ended": "killed by SIGKILL",
            "respawn_in_s": 0.0,
        }
    ]


def delays_of_deaths(machine: Machine, count: int) -> list[float]:
    """Let the newest child die early again and again; return the delays."""
    delays = []
    for _ in range(count):
        done = machine.exit(max(machine.state.children), ended="exit code 1")
        assert not done.born
        died_at, due_in = machine.clock.now, machine.due_in
        assert due_in is not None
        assert not machine.wait(due_in * 0.999).born, "too early"
        assert len(machine.wait(due_in * 0.002).born) == 1
        delays.append(max(child.born_at for child in machine.state.children.values()) - died_at)
    return delays


def test_a_crash_loop_is_slowed_down_and_never_given_up() -> None:
    """A worker that dies before it is ready is respawned after 0.1 s, 0.2 s and so on,
    then every 30 s for ever. The other slot is not affected.
    """
    machine = running(wants(2))
    machine.wait(60)
    machine.exit(2)
    delays = delays_of_deaths(machine, 200)
    assert delays[:9] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6])
    assert delays[9:] == pytest.approx([30.0] * 191)
    assert machine.child(1).phase is ChildPhase.READY


def test_a_worker_that_dies_within_a_second_of_readiness_is_slowed_down() -> None:
    """A death within one second of readiness counts as early."""
    machine = running(wants(1))
    machine.wait(0.9)
    assert not machine.exit(1).born
    assert machine.due_in == pytest.approx(0.1)


def test_ten_seconds_of_life_clear_the_record() -> None:
    """Ten seconds of readiness end the back-off: the next early death costs 0.1 s
    again.
    """
    machine = running(wants(1))
    delays_of_deaths(machine, 6)
    newest = max(machine.state.children)
    machine.ready(newest)
    machine.wait(10.0)
    (successor,) = machine.exit(newest).born
    assert not machine.exit(successor.birth).born
    assert machine.due_in == pytest.approx(0.1)


def test_a_few_seconds_of_life_do_not_clear_the_record() -> None:
    """After one to ten seconds of readiness the successor comes at once, but the next
    early death continues the earlier delays.
    """
    machine = running(wants(1))
    delays_of_deaths(machine, 3)
    newest = max(machine.state.children)
    machine.ready(newest)
    machine.wait(5.0)
    (successor,) = machine.exit(newest).born
    machine.exit(successor.birth)
    assert machine.due_in == pytest.approx(0.8)


def test_failed_forks_are_slowed_down_too() -> None:
    """A refused fork is tried again after the same delays. Each failure is one log line
    with its reason and the delay.
    """
    machine = running(wants(1))
    machine.wait(60)
    machine.exit(1)
    delays = []
    for birth in range(2, 7):
        done = machine.take(ev.ForkFailed(birth, "Cannot allocate memory"))
        delays.append(machine.due_in)
        (note,) = done.notes("fork.failed")
        assert note["reason"] == "Cannot allocate memory"
        assert note["respawn_in_s"] == round(0.1 * 2 ** (birth - 2), 3)
        assert len(machine.wait(30.0).born) == 1
    assert all(
        earlier is not None and later == pytest.approx(2 * earlier)
        for earlier, later in pairwise(delays)
    )


def test_an_exporter_in_a_crash_loop_does_not_touch_the_workers() -> None:
    """Early deaths of the exporter delay only the exporter."""
    machine = running(wants(2, exporter=True))
    machine.wait(60)
    machine.exit(1)
    delays_of_deaths(machine, 5)
    assert machine.births(ChildPhase.READY) == [2, 3]
    assert not machine.exit(max(machine.state.children)).notes("worker.died")


def test_all_dead_at_once_are_all_replaced() -> None:
    """Two hundred deaths at one moment cause two hundred births, one batch a step,
    without a pause between the batches.
    """
    machine = running(wants(200))
    machine.wait(60)
    machine.exit(*range(1, 201))
    machine.wait(0.0)
    assert sorted(child.slot.index for child in machine.state.children.values()) == list(range(200))
    assert machine.births() == list(range(201, 401))
