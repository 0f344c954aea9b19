"""The shell of a master without children: how often it wakes at the end of a stop, and
what its sweep does.
"""

import json
import os
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.runtimes import running
from unpd import sinks
from unpd.access.network import Network
from unpd.board.layout import Session
from unpd.control.protocol import Request
from unpd.control.server import PendingRequest
from unpd.core import events as ev
from unpd.core.model import Child, Slot
from unpd.kernel.credentials import Credentials
from unpd.kernel.signals import Reaped, Reaper
from unpd.logs import Log
from unpd.loop import Loop
from unpd.master import orders, shell
from unpd.master.children.lanes import Lanes
from unpd.master.shell import KILL_S, Shell
from unpd.master.systemd.offers import Offers
from unpd.names import ChildKind, ChildPhase, Fault, MasterPhase

ROW = 3
CONFIG = """
[daemon]
grace_s = 0.5

[metrics]
listen = false

[services.echo]
listen = ["unix://{path}"]
"""
NO_CHILD = 1
"""The pid of a process that is not ours."""


class CountedLoop(Loop):
    """A loop that counts its turns."""

    turns = 0

    def turn(self, timeout_s: float | None) -> None:
        """Wait as usual."""
        self.turns += 1
        super().turn(timeout_s)


class ReapingNothing(Reaper):
    """A reaper that leaves the children of the test alone."""

    def sweep(self) -> None:
        """Do nothing."""


class NoSignals:
    """No signal comes. ``wakeup_fd`` is never readable."""

    def __init__(self, wakeup_fd: int) -> None:
        self.wakeup_fd = wakeup_fd

    def take(self) -> None:
        """Do nothing."""

    def sweep(self) -> None:
        """Do nothing."""


class CountedLanes(Lanes):
    """Lanes that remember the signals that they sent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sent: list[signal.Signals] = []

    def end_unkept(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """Remember the signal."""
        self.sent.append(signum)
        super().end_unkept(signum)


@pytest.mark.slow
def test_a_master_that_has_killed_its_last_sessions_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kills them once, and waits for them without a turn that does nothing: one
    cannot die at once, or its pid is forged.
    """
    monkeypatch.setattr(shell, "setproctitle", lambda _: None)  # this is the test's process
    log = Log(sinks.standard_error(), "error", "text")
    silent, _ = socks = socket.socketpair()
    with running(CONFIG.format(path=tmp_path / "echo"), log) as runtime, socks[0], socks[1]:
        runtime.loop, runtime.reaper = CountedLoop(), ReapingNothing()
        runtime.lanes = lanes = CountedLanes(
            runtime.board, runtime.sources, lambda: {"echo": 0}, log
        )
        slot = Slot(ChildKind.DISPATCHER, "default", 0)
        lanes.give(Child(1, slot, 1, ChildPhase.READY, 0.0), ROW, sessions=1)
        lane = lanes.held_by(1)
        assert lane is not None
        lane.table.begin(0, 0, time.monotonic_ns(), b"")
        lane.table.entry(0)[Session.PID] = NO_CHILD
        lanes.take_back(lane, [Reaped(NO_CHILD, 0, 0)])
        master = Shell(runtime, cast(Any, NoSignals(silent.fileno())), Offers())
        master._take(ev.StopAsked(quick=True, by="a test"))  # noqa: SLF001 - so it forks nothing
        began = time.monotonic()
        master.run()
        assert time.monotonic() - began > KILL_S
        assert lanes.sent.count(signal.SIGKILL) == 1
        assert runtime.loop.turns < 10


