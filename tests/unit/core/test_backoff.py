"""Respawning: a dead child is replaced at once, a child that keeps dying early after
growing delays, and no slot is ever given up.
"""

import pytest

from tests.support.machine import Machine, running, wants
from unpd.core import events as ev
from unpd.core.backoff import after_death, after_failure
from unpd.core.model import Child, Slot, Throttle
from unpd.names import ChildKind, ChildPhase

NOW = 1000.0
SLOT = Slot(ChildKind.WORKER, "default", 0)


def child(ready_for_s: float | None) -> Child:
    """Build a child that has been ready for ``ready_for_s`` seconds, or was never
    ready.
    """
    return Child(
        1,
        SLOT,
        1,
        ChildPhase.READY,
        NOW - 3600.0,
        ready_at=None if ready_for_s is None else NOW - ready_for_s,
    )


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
    """A child that was never ready, or ready for less than a second, counts as a
    failure. After a second its slot is filled at once; after ten seconds its record is
    cleared.
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
    """The delay doubles from 0.1 s to 30 s and stays there, even after a whole night of
    failures.
    """
    prior = Throttle(failures, 0.0) if failures else None
    assert after_failure(prior, NOW) == Throttle(failures + 1, NOW + delay_s)


def test_a_dead_worker_is_replaced_at_once() -> None:
    """A worker that served for a while and dies is replaced in the same step, in the
    same slot and generation, with a new birth.
    """
    machine = running(wants(2))
    machine.wait(60)
    done = machine.exit(2, ended="killed by SIGKILL")
    (successor,) = done.spawned
    assert (successor.slot.index, successor.generation, successor.birth) == (1, 1, 3)
    assert done.log_lines("worker.died") == [
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
    """Let the newest child die early ``count`` times. Return the delays until the next
    spawn.
    """
    delays = []
    for _ in range(count):
        done = machine.exit(max(machine.state.children), ended="exit code 1")
        assert not done.spawned
        died_at, due_in = machine.clock.now, machine.due_in_s
        assert due_in is not None
        assert not machine.wait(due_in * 0.999).spawned, "too early"
        assert len(machine.wait(due_in * 0.002).spawned) == 1
        delays.append(max(child.born_at for child in machine.state.children.values()) - died_at)
    return delays


def test_a_crash_loop_is_slowed_down_and_never_given_up() -> None:
    """A worker that dies before it is ready comes back after 0.1 s, 0.2 s and so on,
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
    """A death within a second of readiness counts as early."""
    machine = running(wants(1))
    machine.wait(0.9)
    assert not machine.exit(1).spawned
    assert machine.due_in_s == pytest.approx(0.1)


def test_ten_seconds_of_life_clear_the_record() -> None:
    """Ten seconds of readiness clear a slot's record. The next early death costs 0.1 s
    again.
    """
    machine = running(wants(1))
    delays_of_deaths(machine, 6)
    newest = max(machine.state.children)
    machine.ready(newest)
    machine.wait(10.0)
    (successor,) = machine.exit(newest).spawned
    assert not machine.exit(successor.birth).spawned
    assert machine.due_in_s == pytest.approx(0.1)


def test_a_few_seconds_of_life_do_not_clear_the_record() -> None:
    """After a life between one and ten seconds the successor starts at once, but the
    next early death continues the delays.
    """
    machine = running(wants(1))
    delays_of_deaths(machine, 3)
    newest = max(machine.state.children)
    machine.ready(newest)
    machine.wait(5.0)
    (successor,) = machine.exit(newest).spawned
    machine.exit(successor.birth)
    assert machine.due_in_s == pytest.approx(0.8)


def test_failed_forks_are_slowed_down_too() -> None:
    """A fork that the kernel refuses is retried after the same delays. Each failure is
    one log line with its reason and its consequence.
    """
    machine = running(wants(1))
    machine.wait(60)
    machine.exit(1)
    delays = []
    for birth in range(2, 7):
        done = machine.take(ev.ForkFailed(birth, "Cannot allocate memory"))
        delays.append(machine.due_in_s)
        (note,) = done.log_lines("fork.failed")
        assert (note["reason"], note["respawn_in_s"]) == (
            "Cannot allocate memory",
            round(0.1 * 2 ** (birth - 2), 3),
        )
        assert len(machine.wait(30.0).spawned) == 1
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])


def test_an_exporter_in_a_crash_loop_does_not_touch_the_workers() -> None:
    """The exporter's early deaths delay only the exporter."""
    machine = running(wants(2, exporter=True))
    machine.wait(60)
    machine.exit(1)
    delays_of_deaths(machine, 5)
    assert machine.births(ChildPhase.READY) == [2, 3]
    assert not machine.exit(max(machine.state.children)).log_lines("worker.died")


def test_two_hundred_deaths_at_once_are_all_replaced() -> None:
    """After two hundred deaths in one step two hundred children are spawned, one batch
    per step, without a pause.
    """
    machine = running(wants(200))
    machine.wait(60)
    machine.exit(*range(1, 201))
    machine.wait(0.0)
    assert sorted(child.slot.index for child in machine.state.children.values()) == list(range(200))
    assert machine.births() == list(range(201, 401))
