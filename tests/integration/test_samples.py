"""What the master samples of the kernel and of its workers, and writes on the board."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory_sink import MemorySink
from tests.support.runtimes import running
from unpd.board import layout
from unpd.board.layout import NS, Master, Row
from unpd.core.model import Child, Slot
from unpd.logs import Log
from unpd.master import sampling
from unpd.master.runtime import ChildProcess, Runtime
from unpd.names import ChildKind, ChildPhase

CONFIG = 'metrics.listen = false\n[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """A master without children."""
    with running(CONFIG, Log(MemorySink().sink, "info", "text")) as made:
        yield made
        made.processes.clear()


def losses(runtime: Runtime) -> tuple[int, int]:
    """The counts on the board."""
    words = runtime.board.words
    return words[Master.LISTEN_OVERFLOWS], words[Master.LISTEN_DROPS]


def test_losses_of_listeners_count_from_the_start(runtime: Runtime, tmp_path: Path) -> None:
    """What the kernel had counted before does not. While it tells nothing, the counts
    stay; they never go back.
    """
    netstat = tmp_path / "netstat"
    for told, counted in (((100, 200), (0, 0)), ((103, 210), (3, 10)), ((1, 2), (3, 10))):
        netstat.write_text(f"TcpExt: ListenOverflows ListenDrops\nTcpExt: {told[0]} {told[1]}\n")
        sampling.sample_losses(runtime, netstat)
        assert losses(runtime) == counted
    netstat.unlink()
    sampling.sample_losses(runtime, netstat)
    assert losses(runtime) == (3, 10)


def child(
    runtime: Runtime, birth: int, kind: ChildKind, *, reported: bool = True, born_at: float = 0.0
) -> memoryview:
    """A child of the default pool; its row is that of its birth."""
    one = Child(birth, Slot(kind, "default", birth), 1, ChildPhase.READY, born_at)
    # The sample needs no more of a child than its row.
    runtime.processes[birth] = ChildProcess(
        one,
        4711,
        None,
        birth,
        None,  # type: ignore[arg-type]
        reported=reported,
    )
    return runtime.board.row(birth)


def test_the_busy_share_is_that_of_ready_workers(runtime: Runtime) -> None:
    """Other children of the pool do not count."""
    rows = [
        child(runtime, 1, ChildKind.WORKER),
        child(runtime, 2, ChildKind.DISPATCHER),
        child(runtime, 3, ChildKind.WORKER, reported=False),
    ]
    for at, busy_s in ((10.0, 1.0), (11.0, 1.25)):
        for row in rows:
            row[Row.BEAT_NS] = int(at * NS)
        rows[0][Row.BUSY_NS] = int(busy_s * NS)
        sampling.sample_busyness(runtime, at)
    column = runtime.columns.pools.column("default")
    assert runtime.board.words[Master.BUSY + column] == 2500
    runtime.processes.clear()
    sampling.sample_busyness(runtime, 12.0)
    assert runtime.board.words[layout.Master.BUSY + column] == 0


def test_a_worker_in_a_used_row_counts_from_its_first_heartbeat(runtime: Runtime) -> None:
    """It is ready before it beats. Until then the row may show the heartbeat and the
    busy time of the child before it.
    """
    row = child(runtime, 1, ChildKind.WORKER, born_at=100.0)
    row[Row.BEAT_NS], row[Row.BUSY_NS] = 99 * NS, 50 * NS
    word = Master.BUSY + runtime.columns.pools.column("default")
    for at in (100.5, 101.0):
        sampling.sample_busyness(runtime, at)
        assert runtime.board.words[word] == 0
    for at, busy_s in ((102.0, 0.5), (103.0, 1.0)):
        row[Row.BEAT_NS], row[Row.BUSY_NS] = int(at * NS), int(busy_s * NS)
        sampling.sample_busyness(runtime, at)
    assert runtime.board.words[word] == 5000
