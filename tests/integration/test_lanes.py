"""The lanes: rows and tables that outlive dispatchers, with real processes as the
sessions of dispatchers that are only simulated.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.exporter import make_labels
from tests.support.machine import LIMITS
from tests.support.memory_sink import MemorySink
from tests.support.runtimes import running
from unpd.board import layout
from unpd.board.active import count_in_row
from unpd.board.layout import Service, Session
from unpd.board.memory import Entry, Scoreboard, create
from unpd.board.source_lane import SourceLane
from unpd.board.sources import Shape, SourceCounts, window_of
from unpd.board.sources import create as create_sources
from unpd.channel import ChannelEnd
from unpd.core.model import Child, Slot, State, Wanted, WantedPool
from unpd.core.policy import CUT_GRACE_S
from unpd.dispatcher.processes import SessionProcesses
from unpd.dispatcher.roll import Began, Roll
from unpd.kernel.signals import Reaped, Reaper
from unpd.logs import Log
from unpd.master.children.lanes import Lane, Lanes
from unpd.master.children.reap import account_for
from unpd.master.runtime import ChildProcess
from unpd.metrics.reading import Reading
from unpd.names import ChildKind, ChildPhase, EndCause, ReapReason
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.ledger import Ledger
from unpd.worker.terms import Terms

ECHO = 0
ROW = 5
CELLS = layout.service_cells(ECHO)
NO_CHILD = 1
"""The pid of a process that is not ours."""


def dispatcher(birth: int, generation: int = 1) -> Child:
    """A dispatcher of the default pool."""
    slot = Slot(ChildKind.DISPATCHER, "default", 0)
    return Child(birth, slot, generation, ChildPhase.READY, 0.0)


class Scene:
    """A master with its lanes, and a dispatcher of birth 1 that has the first."""

    def __init__(self) -> None:
        fd = create()
        self.board = Scoreboard(fd)
        os.close(fd)
        self.sink = MemorySink()
        self.sources = create_sources(Shape(buckets=4, entries=2))
        self.sources.reach(ROW + 1)
        self.counts = SourceCounts(self.sources, lambda: ROW + 1)
        log = Log(self.sink.sink, "info", "json")
        self.lanes = Lanes(self.board, self.sources, lambda: {"echo": ECHO}, log)
        self.lanes.give(dispatcher(1), ROW, 4)
        self.sessions: list[int] = []
        self.serve(1)

    def lane(self, birth: int) -> Lane:
        """The lane of a dispatcher."""
        lane = self.lanes.held_by(birth)
        assert lane is not None
        return lane

    def serve(self, birth: int) -> None:
        """A dispatcher keeps its lane."""
        terms = Terms("echo", Echo(EchoOptions()), None, CELLS)  # type: ignore[arg-type]
        self.ledger = Ledger(self.board.row(ROW), [terms])
        self.source_lane = SourceLane(self.sources, ROW)
        self.roll = Roll(self.lane(birth).table, self.ledger, {ECHO: terms}, self.source_lane)

    def begin(self, pid: int, source: int = 0) -> int:
        """The dispatcher serves a client, in a process if there is a ``pid``."""
        self.source_lane.service_opened(ECHO)
        hold = (self.source_lane.source_opened(source, 1.0), source, True) if source else None
        word = layout.Row.LISTENER_ACCEPTED
        index = self.roll.begin(Began(ECHO, word, b"", time.monotonic_ns(), hold))
        if pid:
            self.roll.forked(index, pid)
        return index

    def session(self) -> int:
        """A process that lives until SIGTERM, as a child of the master: its dispatcher
        has died.
        """
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            while True:
                signal.pause()
        self.sessions.append(pid)
        return pid

    def end(self, pid: int) -> Reaped:
        """The session ends, and the master reaps it."""
        os.kill(pid, signal.SIGKILL)
        self.sessions.remove(pid)
        return Reaped(*os.waitpid(pid, 0), time.monotonic_ns())

    def word(self, word: int) -> int:
        """A word of the service in the row."""
        return self.board.row(ROW)[CELLS + word]

    def reaped(self, reason: ReapReason) -> int:
        """How many sessions ended in a way."""
        return self.word(Service.SESSIONS_REAPED + layout.REAP_REASONS.index(reason))

    @property
    def active(self) -> int:
        """The open connections that a scrape shows."""
        return count_in_row(self.board, ROW, ECHO)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Every session is ended and reaped."""
    with ExitStack() as stack:
        scene = Scene()
        stack.callback(scene.sources.close)
        stack.callback(lambda: [scene.end(pid) for pid in list(scene.sessions)])
        yield scene


