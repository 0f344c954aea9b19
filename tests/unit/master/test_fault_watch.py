"""The lines about faults that begin and end."""

from types import SimpleNamespace
from typing import Any, cast

from unpd.core.model import State
from unpd.master import fault_watch
from unpd.master.fault_watch import FaultWatch
from unpd.master.runtime import Runtime
from unpd.names import Fault, MasterPhase

LOSING = (Fault.LOG_LOSING, "")


class Daemon:
    """As much of a runtime as the watch uses."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, str, str]] = []
        self.faults: dict[tuple[Fault, str], str] = {}
        self.log = SimpleNamespace(event=self.event)
        self.watch = FaultWatch(cast(Runtime, self))

    def event(self, name: str, reason: str, text: str) -> None:
        """Keep a line."""
        self.logged.append((name, reason, text))

    def look(self, phase: MasterPhase = MasterPhase.RUNNING) -> list[Any]:
        """What a look logs."""
        self.logged.clear()
        state = SimpleNamespace(
            phase=phase, children={}, throttles={}, wanted=SimpleNamespace(pools={}, slots=list)
        )
        self.watch.look(cast(State, state))
        return list(self.logged)


def test_a_fault_has_a_line_when_it_begins_and_when_it_is_over() -> None:
    """And none meanwhile, also if its sentence changes."""
    daemon = Daemon()
    assert daemon.look() == []
    daemon.faults[LOSING] = "the log loses lines, 1 so far"
    assert daemon.look() == [("daemon.degraded", "log_losing", "the log loses lines, 1 so far")]
    daemon.faults[LOSING] = "the log loses lines, 2 so far"
    assert daemon.look() == []
    del daemon.faults[LOSING]
    assert daemon.look() == [("daemon.recovered", "log_losing", "the log loses lines, 2 so far")]
    assert daemon.look() == []


def test_a_fault_that_the_core_sees_has_lines_too(monkeypatch: Any) -> None:
    """Such as that of a pool without workers, which no other line tells."""
    daemon = Daemon()
    found = SimpleNamespace(fault=Fault.POOL_NOT_READY, text="pool a has no ready worker")
    monkeypatch.setattr(fault_watch, "faults_of", lambda _: (found,))
    assert daemon.look() == [("daemon.degraded", "pool_not_ready", found.text)]
    monkeypatch.setattr(fault_watch, "faults_of", lambda _: ())
    assert daemon.look() == [("daemon.recovered", "pool_not_ready", found.text)]


def test_a_daemon_that_stops_has_not_recovered() -> None:
    """Its faults are no longer looked at."""
    daemon = Daemon()
    daemon.faults[LOSING] = "the log loses lines"
    assert daemon.look(MasterPhase.STARTING) == []
    assert len(daemon.look()) == 1
    daemon.faults.clear()
    assert daemon.look(MasterPhase.STOPPING) == []
