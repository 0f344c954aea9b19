"""The master feeds its exporters, one message after another."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.memory_sink import MemorySink
from tests.support.runtimes import running
from tests.support.transports import Wire
from unpd.channel import ChannelEnd
from unpd.core.model import Child, Slot, State
from unpd.logs import Log
from unpd.loop import Loop
from unpd.master import feeding
from unpd.master.children import reports
from unpd.master.children.kinds import wanted_children
from unpd.master.feeding import MAX_FAULTS, MAX_LIVE_CHANGES
from unpd.master.live_changes import ServiceHalt, Term
from unpd.master.runtime import ChildProcess, LastReload, Runtime
from unpd.names import ChildKind, ChildPhase, Fault, Halt, MasterPhase

CONFIG = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
[metrics]
listen = false
"""
BIRTH = 5


@dataclass
class Master:
    """A runtime with an exporter at the other end of a wire."""

    runtime: Runtime
    wire: Wire
    state: State

    def sweep(self) -> list[dict[str, Any]]:
        """Sweep; return the messages that were sent."""
        self.wire.sent = b""
        feeding.sweep(self.runtime, self.state)
        return [json.loads(line) for line in self.wire.sent.splitlines()]

    def answered(self) -> None:
        """The exporter answers."""
        self.wire.comes.append(b"{}\n")
        reports.read(self.runtime, BIRTH)

    def reap(self, pid: int) -> None:
        """A worker is reaped, as the log has it."""
        self.runtime.log.event(
            "child.reaped",
            kind="worker",
            slot="default/0",
            birth=1,
            pid=pid,
            reason="sigkill",
            ended="killed by SIGKILL",
            connections_lost=0,
        )


@pytest.fixture
def master() -> Iterator[Master]:
    """A master whose exporter is ready."""
    with running(CONFIG, Log(MemorySink().sink, "error", "json")) as runtime:
        ignore = SimpleNamespace(watch=lambda *_: None, forget=lambda _: None)
        runtime.loop = cast(Loop, ignore)
        runtime.log.on_event = runtime.recent_events.note
        wire = Wire()
        child = Child(BIRTH, Slot(ChildKind.EXPORTER, "exporter", 0), 1, ChildPhase.READY, 0.0)
        channel = ChannelEnd(wire)
        runtime.processes[BIRTH] = ChildProcess(child, 4711, None, 0, channel, reported=True)
        state = State(wanted_children(runtime.deployment), phase=MasterPhase.RUNNING)
        yield Master(runtime, wire, state)


def test_events_and_state_in_one_message_a_sweep(master: Master) -> None:
    """The events since the last sweep come together, whatever level the log wants, and
    only to an exporter that has answered.
    """
    master.reap(1)
    (first,) = master.sweep()
    assert first["question"] == "news"
    assert first["state"]["last_reload"] is None
    assert [event["fields"]["pid"] for event in first["events"]] == [1]
    master.reap(2)
    master.reap(3)
    assert master.sweep() == []
    master.answered()
    (second,) = master.sweep()
    assert [event["fields"]["pid"] for event in second["events"]] == [2, 3]
    master.answered()
    assert master.sweep() == []


def test_faults_are_bounded(master: Master) -> None:
    """A message names some faults and has the number of all."""
    for number in range(50):
        master.runtime.faults[Fault.LISTENER_BROKEN, str(number)] = f"listener {number}\nis gone"
    (message,) = master.sweep()
    total = message["state"]["faults"]
    assert total >= 50
    degraded = message["state"]["degraded"]
    assert len(degraded) == MAX_FAULTS
    assert not [each for each in degraded if "\n" in each["text"]]


def test_live_changes_and_retired_generations_are_told(master: Master) -> None:
    """As ``unpd status`` says them; of very many changes some, and how many more."""
    term = Term()
    for number in range(MAX_LIVE_CHANGES + 2):
        master.runtime.live.halts[f"s{number}"] = ServiceHalt(Halt.PAUSED, term)
    old = Child(9, Slot(ChildKind.WORKER, "default", 0), 1, ChildPhase.DRAINING, 0.0, retired_by=1)
    master.state.children[9] = old
    (message,) = master.sweep()
    state = message["state"]
    assert len(state["live_changes"]) == MAX_LIVE_CHANGES
    assert state["live_changes_left_out"] == 2
    assert state["live_changes"][0] == {
        "change": "halt",
        "subject": "s0",
        "value": "paused",
        "configured": None,
        "until": None,
    }
    assert state["retired"] == [
        {"generation": 1, "children": 1, "connections": 0, "drain_ends_at": None}
    ]


def test_the_last_reload_is_told(master: Master) -> None:
    """Its result, and the reason if it was refused."""
    master.runtime.last_reload = LastReload("no service", 0.0, 3)
    (message,) = master.sweep()
    assert message["state"]["last_reload"] == {
        "result": "refused",
        "reason": "no service",
        "ended_at": "1970-01-01T00:00:00Z",
        "generation": 3,
    }


def test_an_exporter_that_dies_is_forgotten(master: Master) -> None:
    """What it did not answer is no message that was sent."""
    master.reap(1)
    assert master.sweep()
    master.wire.comes.append(b"")
    reports.read(master.runtime, BIRTH)
    assert not master.runtime.page_feed.asked
    del master.runtime.processes[BIRTH]
    assert master.sweep() == []
    assert not master.runtime.page_feed.sent