def test_a_dispatcher_that_leaves_no_session_leaves_no_lane(scene: Scene) -> None:
    """Its row may be given to another child."""
    assert scene.lanes.rows == {ROW}
    assert scene.lanes.take_back(scene.lane(1)) == 0
    assert scene.lanes.rows == set()
    assert scene.lanes.left_for(dispatcher(2)) is None


def test_its_successor_gets_the_sessions(scene: Scene) -> None:
    """They stay counted, in the row that stays reserved. One that ends later is booked
    by the successor, from the status that the master writes.
    """
    pid = scene.session()
    index = scene.begin(pid)
    assert scene.lanes.take_back(scene.lane(1)) == 0
    assert (scene.lanes.rows, scene.active) == ({ROW}, 1)
    left = scene.lanes.left_for(dispatcher(2))
    assert left is not None
    assert left.row == ROW
    scene.lanes.give(dispatcher(2), ROW, 4)
    scene.serve(2)
    assert list(scene.roll.enrolled) == [index]
    assert scene.lanes.session_ended(scene.end(pid))
    assert scene.active == 1, "the successor books it"
    assert scene.roll.status(index) == signal.SIGKILL
    scene.roll.ended(index, ReapReason.SIGKILL, time.monotonic_ns())
    assert scene.active == 0
    assert scene.reaped(ReapReason.SIGKILL) == 1


def test_without_a_successor_the_master_books(scene: Scene) -> None:
    """The lane is given up after the last session."""
    first, second = scene.session(), scene.session()
    scene.begin(first)
    scene.begin(second)
    scene.lanes.take_back(scene.lane(1))
    assert scene.lanes.session_ended(scene.end(first))
    assert (scene.active, scene.lanes.rows) == (1, {ROW})
    assert scene.lanes.session_ended(scene.end(second))
    assert (scene.active, scene.lanes.rows) == (0, set())
    assert scene.reaped(ReapReason.SIGKILL) == 2
    lines = map(json.loads, scene.sink.lines)
    died = [line for line in lines if line["event"] == "session.died"]
    assert [line["session_pid"] for line in died] == [first, second]
    cause = Service.ENDED + layout.END_CAUSES.index(EndCause.WORKER_DIED)
    assert scene.word(cause) == 2


def test_a_session_that_ended_beside_its_dispatcher_is_booked(scene: Scene) -> None:
    """The master may reap it before it has accounted for the dispatcher."""
    pid = scene.session()
    scene.begin(pid)
    assert scene.lanes.session_ended(scene.end(pid))
    scene.lanes.take_back(scene.lane(1))
    assert (scene.active, scene.lanes.rows) == (0, set())
    assert scene.reaped(ReapReason.SIGKILL) == 1


def test_a_session_that_its_dispatcher_had_reaped_is_booked(scene: Scene) -> None:
    """Nobody else will ever report it."""
    scene.begin(NO_CHILD)
    assert scene.lanes.take_back(scene.lane(1)) == 0
    assert (scene.active, scene.lanes.rows) == (0, set())
    assert scene.reaped(ReapReason.UNKNOWN) == 1


def test_a_connection_without_a_process_is_lost(scene: Scene) -> None:
    """The dispatcher had its only descriptor."""
    scene.begin(pid=0)
    assert scene.lanes.take_back(scene.lane(1)) == 1
    assert (scene.active, scene.lanes.rows) == (0, set())


def test_a_dispatcher_of_another_generation_gets_its_own_lane(scene: Scene) -> None:
    """Its table has the size of another configuration."""
    scene.begin(scene.session())
    scene.lanes.take_back(scene.lane(1))
    assert scene.lanes.left_for(dispatcher(2, generation=2)) is None
    scene.lanes.give(dispatcher(2, generation=2), ROW + 1, 9)
    assert scene.lanes.rows == {ROW, ROW + 1}
    assert scene.lane(2).table.size == 9
    assert scene.lanes.left_for(dispatcher(3)) is not None


def test_a_lane_that_has_a_keeper_is_left_for_nobody(scene: Scene) -> None:
    """Two dispatchers never write one row."""
    assert scene.lanes.left_for(dispatcher(2)) is None


def test_another_process_is_no_session(scene: Scene) -> None:
    """The master inherits other orphans too."""
    scene.begin(scene.session())
    assert not scene.lanes.session_ended(Reaped(NO_CHILD, 0, 0))


