"""A log that loses lines, and a log file that is not where it was: both are faults
until they are mended.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from unpd.board import memory
from unpd.board.layout import SANE_COUNT, Row
from unpd.board.memory import Scoreboard
from unpd.logs import Log
from unpd.master.log_watch import MOVED_S, QUIET_S, LogWatch
from unpd.master.runtime import Runtime
from unpd.names import Fault
from unpd.sinks import Sink, open_file


class Daemon:
    """As much of a runtime as the watch uses. The log takes no line while ``full``."""

    def __init__(self, path: Path, board: Scoreboard) -> None:
        self.path = path
        self.faults: dict[tuple[Fault, str], str] = {}
        self.full = False
        self.board = board
        self.board.rows_given = 1
        self.config = SimpleNamespace(file=str(path))
        self.sink = Sink(open_file(str(path)), self.write)
        self.log = Log(self.sink, "info", "text")
        self.watch = LogWatch(cast(Runtime, self))
        self.deployment = SimpleNamespace(config=SimpleNamespace(log=self.config))

    def write(self, fd: int, line: bytes) -> int:
        """Write a line, or refuse it as a full disk does."""
        if self.full:
            raise OSError(28, "No space left on device")
        return os.write(fd, line)

    @property
    def reasons(self) -> list[Fault]:
        """The faults that stand."""
        return [fault for fault, _ in self.faults]

    @property
    def written(self) -> str:
        """The log file as it is now."""
        return self.path.read_text()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that logs to a file."""
    fd = memory.create()
    found = Daemon(tmp_path / "log", Scoreboard(fd))
    os.close(fd)
    yield found
    os.close(found.sink.fd)


def test_a_log_that_loses_lines_is_a_fault_until_it_takes_one(daemon: Daemon) -> None:
    """The fault stands for as long as lines are lost. After some quiet seconds the log
    is tried: the fault goes when it takes the line about the loss.
    """
    daemon.watch.look(0.0)
    assert not daemon.faults
    daemon.full = True
    daemon.log.event("log.kept", reason="")
    daemon.watch.look(1.0)
    assert list(daemon.faults.values()) == ["the log loses lines, 1 so far: it is full, or gone"]
    daemon.watch.look(1.0 + QUIET_S)  # the line about it is lost too
    daemon.watch.look(2.0 + QUIET_S)
    assert daemon.reasons == [Fault.LOG_LOSING]
    daemon.full = False
    daemon.watch.look(2.1 + QUIET_S)
    assert daemon.reasons == [Fault.LOG_LOSING]
    daemon.watch.look(2.0 + 2 * QUIET_S)
    assert not daemon.faults
    assert "log.lines_lost lines=2" in daemon.written
    daemon.watch.look(3.0 + 3 * QUIET_S)
    assert daemon.written.count("lines_lost") == 1


def test_a_log_that_goes_on_losing_lines_says_so_in_between(daemon: Daemon) -> None:
    """A reader that is too slow loses some lines and takes others: each of its gaps is
    counted in a line, though it is never quiet.
    """
    lost = 0
    for second in range(1, 3 * int(QUIET_S) + 2):
        daemon.board.row(0)[Row.LOG_DROPPED] = lost = lost + 2
        daemon.watch.look(float(second))
    assert daemon.reasons == [Fault.LOG_LOSING]
    counts = [int(line.rpartition("=")[2]) for line in daemon.written.splitlines()]
    assert len(counts) == 3
    assert sum(counts) == lost
    daemon.watch.look(second + QUIET_S)
    assert not daemon.faults
    assert daemon.written.count("lines_lost") == 3


def test_the_last_losses_are_logged_at_the_end(daemon: Daemon) -> None:
    """A daemon that stops soon after it lost lines leaves no gap without a trace."""
    daemon.watch.finish()
    assert daemon.written == ""
    daemon.board.row(0)[Row.LOG_DROPPED] = 3
    daemon.watch.look(1.0)
    daemon.board.row(0)[Row.LOG_DROPPED] = 5
    daemon.watch.finish()
    assert "log.lines_lost lines=5" in daemon.written


def test_lines_that_a_child_loses_count_too(daemon: Daemon) -> None:
    """The count in a child's row shows that the child loses lines. A forged number is
    no count.
    """
    daemon.board.row(0)[Row.LOG_DROPPED] = SANE_COUNT
    daemon.watch.look(0.0)
    assert not daemon.faults
    daemon.board.row(0)[Row.LOG_DROPPED] = 3
    daemon.watch.look(1.0)
    assert daemon.reasons == [Fault.LOG_LOSING]


def test_lines_lost_before_the_start_are_no_fault(daemon: Daemon) -> None:
    """The counts go on where the last daemon left them."""
    daemon.sink.dropped = 7
    LogWatch(cast(Runtime, daemon)).look(0.0)
    assert not daemon.faults


@pytest.mark.parametrize(
    ("replaced", "reason"), [(False, "it was removed"), (True, "another file took its place")]
)
def test_a_file_that_is_not_there_is_a_fault(daemon: Daemon, replaced: bool, reason: str) -> None:
    """A removed or replaced log file is named after some seconds, with what to do, and
    logged once. It is no fault once the daemon writes to the file at its path.
    """
    old = daemon.path.rename(daemon.path.with_suffix(".1"))
    if replaced:
        daemon.path.touch()
    for at in (0.0, 1.0, MOVED_S - 0.1):
        daemon.watch.look(at)
    assert not daemon.faults
    daemon.watch.look(MOVED_S)
    daemon.watch.look(MOVED_S + 1)
    assert list(daemon.faults.values()) == [
        f"no line reaches the log file {daemon.path}: {reason}; SIGUSR1 opens it anew"
    ]
    assert old.read_text().count(f'log.file_lost file={daemon.path} reason="{reason}"') == 1
    daemon.sink.switch_to(open_file(str(daemon.path)))
    daemon.watch.look(MOVED_S + 2)
    assert not daemon.faults


def test_a_rotation_is_no_fault(daemon: Daemon) -> None:
    """The file may be away for a moment, each time anew."""
    for at in (0.0, MOVED_S, 2 * MOVED_S):
        daemon.path.rename(daemon.path.with_suffix(".1"))
        daemon.watch.look(at)
        daemon.sink.switch_to(open_file(str(daemon.path)))
        daemon.watch.look(at + 0.1)
    assert not daemon.faults


def test_a_removed_file_of_standard_error_is_a_fault(daemon: Daemon) -> None:
    """Without a log file, standard error may be a file that was removed. Only a restart
    helps.
    """
    daemon.config.file = ""
    daemon.watch.look(0.0)
    daemon.path.rename(daemon.path.with_suffix(".1"))
    daemon.watch.look(MOVED_S)
    daemon.watch.look(2 * MOVED_S)
    assert not daemon.faults
    daemon.path.with_suffix(".1").unlink()
    daemon.watch.look(3 * MOVED_S)
    daemon.watch.look(4 * MOVED_S)
    assert list(daemon.faults.values()) == [
        "no line reaches the file of standard error: it was removed; restart unpd"
    ]
