"""What the log lines of the core say: times to the millisecond, and reasons that name
what was missing, no more.
"""

from tests.support.machine import booted, proving, running, wants
from unpd.core import events as ev
from unpd.names import MasterPhase


def test_a_start_that_failed_without_trouble_names_only_the_pools() -> None:
    """The workers of two pools were ready and ended in good order; their successors are
    not late yet when the time of the start is over.
    """
    machine = booted(wants({"a": 1, "b": 1, "c": 1}, start_timeout_s=10.0))
    machine.ready(1, 2)
    machine.wait(5.0)
    machine.exit(1, 2)
    machine.ready(3)
    done = machine.wait(5.0)
    reason = "no worker of pool a, no worker of pool b was ready within 10 s"
    assert done.log_lines("master.start_failed") == [{"reason": reason}]
    assert machine.state.phase is MasterPhase.STOPPING


def test_a_late_child_has_its_time_to_the_millisecond() -> None:
    """Its line says for how long it has been starting."""
    machine = running(wants(1, start_timeout_s=3.14159))
    machine.wait(60)
    machine.exit(1)
    (line,) = machine.wait(4.0).log_lines("worker.start_timed_out")
    assert line["after_s"] == 3.142


def test_a_hung_child_has_its_time_to_the_millisecond() -> None:
    """Its line says how much of its drain is left."""
    machine = proving(wants(1), wants(1, reload_grace_s=32.23456))
    machine.ready(2)
    for _ in range(30):
        machine.wait(1.0)
        machine.beat(2)
    machine.wait(1.0)
    (line,) = machine.take(ev.BeatsRead({1: 0.0, 2: machine.clock.now})).log_lines("worker.hung")
    assert (line["birth"], line["kill_in_s"]) == (1, 1.235)