def test_at_a_stop_the_sessions_without_a_dispatcher_are_told(scene: Scene) -> None:
    """The master signals its own children alone, whatever pid stands in the table."""
    scene.begin(scene.session())
    scene.begin(pid=0)
    forged = scene.begin(scene.session())
    scene.lane(1).table.entry(forged)[Session.PID] = NO_CHILD
    scene.lanes.take_back(scene.lane(1))
    scene.lanes.end_unkept()
    told, untold = scene.sessions
    assert os.waitpid(told, 0)[1] == signal.SIGTERM
    scene.sessions.remove(told)
    assert os.waitpid(untold, os.WNOHANG) == (0, 0)


def test_a_dead_dispatcher_stays_in_the_directory_with_its_sessions(scene: Scene) -> None:
    """So the next master counts them as lost. It is not ready. They count for the limit
    of their service.
    """
    scene.board.enter(Entry(ROW, 1, 4711, ChildKind.DISPATCHER, 0, ChildPhase.READY, generation=1))
    pid = scene.session()
    scene.begin(pid)
    scene.lanes.take_back(scene.lane(1))
    assert [entry.phase for entry in scene.board.entries()] == [ChildPhase.KILLED]
    assert scene.counts.service_open(ECHO) == 1
    scene.lanes.session_ended(scene.end(pid))
    assert scene.board.entries() == []


def test_sources_count_as_long_as_their_sessions(scene: Scene) -> None:
    """With a dispatcher, without one, and with its successor. After the last session
    the row counts nothing, so that another child may have it.
    """
    key = scene.sources.key(ECHO, b"a")
    pids = [scene.session() for _ in range(3)]
    for pid in pids:
        scene.begin(pid, key)
    scene.source_lane.service_admitted(ECHO, window_of(21.0, 10.0))
    scene.lanes.take_back(scene.lane(1))
    assert scene.counts.source(key)[0] == 3
    scene.lanes.session_ended(scene.end(pids[0]))
    assert (scene.counts.source(key)[0], scene.counts.service_open(ECHO)) == (2, 2)
    scene.lanes.give(dispatcher(2), ROW, 4)
    scene.serve(2)
    scene.roll.ended(scene.begin(scene.session(), key), ReapReason.CLEAN, time.monotonic_ns())
    assert (scene.counts.source(key)[0], scene.counts.service_open(ECHO)) == (2, 2)
    scene.lanes.take_back(scene.lane(2))
    assert scene.counts.service_rate(ECHO, window_of(21.0, 10.0))[0] == 1
    for pid in pids[1:]:
        scene.lanes.session_ended(scene.end(pid))
    assert scene.lanes.rows == set()
    assert (scene.counts.source(key)[0], scene.counts.service_open(ECHO)) == (0, 0)
    assert scene.counts.service_rate(ECHO, window_of(21.0, 10.0))[0] == 0


def test_a_dead_dispatcher_is_neither_a_worker_nor_the_parent_of_zombies(scene: Scene) -> None:
    """Its pid may be another process by now. Its sessions count as before."""
    entry = Entry(ROW, 1, os.getpid(), ChildKind.DISPATCHER, 0, ChildPhase.READY, generation=1)
    scene.board.enter(entry)
    scene.begin(scene.session())
    zombie = os.fork()
    if not zombie:
        os._exit(0)
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    try:
        with subprocess.Popen(["sleep", "600"]) as master:
            labels = make_labels(master.pid)
            before = Reading.take(scene.board, labels, 0)
            scene.lanes.take_back(scene.lane(1))
            after = Reading.take(scene.board, labels, 0)
            master.kill()
    finally:
        os.waitpid(zombie, 0)
    assert before.children == {(ChildKind.DISPATCHER, 0, ChildPhase.READY): 1}
    assert (before.zombies, after.zombies) == (1, 0)
    assert after.children == {}
    assert scene.active == 1


