"""A real exporter behind a real socket: answers, refusals, bounds, end."""

import contextlib
import dataclasses
import itertools
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import procs
from tests.support.exporter import (
    BEAT_ROW,
    Answer,
    RunningExporter,
    make_labels,
    make_page,
    parse_openmetrics,
    read_all,
    running_exporter,
)
from tests.support.scale import first
from tests.support.threads import beside
from tests.support.waiting import holds, until
from unpd.board import layout, memory
from unpd.board.memory import Entry, Scoreboard
from unpd.kernel import procfs
from unpd.log_events.row import Field
from unpd.metrics.exporter import CONNECTIONS, FINISH_S, ExporterContext, Report, run_exporter
from unpd.metrics.http import LINGER_S
from unpd.metrics.labels import Labels, ListenerLabels
from unpd.names import ChildKind, ChildPhase, MasterPhase

SHORT_S = 0.3
"""The life of a connection in tests that wait for its end."""
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def listener() -> socket.socket:
    """A bound TCP socket on a free port."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningExporter]:
    """One exporter for all tests that leave it as it was. At the end it has logged
    nothing.
    """
    with running_exporter(listener()) as running:
        yield running
    assert running.process.returncode == 0
    assert running.stderr == []


@pytest.fixture
def exporter() -> Iterator[RunningExporter]:
    """An exporter for one test. It ends with code 0 and logs nothing."""
    with running_exporter(listener()) as running:
        yield running
    assert running.process.returncode == 0
    assert running.stderr == []


@pytest.fixture
def hasty() -> Iterator[RunningExporter]:
    """An exporter whose connections have a short life."""
    with running_exporter(listener(), connection_s=SHORT_S) as running:
        yield running
    assert running.process.returncode == 0


def series(exporter: RunningExporter) -> set[str]:
    """The names and labels of all series in a scrape."""
    text = exporter.get("/metrics").body.decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


# --- answers --------------------------------------------------------------------------


def test_metrics_are_text(shared: RunningExporter) -> None:
    """Without an Accept header the metrics come in the text format."""
    plain = shared.get("/metrics")
    assert (plain.status, plain.headers["content-type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    assert b"# HELP unpd_generation " in plain.body


def test_answers_name_no_server_and_close(shared: RunningExporter) -> None:
    """An answer does not name its server, and says that the connection closes."""
    answer = shared.get("/healthz")
    assert answer.body == b"ok\n"
    assert "server" not in answer.headers
    assert answer.headers["connection"] == "close"


def test_keep_alive_of_http_1_0_is_not_promised(shared: RunningExporter) -> None:
    """A client that asks to keep the connection is told that it closes, once. The
    answer bears our version, as that to any other client (RFC 9110, 2.5).
    """
    raw = shared.ask(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert raw.lower().count(b"connection:") == 1
    assert b"Connection: close" in raw


def test_head_and_errors_over_the_wire(shared: RunningExporter) -> None:
    """HEAD has the length without the body; 404, 405 and 421 arrive as such."""
    head = shared.get("/metrics", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 1000
    assert shared.get("/nothing").status == 404
    assert shared.get("/metrics", method="POST").headers["allow"] == "GET, HEAD"
    assert status_of(shared, b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n") == 421


def status_of(exporter: RunningExporter, request: bytes) -> int:
    """The status that answers a request."""
    return Answer.parse(exporter.ask(request)).status


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/healthz", "localhost", 200),
        ("HTTP://127.0.0.1:9867/healthz?a=b", "127.0.0.1:9867", 200),
        ("http://localhost/healthz", "evil.example", 200),
        ("http://evil.example/healthz", "localhost", 421),
        ("http://localhost@evil.example/healthz", "localhost", 421),
        ("http://localhost", "localhost", 200),
        ("http://localhost/nothing", "localhost", 404),
        ("http:///healthz", "localhost", 400),
        ("https://localhost/healthz", "localhost", 400),
        ("localhost:80", "localhost", 400),
        ("*", "localhost", 400),
        ("?", "localhost", 400),
        ("/healthz#", "localhost", 400),
        ("/healthz?", "localhost", 200),
        ("/%68ealthz", "localhost", 200),
    ],
)
def test_a_target_may_be_absolute(
    shared: RunningExporter, target: str, host: str, status: int
) -> None:
    """A target in absolute form is served, and the host in it counts, not the Host
    header (RFC 9112, 3.2.2); a target of another form is refused.
    """
    request_ = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    assert status_of(shared, request_.encode()) == status


def test_http_1_1_without_a_host_is_refused(shared: RunningExporter) -> None:
    """A request of HTTP/1.1 has one Host (RFC 9112, 3.2); one of HTTP/1.0 need not."""
    assert status_of(shared, b"GET /healthz HTTP/1.1\r\n\r\n") == 400
    twice = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
    assert status_of(shared, twice) == 400
    assert status_of(shared, b"GET /healthz HTTP/1.0\r\n\r\n") == 200


def test_a_half_closed_client_gets_its_answer(shared: RunningExporter) -> None:
    """A client that shuts its side down after the request (nc -N) gets its answer."""
    with shared.connect() as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert Answer.parse(read_all(sock)).status == 200


def test_a_request_may_come_in_single_bytes(shared: RunningExporter) -> None:
    """Segments carry no meaning."""
    with shared.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":
            sock.send(bytes([byte]))
        assert Answer.parse(read_all(sock)).body == b"ok\n"


def test_readyz_follows_the_board(exporter: RunningExporter) -> None:
    """/readyz says what the master writes to the board: starting, no ready worker,
    ready, stopping.
    """
    board = exporter.board
    assert exporter.get("/readyz").body == b"starting\n"
    board.words[layout.Master.PHASE] = layout.MASTER_PHASES.index(MasterPhase.RUNNING)
    assert exporter.get("/readyz").body == b"no ready worker for service daytime, echo\n"
    board.enter(
        Entry(
            row=0,
            birth=1,
            pid=1,
            kind=ChildKind.WORKER,
            pool=0,
            phase=ChildPhase.READY,
            generation=1,
        )
    )
    assert exporter.get("/readyz").status == 200
    board.words[layout.Master.PHASE] = layout.MASTER_PHASES.index(MasterPhase.STOPPING)
    stopping = exporter.get("/readyz")
    assert (stopping.status, stopping.body) == (503, b"stopping\n")


# --- numbers --------------------------------------------------------------------------


def values(exporter: RunningExporter) -> dict[tuple[str, ...], float]:
    """Scrape once; the value of each series, by name and label values."""
    text = exporter.get("/metrics", "Accept: application/openmetrics-text").body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse_openmetrics(text)
        for sample in family.samples
    }


def test_zombies_are_counted_while_they_are_zombies(exporter: RunningExporter) -> None:
    """A dead child of the master counts until it is reaped; a living one never does."""
    assert values(exporter)["unpd_zombies",] == 0
    children = [subprocess.Popen(["true"]) for _ in range(3)]
    for child in children:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    until(lambda: values(exporter)["unpd_zombies",] == 3, 5, "three zombies shown")
    assert procfs.zombies_among(procfs.all_processes(), os.getpid()) == 3, (
        "the way without /proc/PID/task/PID/children finds the same"
    )
    for child in children:
        child.wait()
    until(lambda: values(exporter)["unpd_zombies",] == 0, 5, "no zombie shown")


WRITER = """
import sys
import threading
from unpd.board import layout
from unpd.board import memory as sb
board = sb.Scoreboard(int(sys.argv[1]))
words = board.words
words[layout.Master.ROWS_USED] = 8
columns = slice(layout.service_cells(1), layout.service_cells(2))
rows = [board.row(row)[columns] for row in range(8)]
Service = layout.Service
print("go", flush=True)
while True:
    for row, cells in enumerate(rows):
        cells[Service.ACCEPTED] += 1
        cells[Service.RECEIVED] += 1000003
        cells[Service.SENT] += 1000003
        cells[Service.ACCEPT_ERRORS + row] += 1
        cells[Service.DURATION_BUCKETS + row] += 1
        cells[Service.DURATION_SUM_NS] += 12345678
        cells[Service.ENDED + row] += 1
    words[layout.Master.SIGCHLD] += 1
