"""A faulty worker writes nonsense into the shared memory. The master does not rely on
it, and the nonsense does not stay.
"""

import contextlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import clients, faults, loads, procs, scale
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import status
from tests.support.waiting import until
from unpd.board import layout
from unpd.names import EndCause

CONCURRENCY = 32
WORKER_DIED = layout.Service.ENDED + layout.END_CAUSES.index(EndCause.WORKER_DIED)
FORGED = 1 << 40
SLOW_S = 1.0
"""No answer costs as much processor time as this. A busy machine adds none of it."""

TOGGLE = """
import os, sys
memory = os.open(sys.argv[1], os.O_RDWR)
start, end = int(sys.argv[2]), int(sys.argv[3])
patterns = [bytes.fromhex(word) * ((end - start) // 8) for word in ("00" * 8, "ff" * 8)]
while True:
    for pattern in patterns:
        os.pwrite(memory, pattern, start)
"""


class Scribbler:
    """Writes into the scoreboard as one of its processes could, through the mapping in
    that process's memory (proc(5), /proc/PID/mem).
    """

    def __init__(self, pid: int, rng: random.Random) -> None:
        maps = (Path("/proc") / str(pid) / "maps").read_text().splitlines()
        self._start = int(
            next(line for line in maps if "unpd-scoreboard" in line).partition("-")[0], 16
        )
        self._memory = Path("/proc") / str(pid) / "mem"
        self._rng = rng

    def scribble(self, first: int, count: int, writes: int) -> None:
        """Put nonsense into ``writes`` of the ``count`` words that begin at word
        ``first``.
        """
        with self._memory.open("r+b", buffering=0) as memory:
            for _ in range(writes):
                memory.seek(self._start + (first + self._rng.randrange(count)) * layout.WORD_BYTES)
                memory.write(self._nonsense().to_bytes(layout.WORD_BYTES, "little"))

    def put(self, word: int, value: int) -> None:
        """Write one word."""
        with self._memory.open("r+b", buffering=0) as memory:
            memory.seek(self._start + word * layout.WORD_BYTES)
            memory.write(value.to_bytes(layout.WORD_BYTES, "little"))

    @contextlib.contextmanager
    def toggling(self, first: int, count: int) -> Iterator[None]:
        """For the length of the block, write 0 and the largest number in turns into the
        ``count`` words from ``first`` on, as fast as a process can.
        """
        place = self._start + first * layout.WORD_BYTES
        bounds = (str(place), str(place + count * layout.WORD_BYTES))
        with subprocess.Popen([sys.executable, "-c", TOGGLE, str(self._memory), *bounds]) as mad:
            try:
                yield
            finally:
                mad.kill()

    def _nonsense(self) -> int:
        return self._rng.choice(
            (
                0,
                1,
                (1 << 64) - 1,
                1 << 63,
                layout.SANE_COUNT,
                layout.SANE_COUNT - 1,
                self._rng.randrange(1 << 64),
            )
        )


def assert_exposition_is_valid(unpd: Unpd) -> None:
    """Assert that a scrape succeeds and parses, and that no value is negative or
    absurd.
    """
    answer = unpd.get("/metrics")
    assert answer.status == 200
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert "unpd_workers" in {family.name for family in families}
    for family in families:
        for sample in family.samples:
            assert 0 <= sample.value < 2.0**70, sample


@pytest.mark.slow
@faults.requires_strace()
def test_nonsense_in_a_workers_row(launch: Launch, rng: random.Random) -> None:
    """Nonsense in a worker's row affects only that worker. Scrapes stay valid, the
    others serve, and the master neither dies nor kills. After the worker's death the
    next worker uses its row.
    """
    unpd = launch("[pools.default]\nworkers = 3\n")
    unpd.expect_errors("worker.crashed", "connection.failed")
    unpd.expect_traceback()
    with loads.running(unpd.address("echo"), rate=300, concurrency=CONCURRENCY) as client:
        for _ in range(5):
            mad = min(unpd.workers())
            row = row_of(mad)
            scribbler = Scribbler(mad, rng)
            scribbler.scribble(
                layout.Board.ROWS + row * layout.Row.size,
                layout.Row.size,
                scale.many(20_000, at_least=2000),
            )
            assert_exposition_is_valid(unpd)
            procs.kill([mad])
            await_successor(unpd, mad, count=3)
            assert_exposition_is_valid(unpd)
        crashed = len(unpd.log_events("worker.crashed"))
        client.more(100)
        client.stop()
    assert len(unpd.log_events("worker.crashed")) == crashed
    assert not unpd.log_events("worker.hung")
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"


def await_successor(unpd: Unpd, dead: int, count: int) -> None:
    """Wait until ``dead`` is reaped and ``count`` workers exist again, by their titles.
    The back-off may have grown.
    """
    until(
        lambda: dead not in procs.child_pids(unpd.pid) and len(unpd.workers()) == count,
        60.0,
        f"the successor of {dead}",
    )


