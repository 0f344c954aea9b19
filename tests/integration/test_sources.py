"""The counts of sources in several real processes, and when the master forgets them."""

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import procs
from tests.support.launch import Launch
from tests.support.machine import LIMITS
from tests.support.memory_sink import MemorySink
from tests.support.refused_calls import refuse, requires_filters
from tests.support.runtimes import running
from unpd.board import sources
from unpd.board.source_lane import SourceLane
from unpd.board.sources import SourceCounts, Sources, admitted, window_of
from unpd.channel import ChannelEnd
from unpd.core.model import Child, Slot, State, Wanted
from unpd.kernel.signals import Reaped
from unpd.logs import Log
from unpd.master.children.reap import account_for
from unpd.master.runtime import ChildProcess
from unpd.names import ChildKind, ChildPhase

ECHO = 2
PREFIX = bytes((192, 0, 2, 1))
WINDOW_S = 10.0
CONFIG = '[metrics]\nlisten = false\n[services.echo]\nlisten = ["unix://{path}/echo"]\n'


@pytest.fixture
def memory() -> Iterator[Sources]:
    """The memory, as a master makes it."""
    memory = sources.create()
    yield memory
    memory.close()


class Forked:
    """A child of this process that does one step after another."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        here, there = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.nice(19)
                here.close()
                for step in steps:
                    there.recv(1)
                    step()
                    there.send(b".")
                there.recv(1)
                code = 0
            finally:
                os._exit(code)
        there.close()
        self._sock = here

    def step(self) -> None:
        """Have it do its next step."""
        self._sock.settimeout(20)
        self._sock.send(b".")
        assert self._sock.recv(1) == b".", "the child has failed"

    def kill(self) -> None:
        """End and reap it."""
        self._sock.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_processes_see_what_the_others_count(memory: Sources) -> None:
    """Two children count in their lanes; each sees the sum, and so does the parent. The
    counts of one that was killed are there until they are cleared, and then no more.
    """
    key = memory.key(ECHO, PREFIX)
    counts = SourceCounts(memory, lambda: 2)

    def opens(row: int) -> None:
        assert memory.key(ECHO, PREFIX) == key
        lane = SourceLane(memory, row)
        lane.service_opened(ECHO)
        lane.source_opened(key, 1.0)
        lane.source_admitted(key, window_of(1.0, WINDOW_S))

    def sees(number: int) -> None:
        count, windows = counts.source(key)
        assert (count, counts.service_open(ECHO)) == (number, number)
        assert admitted(windows, window_of(1.0, WINDOW_S))[0] == number

    with ExitStack() as stack:
        first, second = (
            Forked(lambda row=row: opens(row), lambda: sees(2), lambda: sees(1))  # type: ignore[misc]
            for row in range(2)
        )
        for child in (first, second):
            stack.callback(child.kill)
            child.step()
        sees(2)
        first.step()
        second.step()
        stack.pop_all()
        first.kill()
        sees(2)
        memory.clear(0)
        sees(1)
        second.step()
        second.kill()


def test_a_forked_successor_takes_the_lane_over(memory: Sources) -> None:
    """It counts the connections that its predecessor left, and those of its own."""
    key = memory.key(ECHO, PREFIX)
    counts = SourceCounts(memory, lambda: 1)

    def serve() -> None:
        lane = SourceLane(memory, 0)
        for _ in range(3):
            lane.source_opened(key, 1.0)

    def succeed() -> None:
        lane = SourceLane(memory, 0)
        first, _ = lane.take_over({ECHO: 2}, [key, key])
        assert counts.source(key)[0] == 2
        lane.source_closed(first)
        lane.source_opened(key, 1.0)
        lane.source_opened(key, 1.0)

    for life, open_now in ((serve, 3), (succeed, 3)):
        child = Forked(life)
        try:
            child.step()
            assert counts.source(key)[0] == open_now
        finally:
            child.kill()


@requires_filters
def test_a_lane_is_cleared_without_madvise(memory: Sources) -> None:
    """A sandbox may refuse the call, as gVisor does for MADV_REMOVE."""
    key = memory.key(ECHO, PREFIX)
    SourceLane(memory, 0).source_opened(key, 1.0)

    def clear() -> None:
        refuse("madvise", errno.ENOSYS)
        memory.clear(0)

    child = Forked(clear)
    try:
        child.step()
    finally:
        child.kill()
    assert not any(memory.stored(0))
    assert SourceCounts(memory, lambda: 1).source(key)[0] == 0


def test_the_master_forgets_what_a_dead_worker_counted(tmp_path: Path) -> None:
    """As soon as it has accounted for its death, and nothing of another child."""
    log = Log(MemorySink().sink, "info", "text")
    with running(CONFIG.format(path=tmp_path), log) as runtime:
        key = runtime.sources.key(ECHO, PREFIX)
        counts = SourceCounts(runtime.sources, lambda: 2)
        for row in range(2):
            lane = SourceLane(runtime.sources, row)
            lane.service_opened(ECHO)
            lane.source_opened(key, 1.0)
        ours, theirs = socket.socketpair()
        theirs.close()
        child = Child(7, Slot(ChildKind.WORKER, "default", 0), 1, ChildPhase.READY, born_at=0.0)
        runtime.processes[7] = ChildProcess(child, 4711, None, 1, ChannelEnd(ours))
        runtime.birth_by_pid[4711] = 7
        account_for(runtime, State(Wanted({}, LIMITS)), Reaped(4711, signal.SIGKILL, 0))
        assert (counts.source(key)[0], counts.service_open(ECHO)) == (1, 1)
        assert not any(runtime.sources.stored(1))


def test_the_exporter_shows_what_the_children_of_a_daemon_count(launch: Launch) -> None:
    """Each child has the memory: what is written into its lane is shown, until it has
    died. Its successor begins with nothing.
    """
    unpd = launch('[pools.default]\nworkers = 1\n[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n')
    workers = unpd.workers()
    for pid in (unpd.pid, unpd.exporter(), *workers):
        assert pid is not None
        assert any("unpd-sources" in target for target in procs.fds(pid).values())
    fd = next(fd for fd, target in procs.fds(workers[0]).items() if "unpd-sources" in target)
    memory = Sources(os.open(f"/proc/{workers[0]}/fd/{fd}", os.O_RDWR), bytes(16))
    memory.reach(2)
    for row in range(2):  # those of the exporter and the worker
        SourceLane(memory, row).source_opened(1 + row, 1.0)
    unpd.metric_becomes(2, "unpd_sources_tracked")
    procs.kill(workers)
    unpd.wait_respawned(workers)
    unpd.metric_becomes(1, "unpd_sources_tracked")
    memory.close()