"""


RISING = ("_total", "_bucket", "_count", "_sum")


@pytest.mark.slow
def test_counters_never_go_down_while_a_child_writes() -> None:
    """Beside a writer that never pauses a reader sees every counter only rise, and at
    most one open connection in each row.
    """
    with running_exporter(listener()) as running:
        command = [sys.executable, "-c", WRITER, str(running.board_fd)]
        with subprocess.Popen(
            command, pass_fds=(running.board_fd,), stdout=subprocess.PIPE
        ) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"go\n"
                before: dict[tuple[str, ...], float] = {}
                for _ in range(200):
                    shown = values(running)
                    assert 0 <= shown["unpd_connections_active", "echo"] <= 8
                    fallen = {
                        name
                        for name, value in shown.items()
                        if value < before.get(name, 0) and name[0].endswith(RISING)
                    }
                    assert fallen == set()
                    before = shown
                assert before["unpd_connections_accepted_total", "echo"] > 1000
            finally:
                writer.kill()


# --- malice ---------------------------------------------------------------------------


def _malice() -> dict[str, bytes]:
    ok = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
    return {
        "giant header": ok + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
        "many headers": ok + b"".join(b"X-%d: y\r\n" % number for number in range(5000)) + b"\r\n",
        "1 MB URL": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        "1 MB without CRLF": b"a" * 1_000_000,
        "bad method": b"get /metrics HTTP/1.1\r\n\r\n",
        "unknown method": b"BREW /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "binary method": b"\x00\xff\x16\x03 /metrics HTTP/1.1\r\n\r\n",
        "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        + bytes(range(256)) * 2
        + b"\r\n\r\n",
        "body": b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        "body for nothing": b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        "body of a GET": ok + b"Content-Length: 5\r\n\r\nhello",
        "announced giant body": ok + b"Content-Length: 99999999999999999999\r\n\r\n",
        "length of thousands of digits": ok + b"Content-Length: " + b"9" * 6000 + b"\r\n\r\n",
        "negative length": ok + b"Content-Length: -1\r\n\r\n",
        "expect continue": ok + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "http/0.9": b"GET /metrics\r\n\r\n",
        "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "http/9.9": b"GET /metrics HTTP/9.9\r\n\r\n",
        "chunked": ok + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "chunked and never a chunk": ok + b"Transfer-Encoding: chunked\r\n\r\n",
        "chunk size without end": ok + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000,
        "odd transfer encoding": ok + b"Transfer-Encoding: gzip, \x0bchunked\r\n\r\n",
        "length and chunked": ok
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bare LF": b"GET /metrics HTTP/1.1\nHost: localhost\n\n\r\n\r\n",
        "header without name": ok + b": x\r\n\r\n",
        "header with NUL": ok + b"X: a\x00b\r\n\r\n",
        "folded header first": b"GET /metrics HTTP/1.1\r\n folded\r\n\r\n",
        "absolute URL": b"GET http://[::1/metrics HTTP/1.1\r\n\r\n",
        "spaces": b"GET  /metrics  HTTP/1.1\r\n\r\n",
        "slow expression, line": b"GET a://" + b"1" * 7000 + b" HTTP/1.1 x\r\n\r\n",
        "slow expression, header": ok + b"X:" + b" " * 7000 + b"\x00\r\n\r\n",
        "slow expression, blanks": ok + b"X:" + b" " * 8000 + b"a\r\n\r\n",
        "slow expression, folds": ok + b"X:" + (b"\r\n" + b" " * 63) * 120 + b"a\r\n\r\n",
    }


@pytest.mark.parametrize("name", _malice())
def test_malice_is_refused(shared: RunningExporter, name: str) -> None:
    """Every malformed or oversized request gets 4xx or 501, or the end of its
    connection; the next client is served; no series is added.
    """
    before = series(shared)
    raw = shared.ask(_malice()[name])
    assert raw == b"" or Answer.parse(raw).status in (400, 404, 405, 413, 431, 501)
    assert raw.count(b"Content-Length: ") <= 1
    assert series(shared) == before


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("giant header", 431),
        ("1 MB URL", 431),
        ("many headers", 431),
        ("body", 405),
        ("body for nothing", 404),
        ("body of a GET", 413),
        ("chunked", 413),
        ("chunked and never a chunk", 413),
        ("unknown method", 405),
        ("http/0.9", 400),
        ("length of thousands of digits", 400),
        ("expect continue", 413),
    ],
)
def test_malice_is_told_what_was_wrong(shared: RunningExporter, name: str, status: int) -> None:
    """The status says what was wrong with the request. (Linux hands out what was
    received before a reset.)
    """
    assert Answer.parse(shared.ask(_malice()[name])).status == status


def test_a_pipeline_is_answered_once(shared: RunningExporter) -> None:
    """Of many requests on one connection the first one is answered, and no other."""
    raw = shared.ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
    assert raw.count(b"HTTP/1.1 200 OK") == 1


@pytest.mark.parametrize("name", [name for name in _malice() if name.startswith("slow expression")])
def test_malice_costs_little_time(exporter: RunningExporter, name: str) -> None:
    """Requests made to be slow to parse cost little: h11 alone would take 0.2 s for one
    such header.
    """
    request_ = _malice()[name]
    exporter.get("/healthz")
    before = procs.cpu_s(exporter.process.pid)
    for _ in range(100):
        exporter.ask(request_)
    assert procs.cpu_s(exporter.process.pid) - before < 0.5


def peak_memory(pid: int) -> int:
    """The peak resident memory of ``pid``, in bytes (VmHWM, proc(5))."""
    return int(procs.status(pid)["VmHWM"].split()[0]) * 1024


PIPELINE = b"GET / HTTP/1.1\r\n\r\n" * 450


@pytest.mark.parametrize(
    "request_", [b"x" * 1_000_000, PIPELINE], ids=["a megabyte without an end", "pipeline"]
)
def test_malice_costs_little_memory(exporter: RunningExporter, request_: bytes) -> None:
    """When as many clients as may connect are all read in one turn of the loop, the
    exporter hardly grows.
    """
    exporter.get("/metrics")
    pid = exporter.process.pid
    before = peak_memory(pid)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(exporter.connect()) for _ in range(CONNECTIONS - 1)]
        until(lambda: len(procs.fds(pid)) > CONNECTIONS, 5, "all are accepted")
        os.kill(pid, signal.SIGSTOP)
        until(lambda: "T" in procs.status(pid)["State"], 5, "the exporter stands still")
        for sock in socks:
            sock.setblocking(False)
            sock.send(request_)
        os.kill(pid, signal.SIGCONT)
        for sock in socks:
            sock.setblocking(True)
            sock.settimeout(10)
            read_all(sock)
    assert exporter.get("/healthz").status == 200
    assert peak_memory(pid) - before < 8 * 2**20


def test_a_burst_of_scrapers_is_served(shared: RunningExporter) -> None:
    """Sixty scrapers at once all get the whole page."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(shared.connect()) for _ in range(CONNECTIONS - 4)]
        for sock in socks:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for sock in socks:
            answer = Answer.parse(read_all(sock))
            assert (answer.status, len(answer.body)) == (200, int(answer.headers["content-length"]))


