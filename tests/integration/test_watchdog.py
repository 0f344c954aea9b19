"""The watchdog's question: a daemon that only looks alive must not pass, and one that
works must never fail.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.runtimes import running
from unpd import logs, sinks
from unpd.board import layout
from unpd.board import memory as sb
from unpd.channel import ChannelEnd
from unpd.config.addresses import UnixAddress
from unpd.core.model import Child, Slot, State
from unpd.master.children.kinds import wanted_children
from unpd.master.live_changes import ServiceHalt, Term
from unpd.master.runtime import ChildProcess, Runtime
from unpd.master.systemd.watchdog import Watchdog
from unpd.names import ChildKind, ChildPhase, Halt, MasterPhase

CONFIG = """
[metrics]
listen = false
[pools.default]
workers = 2
max_connections_per_worker = 2
[services.echo]
listen = ["tcp://127.0.0.1:0", "unix://{path}", "udp://127.0.0.1:0"]
"""
INTERVAL_S = 10.0


@dataclass(slots=True)
class Scene:
    """A master with two ready workers, three listeners of one service, and a clock."""

    runtime: Runtime
    state: State
    health: Watchdog

    def row(self, row: int) -> memoryview:
        """A worker's cells."""
        return self.runtime.board.row(row)

    def beat(self, now: float, rows: tuple[int, ...] = (0, 1)) -> None:
        """Workers show that they live."""
        for row in rows:
            self.row(row)[layout.Row.BEAT_NS] = int(now * layout.NS)

    def accept(self, row: int, number: int = 1) -> None:
        """A worker accepts connections of the first listener."""
        self.row(row)[layout.Row.OPEN] += number
        self.row(row)[layout.Row.LISTENER_ACCEPTED] += number

    def complaint(self, now: float) -> str:
        """The answer."""
        return self.health.complaint(self.runtime, self.state, now)

    @property
    def address(self) -> tuple[str, int]:
        """Of the listener, which nobody accepts from here."""
        listener = next(iter(self.runtime.deployment.listeners.opened.values()))
        name: tuple[str, int] = listener.sock.getsockname()
        return name


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Nothing is simulated but the workers."""
    text = CONFIG.format(path=tmp_path / "echo.sock")
    with running(text, logs.Log(sinks.standard_error(), "error", "text")) as runtime:
        state = State(wanted_children(runtime.deployment), phase=MasterPhase.RUNNING)
        ours, theirs = socket.socketpair()
        for row in (0, 1):
            child = Child(
                row + 1,
                Slot(ChildKind.WORKER, "default", row),
                1,
                ChildPhase.READY,
                0.0,
                ready_at=0.0,
            )
            state.children[child.birth] = child
            runtime.processes[child.birth] = ChildProcess(
                child, 4711 + row, None, row, ChannelEnd(ours)
            )
            runtime.board.enter(
                sb.Entry(row, child.birth, 4711 + row, ChildKind.WORKER, 0, ChildPhase.READY, 1)
            )
        yield Scene(runtime, state, Watchdog(INTERVAL_S))
        ours.close()
        theirs.close()


def test_workers_that_beat_are_well(scene: Scene) -> None:
    """Nobody is connected, nobody waits: nothing is wrong, for as long as they beat."""
    for second in range(100):
        scene.beat(float(second))
        assert scene.complaint(float(second)) == ""


def test_one_that_beats_is_enough(scene: Scene) -> None:
    """The other one is the heartbeat's business."""
    scene.beat(1000.0, (1,))
    assert scene.complaint(1000.0 + INTERVAL_S / 2) == ""


def test_none_that_beats(scene: Scene) -> None:
    """For a whole interval."""
    scene.beat(1000.0)
    assert scene.complaint(1000.0 + INTERVAL_S - 0.1) == ""
    assert (
        scene.complaint(1000.0 + INTERVAL_S + 0.1) == "service echo has no ready worker that beats"
    )


@pytest.mark.parametrize("phase", [ChildPhase.STARTING, ChildPhase.DRAINING, ChildPhase.KILLED])
def test_none_that_is_ready(scene: Scene, phase: ChildPhase) -> None:
    """Beating alone does not serve."""
    scene.beat(5.0)
    scene.state.children = {
        birth: replace(child, phase=phase) for birth, child in scene.state.children.items()
    }
    assert scene.complaint(5.0) == "service echo has no ready worker that beats"


def test_workers_of_another_generation_do_not_count(scene: Scene) -> None:
    """They drain, or are not proved yet."""
    scene.beat(5.0)
    scene.state.wanted = scene.state.wanted.after(scene.state.wanted, 2, every_pool=True)
    assert scene.complaint(5.0) == "service echo has no ready worker that beats"


def test_workers_of_a_pool_that_a_reload_left_alone_count(scene: Scene) -> None:
    """Their generation is older than the daemon's."""
    scene.beat(5.0)
    scene.state.generation = 2
    assert scene.complaint(5.0) == ""


@pytest.mark.parametrize("phase", [MasterPhase.STARTING, MasterPhase.STOPPING])
def test_a_start_and_a_stop_have_their_own_bounds(scene: Scene, phase: MasterPhase) -> None:
    """The watchdog does not judge them."""
    scene.state.phase = phase
    scene.state.children.clear()
    assert scene.complaint(1000.0) == ""


