"""Measures echo beside slow clients of the metrics port, and a scraper's scrapes.

The slow clients are a process of their own: ``python -m tests.benchmarks.slow_scrapes
PORT`` keeps SLOW clients there. Half of them send a request byte by byte, the others
ask for a page and read nothing, so that the answer is held up. The exporter has no
room for all: it ends the oldest, and a client that was ended comes again, at most two
turns of TURN_S later.
"""

import contextlib
import http.client
import itertools
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
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
ASKING = [bytes([byte]) for byte in REQUEST]
TURN_S = 0.2
"""How often each slow client sends a byte. They take their turns one after another: a
burst of SLOW of them would keep both processors from the probe.
"""
RECEIVE_BUFFER, SEGMENT_BYTES = 1, 88
"""The least that Linux takes for SO_RCVBUF and TCP_MAXSEG. The kernels of both ends
hold 15 KB of an answer then, and a page has 35 KB. With the small receive buffer alone
they hold 1.6 MB over loopback: the send buffer grows with the size of a segment.
"""
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


class _SlowClient:
    """One slow client of the port. ``pieces``: what it sends, one a turn; after them an
    empty line a turn, because a client that reads nothing learns its end only so.
    """

    def __init__(self, port: int, pieces: Sequence[bytes]) -> None:
        self._port = port
        self._pieces = pieces
        self._come()

    def turn(self) -> None:
        """Send the next piece. Come again instead, if the exporter has ended us."""
        watch = select.poll()
        watch.register(self._sock, select.POLLRDHUP)
        if watch.poll(0):
            self._sock.close()
            self._come()
        else:
            self._send()

    def _come(self) -> None:
        self._sock = socket.socket()
        self._sock.setblocking(False)  # a full accept queue must not hold up the other clients
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        self._sock.connect_ex(("127.0.0.1", self._port))
        self._sent = 0
        self._send()

    def _send(self) -> None:
        piece = self._pieces[self._sent] if self._sent < len(self._pieces) else b"\r\n"
        with contextlib.suppress(BlockingIOError, ConnectionError):  # not yet, or no longer there
            self._sock.send(piece)
            self._sent += 1


def be_slow(port: int) -> None:
    """Keep the clients until standard input ends. Say so when all have come."""
    clients = list[_SlowClient]()
    for number in itertools.count():
        if select.select([sys.stdin], [], [], TURN_S / SLOW)[0]:
            return
        if number < SLOW:
            clients.append(_SlowClient(port, [REQUEST] if number % 2 else ASKING))
        else:
            clients[number % SLOW].turn()
        if number == SLOW - 1:
            print("connected", flush=True)


if __name__ == "__main__":
    be_slow(int(sys.argv[1]))