@pytest.mark.parametrize(
    "sent",
    first(1, [b"GET /metrics HTTP/1.1\r\nHost:", b"", b"\r\n\r\n"]),
    ids=["half a request", "nothing", "blank lines"],
)
def test_a_slow_client_is_ended(hasty: RunningExporter, sent: bytes) -> None:
    """A connection without a whole request ends when its time is over."""
    with hasty.connect() as sock:
        sock.sendall(sent)
        assert read_all(sock) == b""


def test_a_client_that_drips_is_ended(hasty: RunningExporter) -> None:
    """Activity does not prolong a connection: it ends although its client goes on
    sending single bytes of a header.
    """
    with hasty.connect() as sock:
        sock.settimeout(0.05)
        sock.sendall(b"GET /metrics HTTP/1.1\r\nX: ")

        def ended() -> bool:
            try:
                sock.send(b"x")
                return sock.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(ended, 5, "the dripping client is ended")


def test_a_client_that_does_not_read_is_ended() -> None:
    """A client whose window is closed holds its connection no longer than others."""
    sock = listener()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    with running_exporter(sock, connection_s=SHORT_S) as running:
        with slow_reader(running):
            assert sockets(running) == 2
            until(lambda: sockets(running) == 1, 5, "the connection is ended")
        assert running.get("/healthz").status == 200
    assert (running.process.returncode, running.stderr) == (0, [])


