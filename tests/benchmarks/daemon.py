"""The daemon's own figures: how soon it is ready, how soon a dead worker has a
successor, a reload, a scrape, and its memory. Not bound to one processor.
"""

import contextlib
import functools
import http.client
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.benchmarks.accounts import snapshot
from tests.benchmarks.figures import FAILURES, Cell, Sample
from tests.benchmarks.memory import pss_alone
from tests.benchmarks.quiet import Quiet
from tests.benchmarks.servers import Place, end, environment, place, unpd_config, with_us
from tests.support import ROOT, procs
from tests.support.waiting import pause, until
from unpd.metrics.pages import CACHED_S

LINE_S = 20.0
SETTLED_S = 1.1
"""A worker that lived less than a second counts as dead young: its successor would be
delayed.
"""
VERSIONS = 5
SCRAPES = 7
MB = 1e6
MS = 1000.0


class Daemon:
    """An unpd whose log we read as it comes."""

    def __init__(self, where: Place, workers: int) -> None:
        config = where.directory / "unpd.toml"
        config.write_text(unpd_config(where, workers))
        self.place = where
        self.workers = workers
        self._pending = b""
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            with_us(*command(), "run", "--config", str(config)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=ROOT,
            bufsize=0,
            env=environment(),
        )

    def line(self, event: str) -> float:
        """When the next line of ``event`` was read; RuntimeError if it does not
        come.
        """
        deadline = time.monotonic() + LINE_S
        assert self.process.stderr is not None
        while True:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                if line.split(maxsplit=3)[2:3] == [event.encode()]:  # behind the time and the level
                    return time.monotonic()
            ready, _, _ = select.select(
                [self.process.stderr], [], [], max(0.0, deadline - time.monotonic())
            )
            piece = os.read(self.process.stderr.fileno(), 65536) if ready else b""
            if not piece:
                raise RuntimeError(f"unpd did not say {event}")
            self._pending += piece

    def child_pids(self, kind: str) -> list[int]:
        """The children whose title says ``kind``."""
        return [
            child.pid
            for child in procs.children(self.process.pid)
            if child.title.startswith(f"unpd: {kind}")
        ]

    def settle(self) -> None:
        """Wait for all workers, and for those of an earlier generation to go."""
        until(
            lambda: len(self.child_pids("worker")) == self.workers,
            LINE_S,
            "all workers, and no more",
        )


def command() -> Sequence[str]:
    """How to call unpd: as it was installed beside this interpreter, else as a
    module.
    """
    script = Path(sys.executable).with_name("unpd")
    return (str(script),) if script.exists() else (sys.executable, "-m", "unpd")


@contextlib.contextmanager
def _daemon(workers: int) -> Iterator[Daemon]:
    with place() as where:
        daemon = Daemon(where, workers)
        try:
            yield daemon
        finally:
            end(daemon.process)
            if daemon.process.stderr is not None:
                daemon.process.stderr.close()


def run_rounds(rounds: int, tries: int, quiet: Quiet) -> Cell:
    """The figures of all rounds, undisturbed as long as patience lasts."""

    def measure() -> tuple[Sample, float]:
        before = snapshot(quiet.cpus)
        figures = _round(tries)
        after = snapshot(quiet.cpus)
        return figures, after.foreign_s(before, ()) / (2 * (after.at - before.at))

    cell = Cell()
    quiet.share(1)
    try:
        for number in range(rounds):
            taken = quiet.take(measure)
            cell.add(number, taken.value, disturbed=taken.disturbed, thrown_away=taken.thrown_away)
    except FAILURES as failure:
        cell.blame(failure)
    return cell


def _round(tries: int) -> dict[str, float]:
    """One round of all figures, each the median of a few tries."""
    figures = {
        "nothing_ms": _median(VERSIONS, _nothing_ms),
        "version_ms": _median(VERSIONS, _version_ms),
        "ready_ms": _median(tries, _ready_ms),
    }
    for workers in (2, 16, 64):
        with _daemon(workers) as daemon:
            daemon.line("master.ready")
            daemon.settle()
            _greet(daemon)
            figures[f"scrape_{workers}_ms"] = _scrape_ms(daemon)
            if workers == 2:
                figures |= _memory_mb(daemon)
                figures["respawn_ms"] = _median(tries, functools.partial(_respawn_ms, daemon))
                figures["reload_ms"] = _median(tries, functools.partial(_reload_ms, daemon))
    return figures


def _median(tries: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(tries))


def _nothing_ms() -> float:
    """A yardstick: what the same interpreter takes to do nothing tells how fast the
    machine was in this round.
    """
    return _run_ms(sys.executable, "-I", "-S", "-c", "pass")


def _version_ms() -> float:
    return _run_ms(*command(), "--version")


def _run_ms(*words: str) -> float:
    began = time.monotonic()
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT, env=environment())
    return (time.monotonic() - began) * MS


def _ready_ms() -> float:
    """From before the fork of its process to the line that says ready. The program that
    precedes unpd in that process (:func:`with_us`) takes a millisecond of it.
    """
    with _daemon(2) as daemon:
        return (daemon.line("master.ready") - daemon.began) * MS


def _respawn_ms(daemon: Daemon) -> float:
    """From the kill of a worker to the line that says that its successor is ready."""
    daemon.settle()
    pause(SETTLED_S)
    worker = daemon.child_pids("worker")[
        0
    ]  # a look at all processes, which costs milliseconds: not within the time
    began = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    daemon.line("worker.died")
    return (daemon.line("worker.ready") - began) * MS


def _reload_ms(daemon: Daemon) -> float:
    """From HUP to the line that says that the new generation, all of it, has taken
    over.
    """
    daemon.settle()
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGHUP)
    return (daemon.line("reload.succeeded") - began) * MS


def _greet(daemon: Daemon) -> None:
    """A few clients, so that the workers have run what they run."""
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", daemon.place.echo)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(64) == b"hello"
        with socket.create_connection(("127.0.0.1", daemon.place.daytime)) as sock:
            assert sock.recv(64)


def _scrape_ms(daemon: Daemon) -> float:
    """One scrape on a connection that stays, as Prometheus does it; the first is not
    counted, and none finds the page of the one before.
    """
    connection = http.client.HTTPConnection("127.0.0.1", daemon.place.metrics, timeout=LINE_S)

    def scrape() -> float:
        pause(1.5 * CACHED_S)
        began = time.monotonic()
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        body = response.read()
        assert response.status == http.client.OK
        assert body
        return (time.monotonic() - began) * MS

    with contextlib.closing(connection):
        scrape()
        return _median(SCRAPES, scrape)


def _memory_mb(daemon: Daemon) -> dict[str, float]:
    """PSS after clients and scrapes, as if nobody else ran the same interpreter, as we
    do.
    """
    workers, exporters = daemon.child_pids("worker"), daemon.child_pids("exporter")
    each = {
        pid: found / MB
        for pid, found in pss_alone([daemon.process.pid, *workers, *exporters]).items()
    }
    return {
        "pss_master_mb": each[daemon.process.pid],
        "pss_worker_mb": statistics.mean(each[pid] for pid in workers),
        "pss_exporter_mb": sum(each[pid] for pid in exporters),
        "pss_all_mb": sum(each.values()),
    }