def test_sessions_without_a_successor_have_the_time_of_their_dispatcher(scene: Scene) -> None:
    """They are told to finish when it is over, and killed if they do not."""
    deaf, told = scene.session(), scene.session()
    os.kill(deaf, signal.SIGSTOP)
    os.waitpid(deaf, os.WUNTRACED)
    scene.begin(deaf)
    scene.begin(told)
    scene.lanes.take_back(scene.lane(1), ends_at=100.0)
    scene.lanes.expire(99.0)
    assert os.waitpid(told, os.WNOHANG) == (0, 0)
    scene.lanes.expire(100.0)
    assert os.waitpid(told, 0)[1] == signal.SIGTERM
    scene.sessions.remove(told)
    scene.lanes.expire(100.0 + CUT_GRACE_S - 0.1)
    assert os.waitpid(deaf, os.WNOHANG) == (0, 0)
    scene.lanes.expire(100.0 + CUT_GRACE_S)
    assert os.waitpid(deaf, 0)[1] == signal.SIGKILL
    scene.sessions.remove(deaf)


def wanted(generation: int, reload_grace_s: float) -> State:
    """The core wants a dispatcher of a generation."""
    pools = {
        (ChildKind.DISPATCHER, "default"): WantedPool(
            1, "", generation=generation, same_since=generation
        )
    }
    return State(Wanted(pools, replace(LIMITS, reload_grace_s=reload_grace_s)))


def test_sessions_whose_slot_goes_have_the_time_of_a_drain(scene: Scene) -> None:
    """Their dispatcher was dead when a reload took its slot away. While the slot is
    wanted, they may get a successor.
    """
    pid = scene.session()
    scene.begin(pid)
    lane = scene.lane(1)
    scene.lanes.retire(wanted(2, 60.0), 99.0)
    scene.lanes.take_back(lane)
    scene.lanes.retire(wanted(1, 60.0), 100.0)
    assert lane.ends_at is None, "a dispatcher that lives has the time of the core"
    candidate = wanted(2, 60.0)
    candidate.candidate = wanted(1, 60.0).wanted
    scene.lanes.retire(candidate, 100.0)
    assert lane.ends_at is None
    scene.lanes.retire(wanted(2, 60.0), 101.0)
    scene.lanes.retire(wanted(3, 60.0), 102.0)
    scene.lanes.expire(160.9)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    scene.lanes.expire(161.0)
    assert os.waitpid(pid, 0)[1] == signal.SIGTERM
    scene.sessions.remove(pid)


def test_the_master_asks_the_core_when_the_sessions_have_to_end(
    scene: Scene, tmp_path: Path
) -> None:
    """When it has reaped a dispatcher, whatever it had shown of that one before."""
    text = f'[metrics]\nlisten = false\n[services.echo]\nlisten = ["unix://{tmp_path}/echo"]\n'
    with running(text, Log(scene.sink.sink, "info", "json")) as runtime:
        child = dispatcher(1)
        runtime.lanes.give(child, ROW, 4)
        lane = runtime.lanes.held_by(1)
        assert lane is not None
        lane.table.begin(0, ECHO, time.monotonic_ns(), b"")
        lane.table.entry(0)[Session.PID] = scene.session()
        ours, theirs = socket.socketpair()
        theirs.close()
        runtime.processes[1] = ChildProcess(child, 4711, None, ROW, ChannelEnd(ours))
        runtime.birth_by_pid[4711] = 1
        state = wanted(2, 60.0)
        killed = replace(child, phase=ChildPhase.KILLED, retired_by=2, drain_ends_at=100.0)
        state.children[1] = killed
        account_for(runtime, state, Reaped(4711, int(signal.SIGKILL), time.monotonic_ns()))
        assert lane.ends_at == 100.0


def test_sessions_whose_drain_has_no_limit_last(scene: Scene) -> None:
    """A later reload with a limit does not change that."""
    pid = scene.session()
    scene.begin(pid)
    scene.lanes.take_back(scene.lane(1))
    scene.lanes.retire(wanted(2, 0.0), 100.0)
    scene.lanes.retire(wanted(3, 60.0), 101.0)
    scene.lanes.expire(1e9)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)


@pytest.mark.parametrize("pid", [1 << 40, (1 << 64) - 1])
def test_a_forged_pid_stops_neither_the_master_nor_a_successor(scene: Scene, pid: int) -> None:
    """No call of the kernel takes such a number."""
    index = scene.begin(scene.session())
    scene.begin(scene.session())
    scene.lane(1).table.entry(index)[Session.PID] = pid
    assert scene.lanes.take_back(scene.lane(1)) == 1
    scene.lanes.give(dispatcher(2), ROW, 4)
    scene.serve(2)
    SessionProcesses(scene.roll, Reaper(), Log(scene.sink.sink, "info", "json"), time.monotonic)
    scene.lanes.take_back(scene.lane(2))
    scene.lanes.end_unkept()
