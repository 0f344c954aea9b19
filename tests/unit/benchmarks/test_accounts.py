"""The processor time that other programs used on our two processors, from two snapshots
of all processes.
"""

import os

import pytest

from tests.benchmarks.accounts import SOFTIRQS, TICKS_PER_S, Key, Process, Snapshot
from tests.benchmarks.machine import Cpus

CPUS = Cpus(server=0, load=1)
SERVER = 10


def process(
    parent: int = 1, *, own: int = 0, reaped: int = 0, cpu: int = 0, name: str = "some"
) -> Process:
    """Build a process that has used these ticks."""
    return Process(name, parent, own, 0, reaped, 0, cpu)


def look(**processes: Process) -> Snapshot:
    """Build a snapshot of these processes. Each is named p and its pid."""
    return Snapshot(CPUS, {_key(name): found for name, found in processes.items()})


def _key(name: str) -> Key:
    return int(name.removeprefix("p")), 1


def foreign_ticks(before: Snapshot, after: Snapshot) -> float:
    """Return the ticks that other programs used."""
    return after.foreign_s(before, [SERVER]) * TICKS_PER_S


def test_only_the_time_of_other_programs_counts() -> None:
    """The server, its descendants and the harness are not foreign."""
    us = {f"p{os.getpid()}": process(own=50), "p10": process(own=5), "p11": process(10, own=5)}
    later = {f"p{os.getpid()}": process(own=90), "p10": process(own=50), "p11": process(10, own=60)}
    assert foreign_ticks(
        look(**us, p30=process(own=3)), look(**later, p30=process(own=7))
    ) == pytest.approx(4)


def test_a_new_process_counts_whole() -> None:
    """A process that began between the snapshots counts with all its time."""
    assert foreign_ticks(look(), look(p30=process(own=7))) == pytest.approx(7)


def test_other_processors_do_not_count() -> None:
    """A process on a processor other than the server's and the load's does not
    count.
    """
    assert foreign_ticks(look(p30=process(cpu=2)), look(p30=process(own=9, cpu=2))) == 0


def test_stolen_time_counts() -> None:
    """Time that the hypervisor took counts."""
    assert foreign_ticks(Snapshot(CPUS, {}, 1.0), Snapshot(CPUS, {}, 1.25)) == pytest.approx(
        0.25 * TICKS_PER_S
    )


def test_a_child_that_was_reaped_counts_once() -> None:
    """The earlier time of a dead child is not counted again when its parent reaps
    it.
    """
    before = look(p20=process(own=2, reaped=1), p21=process(20, own=40))
    assert foreign_ticks(before, look(p20=process(own=3, reaped=44))) == pytest.approx(1 + 3)


def test_a_parent_that_ignores_sigchld_hides_nothing() -> None:
    """With SIGCHLD ignored, no process gets the times of a dead child. They are
    subtracted neither from the parent's time nor from a foreign process's.
    """
    before = look(p20=process(own=2), p21=process(20, own=4000), p30=process(own=5))
    assert foreign_ticks(before, look(p20=process(own=3), p30=process(own=25))) == pytest.approx(
        1 + 20
    )


def test_the_kernels_network_thread_is_not_foreign() -> None:
    """The kernel's network thread works for the server or the generator, because they
    make all the network traffic.
    """
    before = look(p14=process(2, name=f"{SOFTIRQS}0"), p15=process(2, name=f"{SOFTIRQS}1", cpu=1))
    assert (
        foreign_ticks(
            before,
            look(
                p14=process(2, own=9, name=f"{SOFTIRQS}0"),
                p15=process(2, own=9, name=f"{SOFTIRQS}1", cpu=1),
            ),
        )
        == 0
    )
