"""Process 1 of a container: orphans come to it, and the kernel keeps signals from it
that it does not handle.
"""

import os
import subprocess
import sys
from signal import SIGTERM, SIGUSR2, Signals

import pytest

from tests.support import faults, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.waiting import until

AS_PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

pytestmark = [
    faults.requires_root,
    faults.requires_tool("unshare"),
    faults.requires_tool("nsenter"),
]


def beside(unpd: Unpd, script: str) -> None:
    """Run a shell script in the daemon's pid namespace; its parent is outside of it."""
    subprocess.run(["nsenter", "--target", str(unpd.pid), "--pid", "sh", "-c", script], check=True)


def test_foreign_children_are_reaped_and_mean_nothing(launch: Launch) -> None:
    """Orphans that come to the daemon as process 1 are reaped and counted, and do
    nothing else, whatever they end with: not even what a worker's code would mean.
    """
    unpd = launch(prefix=AS_PID_1)
    assert procs.status(unpd.pid)["NSpid"].split()[1:] == ["1"]
    spawns = unpd.total("unpd_worker_spawns_total")
    workers = unpd.workers()
    ends = ("exit 3", "exit 4", "exit 0", "kill -9 $$", "exit 78")
    beside(unpd, " ".join(f"sh -c 'sleep 0.1; {end}' &" for end in ends))
    unpd.metric_becomes(len(ends), "unpd_unknown_children_reaped_total")
    assert unpd.workers() == workers
    assert unpd.total("unpd_worker_spawns_total") == spawns
    assert unpd.total("unpd_children_reaped_total") == 0
    assert unpd.total("unpd_zombies") == 0
    assert not unpd.log_events("master.stopping")
    unpd.signal(SIGTERM)
    assert unpd.wait_exit() == 0


@pytest.mark.parametrize("number", [Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT])
def test_process_1_stops(launch: Launch, number: Signals) -> None:
    """Process 1 takes every signal that ends it."""
    unpd = launch(prefix=AS_PID_1)
    unpd.signal(number)
    assert unpd.wait_exit() == 0


def test_process_1_stops_before_its_handlers_stand(launch: Launch) -> None:
    """A TERM to process 1 that is still starting, for which it has no handler yet, is
    kept and taken.
    """
    unpd = launch(prefix=AS_PID_1, ready=False)

    def holding_back() -> list[int]:
        """Unpd blocks all signals; unshare, before it becomes unpd, only those that it
        passes on.
        """
        sets = {pid: procs.signals(pid) for pid in below(unpd)}
        return [
            pid
            for pid, held in sets.items()
            if {SIGTERM, SIGUSR2} <= held.blocked and SIGTERM not in held.caught
        ]

    process_1 = until(holding_back, 10.0, "process 1 with signals blocked")[0]
    os.kill(process_1, SIGTERM)
    assert unpd.wait_exit() == 0
    assert unpd.log_events("master.stopping")


def below(unpd: Unpd) -> list[int]:
    """What unshare has forked so far."""
    return [child.pid for child in procs.descendants(unpd.process.pid) if child.title]


def test_stop_from_another_pid_namespace(launch: Launch) -> None:
    """A command that cannot see the daemon's pid (the kernel says 0) asks it to stop
    through the control socket, and signals nobody.
    """
    unpd = launch()
    command = [*AS_PID_1, sys.executable, "-m", "unpd", "stop", "--control", str(unpd.control)]
    answer = subprocess.run(
        command,
        capture_output=True,
        check=False,
        timeout=20,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert (answer.returncode, answer.stdout) == (0, b"told to stop\n"), answer
    assert unpd.wait_exit() == 0
    assert unpd.log_events("control.asked", verb="stop")
