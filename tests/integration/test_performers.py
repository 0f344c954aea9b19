"""How the performers read, prove and drop a configuration: real listeners, a real
scoreboard, and no children.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.memory_sink import MemorySink
from unpd import logs
from unpd.board import layout, memory
from unpd.board.memory import Scoreboard
from unpd.config.host import this_host
from unpd.config.load import Loaded, loads
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import Child, Slot
from unpd.kernel.signals import Reaper, SignalQueue
from unpd.loop import Loop
from unpd.master import mending
from unpd.master.listening.sources import ListenerSources
from unpd.master.listening.table import Listeners
from unpd.master.perform import deployment_of, perform
from unpd.master.runtime import BoardColumns, Deployment, Runtime
from unpd.names import ChildKind, ChildPhase

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
    config = loads(CONFIG.format(path=tmp_path), this_host()).config
    sources = ListenerSources()
    listeners = Listeners(sources)
    listeners.adopt(listeners.prepare(sources.wanted_listeners(config)))
    fd = memory.create()
    board = Scoreboard(fd)
    os.close(fd)
    columns = BoardColumns(board)
    columns.take(config, [listener.wanted for listener in listeners.opened.values()])
    runtime = Runtime(
        deployment=Deployment(config, listeners),
        load=lambda: loads("", this_host()),
        identity=None,
        log=logs.Log(sink.sink, "info", "text"),
        board=board,
        columns=columns,
        loop=Loop(),
        reaper=Reaper(),
        signal_queue=SignalQueue(),
        on_ready=lambda: None,
        master_pid=os.getpid(),
        started_at=0.0,
    )
    scene = Scene(runtime, tmp_path, CONFIG, sink)
    runtime.load = scene.load
    yield scene
    if runtime.candidate is not None:
        runtime.deployment.listeners.drop(runtime.candidate.listeners)
    runtime.deployment.listeners.close()


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