def test_no_sum_about_a_sensor_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep writes it, though nobody connects any more, and so does the end."""
    monkeypatch.setattr(shell, "setproctitle", lambda _: None)
    file, network = tmp_path / "unpd.log", Network.parse("192.0.2.7")
    log = Log(sinks.Sink(sinks.open_file(str(file))), "info", "json")
    silent, _ = socks = socket.socketpair()

    def counted() -> int:
        rows = map(json.loads, file.read_text().splitlines())
        return sum(row["count"] for row in rows if row["event"] == "denial.sensed")

    with running(CONFIG.format(path=tmp_path / "echo"), log) as runtime, socks[0], socks[1]:
        runtime.reaper = ReapingNothing()
        master = Shell(runtime, cast(Any, NoSignals(silent.fileno())), Offers())
        for _ in range(3):
            runtime.sensor_lines.take("trap", network)
        assert counted() == 1
        master._sweep()  # noqa: SLF001 - so it forks nothing
        assert counted() == 3
        runtime.sensor_lines.take("trap", network)
        master._take(ev.StopAsked(quick=True, by="a test"))  # noqa: SLF001
        master.run()
        assert counted() == 4
    os.close(log.sink.fd)


def test_a_sweep_tells_of_faults_and_of_peers_that_do_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault has a line when it begins and when it is over, and a peer of the control
    socket that was cut off has one.
    """
    monkeypatch.setattr(shell, "setproctitle", lambda _: None)
    file, fault = tmp_path / "unpd.log", (Fault.DENIALS_NOT_SAVED, "a file")
    log = Log(sinks.Sink(sinks.open_file(str(file))), "info", "json")
    silent, _ = socks = socket.socketpair()
    cut_off = [Credentials(41, 42, 43)]
    control = SimpleNamespace(
        expire=lambda: [cut_off.pop()] if cut_off else [],
        mend=lambda: None,
        path="c.sock",
        shut_out="",
    )

    with running(CONFIG.format(path=tmp_path / "echo"), log) as runtime, socks[0], socks[1]:
        runtime.reaper, runtime.control = ReapingNothing(), cast(Any, control)
        runtime.faults[fault] = "the disk is full"
        master = Shell(runtime, cast(Any, NoSignals(silent.fileno())), Offers())
        master._state.phase = MasterPhase.RUNNING  # noqa: SLF001 - so it forks nothing
        for _ in range(2):
            master._sweep()  # noqa: SLF001
        del runtime.faults[fault]
        master._sweep()  # noqa: SLF001
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    degraded = [row for row in rows if row["event"] == "daemon.degraded"]
    assert [row["text"] for row in degraded if row["reason"] == fault[0]] == ["the disk is full"]
    recovered = [row for row in rows if row["event"] == "daemon.recovered"]
    assert [row["reason"] for row in recovered] == [fault[0]]
    (gone,) = [row for row in rows if row["event"] == "control.cut_off"]
    assert (gone["by_uid"], gone["by_pid"]) == (42, 41)
    os.close(log.sink.fd)


def test_a_turn_carries_out_one_request_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for the next turns, in their order; one whose peer has gone is
    forgotten. A short one does not wait.
    """
    monkeypatch.setattr(shell, "setproctitle", lambda _: None)
    carried: list[int] = []
    monkeypatch.setattr(
        orders, "carry_out", lambda order, _control: carried.append(order.pending.number)
    )
    log = Log(sinks.standard_error(), "error", "text")
    control = cast(Any, SimpleNamespace(is_waited_for=lambda number: number != 3))
    silent, _ = socks = socket.socketpair()
    with running(CONFIG.format(path=tmp_path / "echo"), log) as runtime, socks[0], socks[1]:
        runtime.control = control
        master = Shell(runtime, cast(Any, NoSignals(silent.fileno())), Offers())
        for number, verb in enumerate(("status", "workers", "status", "stop", "listeners"), 1):
            request = Request(verb, {})
            master.carry_out(control, PendingRequest(number, request, Credentials(41, 42, 43)))
        master._answer_next()  # noqa: SLF001 - the rest of this turn
        assert carried == [1, 4]
        for _ in range(3):
            master._has_answered = False  # noqa: SLF001 - the next turn
            master._answer_next()  # noqa: SLF001
        assert carried == [1, 4, 2, 5]