def test_silent_clients_without_number_do_not_delay_a_scrape() -> None:
    """Beyond the most connections, each new one takes the place of the oldest that has
    sent no whole request: a scrape behind 200 silent clients is answered within
    3 s. A log line about it comes once a second at most.
    """
    with running_exporter(listener()) as running, contextlib.ExitStack() as stack:
        first = time.monotonic()
        silent = [stack.enter_context(running.connect()) for _ in range(200)]
        began = time.monotonic()
        assert running.get("/metrics").status == 200
        assert time.monotonic() - began < 3.0
        assert len(procs.fds(running.process.pid)) < CONNECTIONS + 20
        assert read_all(silent[0]) == b"", "the oldest is closed"
        silent[-1].sendall(HEALTHZ)
        assert Answer.parse(read_all(silent[-1])).body == b"ok\n", "the youngest is not"
        lasted_s = time.monotonic() - first
    assert running.process.returncode == 0
    assert 1 <= len(running.stderr) <= 1 + lasted_s, running.stderr
    assert " warning exporter.http message=" in running.stderr[0]
    assert "64 connections are open" in running.stderr[0]


@pytest.mark.slow
def test_clients_that_read_nothing_do_not_delay_a_scrape() -> None:
    """A client that has an answer under way and does not read it gives way to the next
    one: each scrape and each page beside 300 of them is there within 3 s, without a
    busy loop. (It takes 0.2 s; the bound is for a busy machine.)
    """
    sock = listener()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    with running_exporter(sock) as running, contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(slow_reader(running))
        for _ in range(300 - CONNECTIONS):
            stack.enter_context(slow_reader(running, answered=False))
        beats = running.board.row(BEAT_ROW)
        start = beats[layout.Row.BEAT_NS]
        for path in ("/metrics", "/", "/status.json"):
            began = time.monotonic()
            assert running.get(path).status == 200
            assert time.monotonic() - began < 3.0
        assert beats[layout.Row.BEAT_NS] - start < 2000, "no busy loop"
    assert running.process.returncode == 0
    assert not [line for line in running.stderr if "64 connections are open" not in line]