def row_of(pid: int) -> int:
    """Return the row of the scoreboard that ``pid`` has, read from the directory in its
    own mapping.
    """
    maps = (Path("/proc") / str(pid) / "maps").read_text().splitlines()
    start = int(next(line for line in maps if "unpd-scoreboard" in line).partition("-")[0], 16)
    with (Path("/proc") / str(pid) / "mem").open("rb", buffering=0) as memory:
        for row in range(layout.MAX_ROWS):
            memory.seek(
                start
                + (layout.Board.DIRECTORY + row * layout.Directory.size + layout.Directory.PID)
                * layout.WORD_BYTES
            )
            if int.from_bytes(memory.read(layout.WORD_BYTES), "little") == pid:
                return row
    raise AssertionError(f"{pid} has no row")


@pytest.mark.slow
@faults.requires_strace()
def test_nonsense_in_the_masters_own_area(
    launch: Launch, rng: random.Random, tmp_path: Path
) -> None:
    """A worker that overwrites the master's part of the board makes the metrics useless
    but changes no decision. The master reaps, respawns, reloads and stops.
    """
    unpd = launch("[pools.default]\nworkers = 2\n")
    for _ in range(2):
        mad, victim = unpd.workers()
        Scribbler(mad, rng).scribble(0, layout.Board.ROWS, scale.many(100_000, at_least=20_000))
        procs.kill([victim])
        await_successor(unpd, victim, count=2)
        assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    Scribbler(unpd.workers()[0], rng).put(layout.Master.GENERATION, (1 << 64) - 1)
    later = tmp_path / "later.sock"
    unpd.config_path.write_text(
        f'{unpd.config_path.read_text()}\n[services.later]\ntype = "echo"\nlisten = ["unix://{later}"]\n'
    )
    answer = unpd.run("reload", "--config", str(unpd.config_path))
    assert answer.returncode == 0, answer.stderr
    assert clients.converse(str(later), b"hello") == b"hello"
    assert unpd.stop() == 0


def work_s(unpd: Unpd) -> float:
    """How long the master and its exporter have worked, in seconds."""
    exporter = unpd.exporter()
    assert exporter is not None
    return procs.cpu_s(unpd.pid) + procs.cpu_s(exporter)


@pytest.mark.slow
@faults.requires_strace()
def test_a_word_that_changes_all_the_time(launch: Launch, rng: random.Random) -> None:
    """A worker that toggles a word of its sibling, and forges the number of rows in
    use, neither stops the master nor slows it down: status and scrapes come in time,
    and the sibling is replaced whenever it dies with open connections.
    """
    unpd = launch("[pools.default]\nworkers = 2\n")
    mad, sibling = unpd.workers()
    scribbler = Scribbler(mad, rng)
    word = layout.row_start(row_of(sibling)) + layout.service_cells(0) + WORKER_DIED
    beyond = layout.row_start(layout.MAX_ROWS - 1) + layout.service_cells(0)
    scribbler.put(beyond + layout.Service.ACCEPTED, FORGED)
    with scribbler.toggling(word, 1):
        for _ in range(scale.many(8, at_least=5)):
            with clients.idle(unpd.address("echo"), 16):
                scribbler.put(layout.Master.ROWS_USED, (1 << 64) - 1)
                began_s = work_s(unpd)
                shown = status(unpd)
                assert shown["ready"] is True
                assert shown["services"][0]["accepted"] < FORGED, "read rows never given out"
                assert_exposition_is_valid(unpd)
                assert work_s(unpd) - began_s < SLOW_S
                (victim,) = set(unpd.workers()) - {mad}
                procs.kill([victim])
                await_successor(unpd, victim, count=2)
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"


def touched_bytes(pid: int) -> int:
    """How much memory of the scoreboard a process has touched (proc_pid_smaps(5))."""
    maps = (Path("/proc") / str(pid) / "smaps").read_text()
    board = maps.split("unpd-scoreboard", 1)[1]
    return 1024 * int(board.split("Rss:", 1)[1].split()[0])


@faults.requires_strace()
def test_a_forged_number_of_rows_does_not_make_the_exporter_read_them(
    launch: Launch, rng: random.Random
) -> None:
    """A scrape reads some of the 2048 rows, and not all, whatever number of rows a
    worker forges: the master has told the exporter how many there are.
    """
    unpd = launch("[pools.default]\nworkers = 1\n")
    exporter = unpd.exporter()
    assert exporter is not None
    (mad,) = unpd.workers()
    Scribbler(mad, rng).put(layout.Master.ROWS_USED, (1 << 64) - 1)
    assert_exposition_is_valid(unpd)
    rows = touched_bytes(exporter) / (layout.Row.size * layout.WORD_BYTES)
    assert rows < layout.MAX_ROWS / 8