def test_a_lame_daemon_still_has_to_serve(scene: Scene) -> None:
    """New clients come until the load balancers have noticed."""
    scene.state.phase = MasterPhase.LAME
    scene.beat(5.0)
    assert scene.complaint(5.0) == ""
    scene.state.children.clear()
    assert scene.complaint(5.0) == "service echo has no ready worker that beats"


def sweep(scene: Scene, since: int, until: int) -> list[str]:
    """A look each second, with workers that beat."""
    said = []
    for second in range(since, until):
        scene.beat(float(second))
        said.append(scene.complaint(float(second)))
    return said


def test_clients_that_nobody_accepts(scene: Scene) -> None:
    """After a whole interval, not before; and no more once one was accepted."""
    with socket.create_connection(scene.address):
        said = sweep(scene, 100, 100 + int(INTERVAL_S))
        assert said == [""] * len(said)
        host, port = scene.address
        where = f"tcp://{host}:{port} of service echo"
        complaint = f"clients wait on {where} and no worker accepts them"
        assert sweep(scene, 110, 112) == [complaint] * 2
        scene.accept(0)
        said = sweep(scene, 112, 120)
        assert said == [""] * len(said)


def test_clients_of_a_halted_service_may_wait(scene: Scene) -> None:
    """An operator wants it: a service manager must not restart the daemon for it."""
    scene.runtime.live.halts["echo"] = ServiceHalt(Halt.PAUSED, Term())
    with socket.create_connection(scene.address):
        assert sweep(scene, 100, 150) == [""] * 50
        del scene.runtime.live.halts["echo"]
        assert "no worker accepts them" in sweep(scene, 150, 162)[-1]


def test_a_queue_that_moves_is_well(scene: Scene) -> None:
    """There is always somebody in it, but they are accepted."""
    with socket.create_connection(scene.address):
        for second in range(100, 200):
            scene.accept(second % 2)
            scene.row(second % 2)[layout.Row.OPEN] -= 1
            assert sweep(scene, second, second + 1) == [""]


def test_full_workers_are_well(scene: Scene) -> None:
    """Beyond max_connections_per_worker the kernel queues: that is the limit at work.
    One place free, and it is neglect.
    """
    for row in (0, 1):
        scene.accept(row, 2)
    with socket.create_connection(scene.address):
        said = sweep(scene, 100, 150)
        assert said == [""] * len(said)
        scene.row(1)[layout.Row.OPEN] -= 1
        said = sweep(scene, 150, 150 + int(INTERVAL_S))
        assert said == [""] * len(said), "it has had room for less than an interval"
        assert "no worker accepts them" in sweep(scene, 160, 161)[0]


def test_a_listener_that_is_forgotten_beside_a_busy_one(scene: Scene) -> None:
    """Clients of the service's other listener are accepted all the while: that helps
    nobody here.
    """
    (path,) = [
        opened.address.path
        for opened in scene.runtime.deployment.listeners.opened.values()
        if isinstance(opened.address, UnixAddress)
    ]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        said = []
        for second in range(100, 112):
            scene.accept(0)
            scene.row(0)[layout.Row.OPEN] -= 1
            said += sweep(scene, second, second + 1)
    assert said[:10] == [""] * 10
    complaint = f"clients wait on unix://{path} of service echo and no worker accepts them"
    assert said[10:] == [complaint] * 2


def test_datagrams_that_nobody_receives(scene: Scene) -> None:
    """Datagrams that wait for a whole interval are a neglect, also beside workers full
    of connections; a queue that moves is well, and so is a socket that was shut down,
    which the master repairs.
    """
    opened = list(scene.runtime.deployment.listeners.opened.values())[2]
    for row in (0, 1):
        scene.accept(row, 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", opened.sock.getsockname())
        said = []
        for second in range(100, 130):
            scene.row(0)[layout.Row.LISTENER_ACCEPTED + 2] += 1
            said += sweep(scene, second, second + 1)
        assert said == [""] * 30
        said = sweep(scene, 130, 142)
        complaint = f"datagrams wait on {opened.text} of service echo and no worker accepts them"
        assert [said[0], said[-1]] == ["", complaint]
        with contextlib.suppress(OSError):
            opened.sock.shutdown(socket.SHUT_RD)
        assert sweep(scene, 142, 160) == [""] * 18


def test_a_beat_from_the_future_is_none(scene: Scene) -> None:
    """A mad worker cannot promise to live for ever."""
    for row in (0, 1):
        scene.row(row)[layout.Row.BEAT_NS] = 2**64 - 1
    assert scene.complaint(INTERVAL_S + 1.0) == "service echo has no ready worker that beats"


def test_a_short_interval_is_no_reason_to_be_hasty(scene: Scene) -> None:
    """Workers beat once a second: a watchdog that wants a sign each half second still
    gets it.
    """
    hasty = Watchdog(0.5)
    scene.beat(100.0)
    assert [
        hasty.complaint(scene.runtime, scene.state, 100.0 + late) for late in (0.6, 1.2, 2.4)
    ] == ["", "", ""]
    assert (
        hasty.complaint(scene.runtime, scene.state, 104.0)
        == "service echo has no ready worker that beats"
    )
