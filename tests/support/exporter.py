"""A real exporter without a master: ``python -m tests.support.exporter SOCKET_FD
BOARD_FD LOOPBACK CONNECTION_S STALLED_S``, and how a test starts it.

The process that started it counts as its master when it looks for zombies. SIGTERM ends
it, as the master's order would.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client import parser as text_parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.registry import Collector

from unpd.board import layout, memory
from unpd.board.halted import HaltedWriter
from unpd.board.history import HistoryWriter
from unpd.board.memory import Scoreboard
from unpd.kernel.signals import SignalQueue, open_wakeup_pipe
from unpd.logs import Log
from unpd.metrics.catalog.table import METRICS
from unpd.metrics.exporter import (
    FINISH_S,
    STALLED_S,
    ExporterContext,
    PageContext,
    run_exporter,
)
from unpd.metrics.families import family
from unpd.metrics.labels import Labels, ListenerLabels, Server, TargetLabels
from unpd.metrics.page.files import PageFiles
from unpd.metrics.page.news import News
from unpd.metrics.reading import Reading
from unpd.names import ChildKind
from unpd.sinks import standard_error

WORKERS = frozenset({Server(ChildKind.WORKER, "default")})
"""The children that serve both services."""
ROOT = Path(__file__).parents[2]
BEAT_ROW = layout.MAX_ROWS - 1
"""The row whose heartbeat cell counts the exporter's turns."""


class BoardCollector(Collector):
    """Yields every metric of the catalogue, with all that prometheus_client does for
    it: what the exporter's own rendering is compared with.
    """

    def __init__(self, board: Scoreboard, labels: Labels, tracked: Callable[[], int]) -> None:
        self._board, self._labels, self._tracked = board, labels, tracked

    def collect(self) -> Iterable[Metric]:
        """Yield all families of one reading."""
        reading = Reading.take(self._board, self._labels, self._tracked())
        return [family(row, row.series(reading)) for row in METRICS]


def make_registry(
    board: Scoreboard, labels: Labels, tracked: Callable[[], int] = int
) -> CollectorRegistry:
    """A registry of that collector alone."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BoardCollector(board, labels, tracked))
    return registry


def make_labels(master_pid: int) -> Labels:
    """Labels of two services in one pool, of which echo has a TCP and a UNIX listener,
    and of a pool that serves nothing.
    """
    return Labels(
        services=(("daytime", 0), ("echo", 1)),
        pools=(("default", 0), ("slow", 1)),
        listeners=(
            ListenerLabels("daytime", "tcp://[::]:13", 0, is_tcp=True),
            ListenerLabels("echo", "tcp://[::]:7", 1, is_tcp=True),
            ListenerLabels("echo", "unix:///run/unpd/echo.sock", 2, is_tcp=False),
        ),
        targets=(
            TargetLabels("web", "tcp://192.0.2.1:80", 0),
            TargetLabels("web", "unix:///run/app.sock", 1),
        ),
        served_by=dict.fromkeys(("daytime", "echo"), WORKERS),
        version="1.2.3",
        master_pid=master_pid,
    )


def make_page() -> PageContext:
    """What a status page needs, of a master that has not recorded or said anything."""
    return PageContext(HistoryWriter().history, PageFiles.read(), News(), HaltedWriter().halted)


@dataclass(frozen=True, slots=True)
class RunningExporter:
    """An exporter that serves on ``address``; ``stderr`` fills up with its log
    lines.
    """

    process: subprocess.Popen[str]
    board: Scoreboard
    board_fd: int
    address: tuple[str, int] | str
    stderr: list[str]

    def connect(self) -> socket.socket:
        """Connect to it, with a time limit on each operation."""
        sock = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        sock.settimeout(10)
        try:
            sock.connect(self.address)
        except OSError:
            sock.close()
            raise
        return sock

    def ask(self, request: bytes) -> bytes:
        """Send ``request``, read to the end or a reset; return what came before it."""
        with self.connect() as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(request)
            return read_all(sock)

    def get(self, path: str, *headers: str, method: str = "GET") -> "Answer":
        """Send a well-formed request and return its answer."""
        return Answer.parse(
            self.ask(
                "\r\n".join(
                    (f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", "")
                ).encode()
            )
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Answer":
        """Take an answer apart. ValueError if it is not HTTP."""
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        return cls(
            int(first.split()[1]),
            {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)},
            body,
        )


def parse_openmetrics(text: str) -> list[Metric]:
    """The families of an exposition in OpenMetrics. ValueError if it is malformed."""
    return list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def parse_text(text: str) -> list[Metric]:
    """The families of an exposition as text. ValueError if it is malformed."""
    return list(text_parser.text_string_to_metric_families(text))


def read_all(sock: socket.socket) -> bytes:
    """Read until the end or a reset."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := sock.recv(65536):
            received += chunk
    return received


@contextlib.contextmanager
def running_exporter(
    listener: socket.socket,
    connection_s: float = 10.0,
    loopback: bool = True,
    stalled_s: float = STALLED_S,
) -> Iterator[RunningExporter]:
    """Run an exporter on ``listener``, which is closed here. At the end send SIGTERM;
    the exporter has five seconds to end.
    """
    listener.listen(128)
    listener.setblocking(False)
    board_fd = memory.create()
    command = [
        sys.executable,
        "-m",
        "tests.support.exporter",
        str(listener.fileno()),
        str(board_fd),
        str(int(loopback)),
        str(connection_s),
        str(stalled_s),
    ]
    process = subprocess.Popen(
        command, pass_fds=(listener.fileno(), board_fd), stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    address = listener.getsockname()
    listener.close()
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lines.extend, args=(process.stderr,))
    reader.start()
    try:
        yield RunningExporter(process, Scoreboard(board_fd), board_fd, address, lines)
        process.terminate()
        process.wait(5)
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()
        os.close(board_fd)


def main() -> None:
    """Be the exporter."""
    sock_fd, board_fd, loopback, connection_s, stalled_s = sys.argv[1:]
    signal_queue = SignalQueue()
    signal_queue.install([signal.SIGTERM])
    wakeup_fd, _ = open_wakeup_pipe()
    board = Scoreboard(int(board_fd))
    cells = board.row(BEAT_ROW)

    def beat() -> None:
        cells[layout.Row.BEAT_NS] += 1

    context = ExporterContext(
        sock=socket.socket(fileno=int(sock_fd)),
        board=board,
        labels=make_labels(os.getppid()),
        beat=beat,
        wakeup_fd=wakeup_fd,
        stop_within=lambda: FINISH_S if signal.SIGTERM in signal_queue.take() else None,
        report=Log(standard_error(), "info", "text").event,
        ready=lambda: None,
        loopback=bool(int(loopback)),
        page=make_page(),
        connection_s=float(connection_s),
        stalled_s=float(stalled_s),
    )
    run_exporter(context)


if __name__ == "__main__":
    main()
