"""unpd as process 1 of a container: it adopts orphans, and the kernel drops signals
that it does not handle.
"""

import os
import subprocess
import sys
from pathlib import Path
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
    """Run a shell script in the daemon's pid namespace. The script's parent is
    outside.
    """
    subprocess.run(["nsenter", "--target", str(unpd.pid), "--pid", "sh", "-c", script], check=True)


def test_adopted_children_are_reaped_and_change_nothing(launch: Launch) -> None:
    """Orphans that the daemon adopts as process 1 are reaped and counted. They have no
    other effect, even with an exit code that a worker could have.
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
    unpd.metric_becomes(0, "unpd_zombies")
    assert not unpd.log_events("master.stopping")
    unpd.signal(SIGTERM)
    assert unpd.wait_exit() == 0


def test_an_orphan_of_an_administrator_is_obeyed(launch: Launch, tmp_path: Path) -> None:
    """Process 1 adopts a command whose shell has ended. It obeys that, although its
    workers have its own user.
    """
    unpd = launch('[daemon]\nuser = "root"\n', prefix=AS_PID_1)
    answer = tmp_path / "answer"
    answer.touch()
    command = f"sleep 0.5; exec {sys.executable} -m unpd reload --control {unpd.control}"
    beside(unpd, f"sh -c '{command}' > {answer} 2>&1 &")
    until(lambda: answer.read_text().endswith("\n"), 20.0, "an answer")
    assert "reloaded: generation 2\n" in answer.read_text()


@pytest.mark.parametrize("number", [Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT])
def test_process_1_stops_by_signal(launch: Launch, number: Signals) -> None:
    """Process 1 stops on TERM, INT and QUIT."""
    unpd = launch(prefix=AS_PID_1)
    unpd.signal(number)
    assert unpd.wait_exit() == 0


def test_process_1_keeps_a_signal_that_comes_before_its_handlers(launch: Launch) -> None:
    """A TERM that reaches process 1 before it has a handler is kept and stops it."""
    unpd = launch(prefix=AS_PID_1, ready=False)

    def holding_back() -> list[int]:
        """Return the processes that block all signals. unshare, before it becomes unpd,
        blocks only those that it forwards.
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
    """Return the pids of what unshare has forked so far."""
    return [child.pid for child in procs.descendants(unpd.process.pid) if child.title]


def test_stop_from_another_pid_namespace(launch: Launch) -> None:
    """A command that cannot see the daemon's pid (the kernel says 0) stops it through
    the control socket and signals no process.
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
