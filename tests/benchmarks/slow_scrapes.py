"""Measures echo beside slow clients of the metrics port, and a scraper's scrapes.

The slow clients are a process of their own: ``python -m tests.benchmarks.slow_scrapes
PORT`` keeps SLOW connections open there. Half of them send a request byte by byte, the
others ask for a page and read nothing. The exporter would end them after some seconds;
a block of measurements is shorter.
"""

import contextlib
import http.client
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.benchmarks.daemon import LINE_S, MS, Daemon, running_daemon
from tests.support import ROOT
from tests.support.threads import beside
from tests.support.waiting import pause

SLOW = 300
WORKERS = 2
BLOCKS, PROBES = 15, 1000
"""Blocks of round trips alone and beside the slow clients, by turns. The figures are
medians of the blocks: a disturbance of the machine makes one block slow, and may triple
the 99th percentile of all round trips together.
"""
BETWEEN_S = 0.001
SCRAPE_S = 0.2
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
BYTE_S = 0.2
US = 1e6


@dataclass(slots=True)
class Probes:
    """The 99th percentiles of the round trips of each block in microseconds, alone and
    beside the slow clients, and the scrapes beside them in milliseconds.
    """

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    scrapes: list[float] = field(default_factory=list)


def measure() -> dict[str, float]:
    """Measure all figures. The ratio is the median of those of neighbouring blocks."""
    probes = Probes()
    with running_daemon(WORKERS) as daemon:
        daemon.line("master.ready")
        daemon.settle()
        with socket.create_connection(("127.0.0.1", daemon.place.echo)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _probe(sock)
            for _ in range(BLOCKS):
                with _scraper(daemon, []):
                    probes.alone.append(_p99(_probe(sock)))
                with _slow_clients(daemon), _scraper(daemon, probes.scrapes):
                    probes.beside.append(_p99(_probe(sock)))
    ratios = [beside / alone for alone, beside in zip(probes.alone, probes.beside, strict=True)]
    return {
        "echo_p99_us": statistics.median(probes.alone),
        "echo_p99_slow_us": statistics.median(probes.beside),
        "p99_slow_over_alone": statistics.median(ratios),
        "scrape_slow_ms": max(probes.scrapes),
    }


def _p99(numbers: list[float]) -> float:
    return statistics.quantiles(numbers, n=100)[-1]


def _probe(sock: socket.socket) -> list[float]:
    """Return the times of some round trips, at a pace that leaves the worker idle."""
    found = []
    for _ in range(PROBES):
        pause(BETWEEN_S)
        began = time.monotonic()
        sock.sendall(b"x" * 64)
        assert sock.recv(64)
        found.append((time.monotonic() - began) * US)
    return found


@contextlib.contextmanager
def _scraper(daemon: Daemon, times: list[float]) -> Iterator[None]:
    """Scrape as Prometheus does, but often, and add the time of each scrape in
    milliseconds. RuntimeError at the end if one failed.
    """
    over, failures = threading.Event(), list[Exception]()

    def scrape() -> None:
        while not over.wait(SCRAPE_S):
            connection = http.client.HTTPConnection("127.0.0.1", daemon.place.metrics, LINE_S)
            with contextlib.closing(connection):
                began = time.monotonic()
                try:
                    connection.request("GET", "/metrics")
                    assert connection.getresponse().read()
                except (OSError, http.client.HTTPException, AssertionError) as failure:
                    failures.append(failure)
                times.append((time.monotonic() - began) * MS)

    with beside(scrape, stop=over.set):
        yield
    if failures:
        raise RuntimeError(f"a scrape failed: {failures[0]!r}")


@contextlib.contextmanager
def _slow_clients(daemon: Daemon) -> Iterator[None]:
    """Keep the slow clients in the block, which begins when all have been there."""
    words = [sys.executable, "-m", "tests.benchmarks.slow_scrapes", str(daemon.place.metrics)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"connected\n"
        try:
            yield
        finally:
            process.stdin.close()


def be_slow(port: int) -> None:
    """Keep the connections until standard input ends, or the request. One that the
    exporter ends, because it has too many, comes again.
    """
    address = ("127.0.0.1", port)
    socks = [socket.create_connection(address) for _ in range(SLOW)]
    senders, readers = socks[::2], socks[1::2]
    for sock in readers:
        sock.sendall(REQUEST)
    print("connected", flush=True)
    for byte in REQUEST:
        if select.select([sys.stdin], [], [], BYTE_S)[0]:
            return
        for number, sock in enumerate(senders):
            try:
                sock.send(bytes([byte]))
            except OSError:
                sock.close()
                senders[number] = socket.create_connection(address)


if __name__ == "__main__":
    be_slow(int(sys.argv[1]))