def test_a_client_that_reads_keeps_its_connection() -> None:
    """A client that takes its answer in small pieces gets all of it, though it is the
    oldest, and the next client needs a place: one that reads nothing gives way.
    """
    sock = listener()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    with (
        running_exporter(sock, stalled_s=1.0) as running,
        contextlib.ExitStack() as stack,
    ):
        readers = [stack.enter_context(slow_reader(running)) for _ in range(CONNECTIONS)]
        waiting = stack.enter_context(running.connect())
        waiting.sendall(HEALTHZ)
        pieces: list[bytes] = []

        def answered() -> bool:
            pieces.append(readers[0].recv(64))
            return bool(select.select([waiting], [], [], 0)[0])

        until(answered, 10, "the next client is served")
        assert Answer.parse(read_all(waiting)).body == b"ok\n"
        answer = Answer.parse(b"".join(pieces) + read_all(readers[0]))
        assert len(answer.body) == int(answer.headers["content-length"])
    assert (running.process.returncode, running.stderr) == (0, [])


def sockets(running: RunningExporter) -> int:
    """How many sockets the exporter holds: its listener and its connections."""
    fds = procs.fds(running.process.pid)
    return sum(target.startswith("socket:") for target in fds.values())


def slow_reader(running: RunningExporter, *, answered: bool = True) -> socket.socket:
    """A client whose answer is under way and cannot be sent, because its window is
    closed; not ``answered``: its answer has yet to begin.
    """
    client = socket.socket()
    client.settimeout(10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(running.address)
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if answered:
        client.recv(1, socket.MSG_PEEK)
    return client


POST = b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400000\r\n\r\n"


def test_a_client_that_goes_on_sending_gets_its_refusal(shared: RunningExporter) -> None:
    """A refused client that is still sending its body is not reset: it can send on, and
    read the whole answer.
    """
    with shared.connect() as sock:
        sock.sendall(POST)
        assert sock.recv(1, socket.MSG_PEEK) == b"H"
        holds(lambda: sock.send(b"x" * 10_000), LINGER_S / 3, "the client can send")
        received = b""
        while piece := sock.recv(65536):
            received += piece
        assert Answer.parse(received).status == 405


def test_a_client_that_never_stops_sending_is_ended(shared: RunningExporter) -> None:
    """What a refused client goes on sending is thrown away for a second, not longer."""
    with shared.connect() as sock:
        sock.sendall(POST)
        assert Answer.parse(read_all(sock)).status == 405

        def ended() -> bool:
            try:
                sock.send(b"x")
            except ConnectionError:
                return True
            return False

        began = time.monotonic()
        until(ended, 5, "the sending client is ended")
        assert time.monotonic() - began > LINGER_S / 2


@pytest.mark.slow
def test_without_descriptors_it_waits_and_does_not_spin(
    exporter_without_descriptors: RunningExporter,
) -> None:
    """EMFILE at accept pauses the listener: no busy loop, no flood of lines, and the
    client is served when a descriptor is free again.
    """
    running = exporter_without_descriptors
    with running.connect() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: running.stderr, 5, "a line about accept")
        beats = running.board.row(BEAT_ROW)
        start = beats[layout.Row.BEAT_NS]
        holds(
            lambda: beats[layout.Row.BEAT_NS] - start < 20,
            1.0,
            "hardly any turns while no descriptor is free",
        )
        _, hard = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert Answer.parse(read_all(sock)).body == b"ok\n"
    assert "Too many open files" in running.stderr[0]
    assert len(running.stderr) < 5


