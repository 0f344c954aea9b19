"""How the performers read, prove and drop a configuration: real listeners, a real
scoreboard, and no children.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.memory_sink import MemorySink
from tests.support.runtimes import running
from unpd import logs
from unpd.board import layout
from unpd.channel import ChannelEnd
from unpd.config.host import this_host
from unpd.config.load import Loaded, loads
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import Child, Slot, State
from unpd.master import mending
from unpd.master.children.exporting import exporter_labels
from unpd.master.children.kinds import wanted_children
from unpd.master.perform import deployment_of, perform
from unpd.master.runtime import ChildProcess, Runtime
from unpd.metrics.reading import count_service
from unpd.names import ChildKind, ChildPhase, MasterPhase

CONFIG = """
[metrics]
listen = false
[services.echo]
listen = ["unix://{path}/echo"]
"""
ADDED = """
[services.more]
type = "echo"
listen = ["unix://{path}/more"]
"""


@dataclass(slots=True)
class Scene:
    """A master's runtime, the text of its configuration file, and its log."""

    runtime: Runtime
    path: Path
    text: str
    sink: MemorySink

    def load(self) -> Loaded:
        """Read the configuration."""
        return loads(self.text.format(path=self.path), this_host())

    def lines(self, event: str) -> list[str]:
        """The lines of one event."""
        return [line for line in self.sink.lines if event in line]

    def inode(self, name: str) -> int | None:
        """The inode of the file of a socket; None if there is no file."""
        path = self.path / name
        return path.stat().st_ino if path.exists() else None


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A master with one service."""
    sink = MemorySink()
    text = CONFIG.format(path=tmp_path)
    with running(text, logs.Log(sink.sink, "info", "text")) as runtime:
        scene = Scene(runtime, tmp_path, CONFIG, sink)
        runtime.load = scene.load
        yield scene


def test_a_configuration_without_a_column_changes_nothing(scene: Scene) -> None:
    """A configuration with one service more than the board has columns is refused
    before a listener is opened for it.
    """
    for number in range(layout.MAX_SERVICES - 1):
        scene.runtime.columns.services.column(f"old{number}")
    scene.text += ADDED
    perform(scene.runtime, fx.LoadConfig())
    (event,) = scene.runtime.events
    assert isinstance(event, ev.ConfigRefused)
    assert "more than 64 services" in event.reason
    assert scene.runtime.candidate is None
    assert scene.inode("more") is None
    assert not scene.lines("listener.")


def test_a_listener_of_a_refused_candidate_is_logged_as_closed(scene: Scene) -> None:
    """A listener that was opened for a candidate is closed when that is refused, and
    the log says both. Those in use stay open.
    """
    scene.text += ADDED
    perform(scene.runtime, fx.LoadConfig())
    assert [type(event) for event in scene.runtime.events] == [ev.ConfigLoaded]
    assert scene.inode("more")
    perform(scene.runtime, fx.DropConfig())
    assert scene.inode("more") is None
    assert scene.inode("echo")
    (opened,) = scene.lines("listener.opened")
    (closed,) = scene.lines("listener.closed")
    assert f"{scene.path}/more" in opened
    assert f"{scene.path}/more" in closed


def test_no_listener_is_renewed_while_a_reload_is_proved(scene: Scene) -> None:
    """A listener that can only be opened anew stays as it is while a candidate shares
    it. After the reload it is renewed.
    """
    perform(scene.runtime, fx.LoadConfig())
    candidate = scene.runtime.candidate
    assert candidate is not None
    (shared,) = candidate.listeners.opened.values()
    (scene.path / "echo").unlink()
    mending.mend_listeners(scene.runtime)
    assert scene.inode("echo") is None
    assert shared.sock.fileno() >= 0
    perform(scene.runtime, fx.DropConfig())
    mending.mend_listeners(scene.runtime)
    assert scene.inode("echo")
    assert len(scene.lines("listener.renewed")) == 1


@pytest.mark.parametrize(("generation", "is_new"), [(1, False), (2, True)])
def test_a_child_is_born_with_the_deployment_of_its_generation(
    scene: Scene, generation: int, is_new: bool
) -> None:
    """While a reload is proved, a child that takes the place of one of the old
    generation gets the old configuration and listeners. A child to prove gets the new
    ones.
    """
    scene.text += ADDED
    perform(scene.runtime, fx.LoadConfig())
    slot = Slot(ChildKind.WORKER, "default", 0)
    child = Child(7, slot, generation, ChildPhase.STARTING, born_at=0.0)
    expected = scene.runtime.candidate if is_new else scene.runtime.deployment
    assert expected is not None
    assert deployment_of(scene.runtime, child) is expected


def refused_child(scene: Scene, birth: int) -> None:
    """Let a child of the candidate live."""
    slot = Slot(ChildKind.WORKER, "default", 0)
    child = Child(birth, slot, 2, ChildPhase.DRAINING, born_at=0.0)
    ours, theirs = socket.socketpair()
    theirs.close()
    scene.runtime.processes[birth] = ChildProcess(child, 4711, None, 1, ChannelEnd(ours))


def test_reloads_that_are_refused_use_no_columns_up(scene: Scene) -> None:
    """More reloads with new services, pools and listeners than the board has columns
    are refused while their children are proved; the next one is loaded all the same,
    with counters that begin at 0.
    """
    for number in range(layout.MAX_SERVICES):
        scene.text = CONFIG + ADDED.replace("more", f"new{number}") + f'pool = "pool{number}"\n'
        scene.text += f"[pools.pool{number}]\n"
        perform(scene.runtime, fx.LoadConfig())
        event = scene.runtime.events.popleft()
        assert isinstance(event, ev.ConfigLoaded), event
        board, columns = scene.runtime.board, scene.runtime.columns
        cells = layout.service_cells(columns.services.column(f"new{number}"))
        assert not any(board.row(0)[cells : cells + layout.Service.size])
        board.row(0)[cells + layout.Service.ACCEPTED] += 3
        board.count(layout.Master.SPAWNS + columns.pools.column(f"pool{number}"))
        perform(scene.runtime, fx.DropConfig())
    scene.text = CONFIG + ADDED
    perform(scene.runtime, fx.LoadConfig())
    assert isinstance(scene.runtime.events.popleft(), ev.ConfigLoaded)
    assert scene.runtime.columns.services.names == ["echo", "more"]


def test_a_refused_service_has_its_counts_again_when_it_is_adopted(scene: Scene) -> None:
    """The counts of a service whose reload was refused go on in the next reload that
    has it, though other names had its columns meanwhile.
    """
    runtime, columns = scene.runtime, scene.runtime.columns
    for text in (ADDED, ADDED.replace("more", "other"), ADDED):
        scene.text = CONFIG + text
        perform(runtime, fx.LoadConfig())
        perform(runtime, fx.DropConfig())
        if text == ADDED and "more" in columns.services.names:
            cells = layout.service_cells(columns.services.column("more"))
            runtime.board.row(0)[cells + layout.Service.ACCEPTED] += 3
    perform(runtime, fx.LoadConfig())
    perform(runtime, fx.AdoptConfig(2))
    found = count_service(runtime.board, "more", columns.services.column("more"), range(1))
    assert found.accepted == 6


def test_a_refused_child_keeps_the_columns_of_its_names(scene: Scene) -> None:
    """While a child of a refused reload lives, the next reload takes other columns. No
    exporter but one of that reload shows its services.
    """
    scene.text = CONFIG + ADDED
    perform(scene.runtime, fx.LoadConfig())
    refused_child(scene, birth=7)
    perform(scene.runtime, fx.DropConfig())
    scene.text = CONFIG + ADDED.replace("more", "other")
    perform(scene.runtime, fx.LoadConfig())
    assert scene.runtime.columns.services.by_name == {"echo": 0, "more": 1, "other": 2}
    for deployment, shown in (
        (scene.runtime.deployment, ["echo"]),
        (scene.runtime.candidate, ["echo", "other"]),
    ):
        assert deployment is not None
        labels = exporter_labels(scene.runtime, deployment)
        assert [name for name, _ in labels.services] == shown
    perform(scene.runtime, fx.DropConfig())
    scene.runtime.processes.pop(7).channel.close()
    perform(scene.runtime, fx.LoadConfig())
    assert scene.runtime.columns.services.by_name == {"echo": 0, "other": 1}


def test_a_renewed_listener_that_waits_is_logged_once(scene: Scene) -> None:
    """Where the reload for a renewed listener was refused, the log says once that the
    children lack it, and when the next reload comes; the fault has the same.
    """
    runtime = scene.runtime
    state = State(wanted_children(runtime.deployment), phase=MasterPhase.RUNNING)
    (scene.path / "echo").unlink()
    mending.look_after(runtime, state)
    assert [type(event) for event in runtime.events] == [ev.ListenersRenewed]
    perform(runtime, fx.ReuseConfig())
    perform(runtime, fx.DropConfig())
    assert not scene.lines("listener.waiting")
    for _ in range(3):
        mending.look_after(runtime, state)
    (line,) = scene.lines("listener.waiting")
    assert f"service=echo address=unix://{scene.path}/echo pause_s=30.0" in line
    (fault,) = runtime.faults.values()
    assert "the reload for it was refused, the next one is 30 s later" in fault
