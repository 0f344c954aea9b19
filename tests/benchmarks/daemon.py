"""Measures the daemon itself: the time to ready, to the successor of a dead worker, to
a reload, to a scrape, and the memory. It is not bound to one processor.

:mod:`tests.benchmarks.access` measures its access rules with the same daemon.
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
from tests.benchmarks.configs import Place, unpd_config
from tests.benchmarks.figures import FAILURES, Cell, Sample
from tests.benchmarks.memory import pss_alone
from tests.benchmarks.quiet import Quiet
from tests.benchmarks.servers import end, environment, place, with_us
from tests.support import ROOT, procs
from tests.support.waiting import pause, until
from unpd.metrics.pages import CACHED_S

LINE_S = 20.0
SETTLED_S = 1.1
"""A worker that lived less than a second died early, and its successor would be
delayed.
"""
VERSIONS = 5
SCRAPES = 7
MB = 1e6
MS = 1000.0

MANY_SERVICES = "".join(
    f'[services.more{number}]\ntype = "echo"\nlisten = ["tcp://127.0.0.1:0"]\n'
    for number in range(62)
)
"""Beside echo and daytime: the most services that a daemon may have."""


class Daemon:
    """A running unpd, with ``more`` at the end of its configuration. Its log is read as
    it comes.
    """

    def __init__(self, where: Place, workers: int, more: str = "") -> None:
        config = where.directory / "unpd.toml"
        config.write_text(unpd_config(where, workers) + more)
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
        """Return the time at which the next line of ``event`` was read. RuntimeError if
        it does not come.
        """
        deadline, line = time.monotonic() + LINE_S, b""
        assert self.process.stderr is not None
        while True:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                if line.split(maxsplit=3)[2:3] == [event.encode()]:  # after the time and the level
                    return time.monotonic()
            ready, _, _ = select.select(
                [self.process.stderr], [], [], max(0.0, deadline - time.monotonic())
            )
            piece = os.read(self.process.stderr.fileno(), 65536) if ready else b""
            if not piece:
                last = line.decode(errors="replace")
                raise RuntimeError(f"unpd did not log {event}; its last line is: {last}")
            self._pending += piece

    def child_pids(self, kind: str) -> list[int]:
        """Return the children whose title names ``kind``."""
        return [
            child.pid
            for child in procs.children(self.process.pid)
            if child.title.startswith(f"unpd: {kind}")
        ]

    def settle(self) -> None:
        """Wait until all workers are ready and those of an earlier generation are
        gone.
        """
        until(
            lambda: len(self.child_pids("worker")) == self.workers,
            LINE_S,
            "all workers to be ready and no others to be left",
        )


def command() -> Sequence[str]:
    """Return the command of unpd: the installed program beside this interpreter, or the
    module.
    """
    script = Path(sys.executable).with_name("unpd")
    return (str(script),) if script.exists() else (sys.executable, "-m", "unpd")


@contextlib.contextmanager
def running_daemon(workers: int, more: str = "") -> Iterator[Daemon]:
    """Start unpd, and end it at the end of the block. It need not be ready yet."""
    with place() as where:
        daemon = Daemon(where, workers, more)
        try:
            yield daemon
        finally:
            end(daemon.process)
            if daemon.process.stderr is not None:
                daemon.process.stderr.close()


def run_rounds(rounds: int, one_round: Callable[[], Sample], quiet: Quiet) -> Cell:
    """Measure the figures of all rounds, undisturbed while patience lasts."""

    def measure() -> tuple[Sample, float]:
        before = snapshot(quiet.cpus)
        figures = one_round()
        after = snapshot(quiet.cpus)
        return figures, after.foreign_s(before, ()) / (2 * (after.at - before.at))

    cell = Cell()
    try:
        for number in range(rounds):
            taken = quiet.take(measure)
            cell.add(number, taken.value, disturbed=taken.disturbed, thrown_away=taken.thrown_away)
    except FAILURES as failure:
        cell.blame(failure)
    return cell


def round_of_daemon(tries: int) -> dict[str, float]:
    """Measure one round of all figures. Each is the median of a few tries."""
    figures = {
        "nothing_ms": _median(VERSIONS, _nothing_ms),
        "version_ms": _median(VERSIONS, _version_ms),
        "ready_ms": _median(tries, _ready_ms),
    }
    for workers in (2, 16, 64):
        with running_daemon(workers) as daemon:
            daemon.line("master.ready")
            daemon.settle()
            _greet(daemon)
            figures[f"scrape_{workers}_ms"] = _scrape_ms(daemon)
            if workers == 2:
                figures |= _memory_mb(daemon)
                figures["respawn_ms"] = _median(tries, functools.partial(_respawn_ms, daemon))
                figures["reload_ms"] = _median(tries, functools.partial(_reload_ms, daemon))
    with running_daemon(16, MANY_SERVICES) as daemon:
        daemon.line("master.ready")
        daemon.settle()
        _greet(daemon)
        figures["scrape_16_64_ms"] = _scrape_ms(daemon)
    return figures


def _median(tries: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(tries))


def _nothing_ms() -> float:
    """Measure how long the same interpreter takes to do nothing. It shows how fast the
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
    """Measure from before the fork of the process to the line that says ready. The
    program that precedes unpd in that process (:func:`with_us`) takes a millisecond of
    it.
    """
    with running_daemon(2) as daemon:
        return (daemon.line("master.ready") - daemon.began) * MS


def _respawn_ms(daemon: Daemon) -> float:
    """Measure from the kill of a worker to the line that says that its successor is
    ready.
    """
    daemon.settle()
    pause(SETTLED_S)
    worker = daemon.child_pids("worker")[
        0
    ]  # a scan of all processes takes milliseconds and must not be in the measured time
    began = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    daemon.line("worker.died")
    return (daemon.line("worker.ready") - began) * MS


def _reload_ms(daemon: Daemon) -> float:
    """Measure from HUP to the line that says that the whole new generation has taken
    over. Every child is born with grace_s, so another value replaces all of them.
    """
    daemon.settle()
    config = daemon.place.directory / "unpd.toml"
    text = config.read_text()
    other = text.replace("grace_s = 11\n", "")
    config.write_text(
        text.replace("[daemon]\n", "[daemon]\ngrace_s = 11\n", 1) if other == text else other
    )
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGHUP)
    return (daemon.line("reload.succeeded") - began) * MS


def _greet(daemon: Daemon) -> None:
    """Send a few clients, so that the workers have run their code once."""
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", daemon.place.echo)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(64) == b"hello"
        with socket.create_connection(("127.0.0.1", daemon.place.daytime)) as sock:
            assert sock.recv(64)


def _scrape_ms(daemon: Daemon) -> float:
    """Measure one scrape on a persistent connection, as Prometheus does it. The first
    scrape does not count, and none finds the page of the one before.
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
    """Measure the PSS after clients and scrapes, as if no other program ran the same
    interpreter.
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