@pytest.fixture
def exporter_without_descriptors() -> Iterator[RunningExporter]:
    """An exporter that has no free descriptor."""
    with running_exporter(listener()) as running:
        running.get("/healthz")
        pid = running.process.pid
        until(lambda: sockets(running) == 1, 5, "no connection left")
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        free = next(fd for fd in itertools.count() if fd not in procs.fds(pid))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))
        yield running
    assert running.process.returncode == 0


# --- the loop -------------------------------------------------------------------------


@pytest.mark.slow
def test_it_beats_without_any_client(exporter: RunningExporter) -> None:
    """The loop turns at least once a second when nothing happens."""
    cells = exporter.board.row(BEAT_ROW)
    until(lambda: cells[layout.Row.BEAT_NS] >= 3, 10, "three beats")


def test_stop_answers_what_is_under_way_and_nothing_new() -> None:
    """At the end the exporter closes its listener at once, and an idle connection too,
    and still answers a request that it had half received.
    """
    with (
        running_exporter(listener()) as running,
        running.connect() as idle,
        running.connect() as half,
    ):
        half.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        running.get("/healthz")
        running.process.terminate()
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            running.connect()
        half.sendall(b"localhost\r\n\r\n")
        assert Answer.parse(read_all(half)).body == b"ok\n"
        assert running.process.wait(5) == 0
    assert running.stderr == []


def test_stop_waits_a_second_at_most() -> None:
    """A request that never completes does not delay the end."""
    with running_exporter(listener()) as running, running.connect() as half:
        half.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        running.get("/healthz")
        running.process.terminate()
        assert running.process.wait(3) == 0
        assert read_all(half) == b""
    assert running.stderr == []


def test_a_broken_listener_ends_the_exporter() -> None:
    """An exporter that can serve no longer ends with a trace; its master then makes
    another.
    """
    sock = listener()
    sock.listen()
    with (
        socket.fromfd(sock.fileno(), sock.family, sock.type) as same,
        running_exporter(sock) as running,
    ):
        running.get("/healthz")
        same.shutdown(socket.SHUT_RDWR)
        assert running.process.wait(5) == 1
    assert "RuntimeError: the listener of the metrics is broken\n" in running.stderr


def test_a_fault_of_ours_is_in_the_log_and_not_in_the_answer() -> None:
    """A scrape that fails gets a bare 500; the log has one line with the error and its
    place, however many scrapes fail within a second; other pages work.
    """
    wrong = dataclasses.replace(
        make_labels(os.getpid()),
        listeners=(ListenerLabels("echo", "tcp://[::]:7", 10**6, is_tcp=True),),
    )
    logged: list[dict[str, Field]] = []
    with in_a_thread(
        wrong, lambda event, **fields: logged.append({"event": event, **fields})
    ) as address:
        answers = [
            ask(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(5)
        ]
        assert (
            Answer.parse(ask(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")).status
            == 200
        )
    assert {Answer.parse(answer).status for answer in answers} == {500}
    assert not any(word in b"".join(answers) for word in (b"Traceback", b"IndexError", b".py"))
    assert [(line["event"], line["message"], line["error"]) for line in logged] == [
        (
            "exporter.http",
            "cannot answer a request",
            "IndexError('list index out of range')",
        )
    ]
    assert str(logged[0]["at"]).startswith("services.py:")


def ask(address: tuple[str, int], request: bytes) -> bytes:
    """Send one request and read all that comes back."""
    with socket.create_connection(address, timeout=10) as sock:
        sock.sendall(request)
        return read_all(sock)


@contextlib.contextmanager
def in_a_thread(labels: Labels, report: Report) -> Iterator[tuple[str, int]]:
    """Run an exporter in a thread of this process."""
    done = threading.Event()
    board_fd = memory.create()
    wakeup_fd, writer_fd = os.pipe2(os.O_NONBLOCK)
    sock = listener()
    sock.listen()
    address = sock.getsockname()

    def stop_within() -> float | None:
        return FINISH_S if done.is_set() else None

    context = ExporterContext(
        sock,
        Scoreboard(board_fd),
        labels,
        lambda: None,
        wakeup_fd,
        stop_within,
        report,
        ready=lambda: None,
        loopback=True,
        page=make_page(),
    )

    def stop() -> None:
        done.set()
        os.write(writer_fd, b"!")

    try:
        with beside(lambda: run_exporter(context), stop):
            yield address
    finally:
        for fd in (board_fd, wakeup_fd, writer_fd):
            os.close(fd)
