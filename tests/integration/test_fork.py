"""The fork of a child, as the master calls it: what happens when it goes wrong after
the kernel has made the process.
"""

import subprocess
import sys

from tests.support import ROOT

PRESET = """
import os, signal
from unpd.board import memory
from unpd.board.memory import Scoreboard
from unpd.core.model import Child, Slot
from unpd.errors import UnpdError
from unpd.logs import Log
from unpd.master.children.fork import ForkPlan, fork
from unpd.names import ChildKind, ChildPhase
from unpd.sinks import standard_error

def plan(live):
    log = Log(standard_error(), "info", "text")
    return ForkPlan(
        board=Scoreboard(memory.create()),
        row=0,
        identity=lambda: None,
        log=log,
        kept_fds=(),
        live=live,
    )

child = Child(1, Slot(ChildKind.WORKER, "default", 0), 1, ChildPhase.STARTING, born_at=0.0)
forked = []
"""


def python(script: str) -> tuple[str, str]:
    """Run a script in an interpreter of its own; return its standard output and
    standard error.
    """
    ended = subprocess.run(
        [sys.executable, "-c", PRESET + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ended.stdout.strip(), ended.stderr


def test_a_child_that_cannot_be_registered_does_not_live_on() -> None:
    """An OSError of the registration is no refused fork: the child, which nobody would
    know, is killed, and the master fails.
    """
    script = """
def register(new):
    forked.append(new)
    raise OSError(24, "Too many open files")

try:
    fork(child, plan(lambda newborn: signal.pause()), register)
except AssertionError as error:
    print(error)
print(os.WTERMSIG(os.waitpid(forked[0].pid, 0)[1]) == signal.SIGKILL)
"""
    said, _ = python(script)
    assert said == ("a forked child could not be registered: [Errno 24] Too many open files\nTrue")


def test_a_failure_after_the_report_is_logged() -> None:
    """The master waits for no other report of a child that was ready. The reason of its
    end is in the log, with a trace.
    """
    script = """
def live(newborn):
    newborn.report_ready()
    raise UnpdError("the disk is on fire")

fork(child, plan(live), forked.append)
print(os.waitstatus_to_exitcode(os.waitpid(forked[0].pid, 0)[1]))
print(forked[0].channel.receive())
"""
    said, logged = python(script)
    assert said == "1\n[{'report': 'ready'}]"
    assert " error   worker.crashed " in logged
    assert "the disk is on fire" in logged
    assert "trace=" in logged


def test_a_failure_before_the_report_is_the_report() -> None:
    """The master logs the reason itself, so that the child does not."""
    script = """
def live(newborn):
    raise UnpdError("no such port")

fork(child, plan(live), forked.append)
print(os.waitstatus_to_exitcode(os.waitpid(forked[0].pid, 0)[1]))
print(forked[0].channel.receive()[0]["reason"])
"""
    said, logged = python(script)
    assert said == "1\nno such port"
    assert not logged


def test_a_child_reads_few_rows_whatever_stands_on_the_board() -> None:
    """A forged number of used rows on the board makes no child read all of them: it
    keeps a bound of its own from its birth.
    """
    script = """
from unpd.board.layout import Master

def live(newborn):
    newborn.board.words[Master.ROWS_USED] = 1 << 62
    newborn.channel.send({"rows": newborn.board.rows_shown()})

fork(child, plan(live), forked.append)
os.waitpid(forked[0].pid, 0)
print(forked[0].channel.receive())
"""
    assert python(script) == ("[{'rows': 128}]", "")
