"""The log of a daemon: no input breaks a line, the file can be rotated, and a sink that
fails does not affect the service.
"""

import contextlib
import fcntl
import itertools
import json
import os
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from signal import SIGABRT, SIGUSR1

import pytest

from tests.support import clients, descriptors, faults, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import parse_address, parse_log
from tests.support.operating import degraded, reload, status, wait_all_ready
from tests.support.ports import free_port
from tests.support.waiting import until

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

ENDED = "connection.ended"
DROPPED = "unpd_log_lines_dropped_total"
SHORTEST_LINE_BYTES = 100
"""No line about a connection is as short as this."""
START_LINES = 11
"""The lines of a start with one service, an exporter and two workers: configuration,
two listeners, master started, three spawned, three ready, master ready.
"""


# one event, one line


def test_text_from_outside_is_escaped(launch: Launch) -> None:
    """Line ends and escape sequences in a request to the exporter, in the configuration
    and in a path do not create lines.
    """
    unpd = launch(ECHO)
    with clients.connect(unpd.address("metrics")) as sock:
        sock.sendall(
            b'GET /\x1b[31m"\r\n{"event":"fake","level":"error"} HTTP/1.1\r\nHost: \x00\xff\r\n\r\n'
        )
        clients.read_all(sock)
    unpd.expect_errors("reload.refused")
    unpd.config_path.write_text(
        '[services."x\\n{\\"event\\":\\"fake\\"}\\u001b[31m\\u2028y"]\nlisten = ["unix:///tmp/a\\nb"]\n'
    )
    assert unpd.run("reload", "--control", str(unpd.control)).returncode == 1
    raw = unpd.log_text().encode()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f-\xff]", raw)
    assert unpd.log_events("reload.refused")
    assert "fake" not in {event.name for event in unpd.log_events()}
    assert len(parse_log(unpd.log_text())) == unpd.log_text().count("\n")


def wait_ready(unpd: Unpd) -> None:
    """Wait until a daemon whose log does not say so in JSON is ready, with each of its
    first children.
    """

    def is_ready() -> bool:
        with contextlib.suppress(
            FileNotFoundError, ConnectionRefusedError
        ):  # between its bind and its listen a socket exists and refuses
            answer = status(unpd)
            return answer["ready"] and {child["phase"] for child in answer["children"]} == {"ready"}
        return False

    until(is_ready, 20.0, "the daemon and its children to be ready")


@pytest.mark.parametrize("style", ["json", "text"])
def test_both_formats_carry_the_same_fields(launch: Launch, style: str) -> None:
    """A JSON line is one object; a text line is time, level, event and name=value
    pairs. Both name the worker.
    """
    unpd = launch(f'[log]\nformat = "{style}"\n' + ECHO, ready=style == "json")
    wait_ready(unpd)
    port = int(status(unpd)["services"][0]["listeners"][0]["address"].rpartition(":")[2])
    assert clients.converse(("127.0.0.1", port), b"some words") == b"some words"
    line = until(
        lambda: next(
            (line for line in unpd.log_text().splitlines() if "connection.ended" in line), ""
        ),
        10.0,
        "the line of the connection's end",
    )
    if style == "json":
        said = json.loads(line)
    else:
        stamp, level, event, *pairs = line.split()
        said = {
            "time": stamp,
            "level": level,
            "event": event,
            **dict(pair.split("=", 1) for pair in pairs),
        }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("time"))
    assert float(said.pop("duration_s")) >= 0
    assert re.fullmatch(r"127\.0\.0\.1:\d+", said.pop("peer"))
    assert int(said.pop("pid")) in unpd.workers()
    expected = {
        "level": "debug",
        "event": "connection.ended",
        "role": "worker",
        "pool": "default",
        "service": "echo",
        "cause": "client_fin",
    }
    assert {name: str(value) for name, value in said.items()} == expected | {
        "index": str(said["index"]),
        "received": "10",
        "sent": "10",
    }


def test_peers_have_readable_addresses(launch: Launch, tmp_path: Path) -> None:
    """An IPv4 client of a dual-stack listener is shown as IPv4, an IPv6 one in
    brackets, one of a UNIX socket by its user: as in a rule.
    """
    unpd = launch(f'[services.echo]\nlisten = ["tcp://[::]:0", "unix://{tmp_path}/echo.sock"]\n')
    port = unpd.port("echo")
    for address in (("127.0.0.1", port), ("::1", port), str(tmp_path / "echo.sock")):
        clients.converse(address, b"x")
    peers = [
        unpd.wait_event("connection.ended", after=number).fields["peer"] for number in range(3)
    ]
    assert [re.sub(r"\d+$", "", peer) for peer in peers] == ["127.0.0.1:", "[::1]:", "uid:"]


def test_connections_are_logged_at_debug_only(launch: Launch) -> None:
    """At level info a client's connection creates no line."""
    unpd = launch('[log]\nlevel = "info"\n' + ECHO)
    before = unpd.log_text()
    assert clients.converse(unpd.address("echo"), b"x") == b"x"
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="echo")
    assert unpd.log_text() == before


@pytest.mark.parametrize(
    ("model", "role"), [("event", "worker"), ("fork", "session"), ("iterative", "iterative")]
)
def test_each_connection_has_two_lines_where_they_are_wanted(
    launch: Launch, model: str, role: str
) -> None:
    """With log.connections its start and its end are logged at level info, by the
    process that serves it, whatever the model; also that of a client that reset before
    it was served, which the dispatcher notices mostly before it forks. A reload ends
    that.
    """
    wanted = '[log]\nlevel = "info"\nconnections = true\n'
    text = f'{ECHO}model = "{model}"\n'
    unpd = launch(wanted + text)
    peers = []
    for resets in (False, True, False):
        with clients.connect(unpd.address("echo")) as sock:
            peers.append("{}:{}".format(*sock.getsockname()))
            if resets:
                clients.reset(sock)
            else:
                sock.sendall(b"x")
                assert clients.read_exactly(sock, 1) == b"x"
        unpd.metric_becomes(len(peers), "unpd_connections_ended_total", service="echo")
    for name in ("connection.started", ENDED):
        lines = unpd.log_events(name, service="echo", level="info")
        assert [line.fields["peer"] for line in lines] == peers
        roles = [line.fields["role"] for line in lines]
        assert roles[::2] == [role, role]
        assert roles[1] in (role, "dispatcher" if model == "fork" else role)
    before = procs.child_pids(unpd.pid)
    reload(unpd, wanted.replace("true", "false") + text)
    until(lambda: not before & procs.child_pids(unpd.pid), 10.0, "the old children to leave")
    assert clients.converse(unpd.address("echo"), b"x") == b"x"
    unpd.metric_becomes(len(peers) + 1, "unpd_connections_ended_total", service="echo")
    assert len(unpd.log_events("connection.started")) == len(peers)


# rotation


def holders(unpd: Unpd, path: Path) -> list[int]:
    """Return the processes of the daemon that have ``path`` open."""
    family = [unpd.pid, *(child.pid for child in procs.children(unpd.pid))]
    return [pid for pid in family if str(path) in procs.fds(pid).values()]


def test_a_rotated_log_goes_on_in_the_new_file(launch: Launch, public: Path) -> None:
    """After a rename and USR1, master, workers and exporter write to the new file. Old
    and new file together hold every line once.
    """
    path, old = public / "unpd.log", public / "unpd.log.1"
    unpd = launch(f'[log]\nfile = "{path}"\n' + ECHO)
    address = unpd.address("echo")
    for length in range(1, 21):
        clients.converse(address, b"x" * length)
    path.rename(old)
    for length in range(21, 41):
        clients.converse(address, b"x" * length)
    unpd.signal(SIGUSR1)
    for length in range(41, 81):
        clients.converse(address, b"x" * length)
    until(lambda: not holders(unpd, old), 10.0, "the old file to be closed by all")
    assert len(holders(unpd, path)) == 4
    size = old.stat().st_size
    for length in range(81, 121):
        clients.converse(address, b"x" * length)
    until(lambda: unpd.log_events("connection.ended", received=120), 10.0, "the last line")
    assert old.stat().st_size == size

    def lengths(file: Path) -> list[int]:
        return [
            event.fields["received"]
            for event in parse_log(file.read_text())
            if event.name == "connection.ended"
        ]

    assert sorted(lengths(old) + lengths(path)) == list(range(1, 121))
    assert set(range(81, 121)) <= set(lengths(path))
    assert unpd.log_events("log.reopened", file=str(path))
    assert path.stat().st_mode & 0o777 == 0o640


@faults.requires_strace()
def test_a_child_that_starts_during_a_rotation_follows(
    launch: Launch, public: Path, tmp_path: Path
) -> None:
    """A worker that is still starting when USR1 comes writes to the new file too."""
    path, old = public / "unpd.log", public / "unpd.log.1"
    unpd = launch(f'[log]\nfile = "{path}"\n[pools.default]\nworkers = 1\n' + ECHO)
    before = unpd.workers()
    with faults.straced(unpd.pid, tmp_path / "trace", "prctl,capset", "capset:delay_enter=500000"):
        procs.kill(before)
        until(
            lambda: any(" starting," in child.title for child in procs.children(unpd.pid)),
            10.0,
            "the next worker to start",
        )
        path.rename(old)
        unpd.signal(SIGUSR1)
        unpd.wait_event("log.reopened")
        unpd.wait_respawned(before)
    until(lambda: not holders(unpd, old), 10.0, "the old file to be closed by all")


def test_the_stack_of_a_hung_worker_never_goes_to_a_client(launch: Launch, public: Path) -> None:
    """After a rotation faulthandler still writes to the log, not to the connection that
    has the old descriptor's number.
    """
    path = public / "unpd.log"
    unpd = launch(f'[log]\nfile = "{path}"\n[pools.default]\nworkers = 1\n' + ECHO)
    address = unpd.address("echo")
    path.rename(public / "unpd.log.1")
    unpd.signal(SIGUSR1)
    until(lambda: len(holders(unpd, path)) == 3, 10.0, "the new file to be opened by all")
    workers = unpd.workers()
    with clients.idle(address, 5) as connected:
        for sock in connected:
            sock.sendall(b"x")
            assert clients.read_exactly(sock, 1) == b"x"
        procs.kill(workers, SIGABRT)
        for sock in connected:
            with contextlib.suppress(ConnectionResetError):
                assert clients.read_all(sock) == b""
    assert "Fatal Python error: Aborted" in until(
        lambda: unpd.log_text() if "Fatal" in unpd.log_text() else "", 10.0, "the stack in the log"
    )
    unpd.wait_respawned(workers)


@faults.requires_root
def test_children_write_to_a_file_that_they_may_not_open(launch: Launch, public: Path) -> None:
    """The new file belongs to root and has mode 0640, as logrotate makes it (``create
    640 root adm``). The children, which have dropped root, write to it all the same.
    """
    path, old = public / "unpd.log", public / "unpd.log.1"
    unpd = launch(f'[log]\nfile = "{path}"\n' + ECHO)
    address = unpd.address("echo")
    path.rename(old)
    path.touch(0o640)
    os.chown(path, 0, 0)
    unpd.signal(SIGUSR1)
    until(lambda: not holders(unpd, old), 10.0, "the old file to be closed by all")
    clients.converse(address, b"in the new file")
    until(
        lambda: [event for event in parse_log(path.read_text()) if event.name == ENDED],
        10.0,
        "a worker's line in the new file",
    )
    assert path.stat().st_uid == 0


def allow_few_descriptors() -> None:
    """Let a process have 64 descriptors."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("end", ["another-signal", "a-death"])
def test_a_child_that_cannot_switch_is_shown(launch: Launch, public: Path, end: str) -> None:
    """A worker without a free descriptor cannot take the new file. Log, status and
    metrics show it, until another SIGUSR1 finds it able, or until it has died.
    """
    path, old = public / "unpd.log", public / "unpd.log.1"
    one_worker = "[pools.default]\nworkers = 1\n"
    unpd = launch(f'[log]\nfile = "{path}"\n{one_worker}{ECHO}', preexec=allow_few_descriptors)
    unpd.expect_errors("log.not_reopened")
    (worker,) = unpd.workers()
    with clients.idle(unpd.address("echo"), 80):
        until(lambda: len(procs.fds(worker)) == 64, 10.0, "a full table of descriptors")
        path.rename(old)
        unpd.signal(SIGUSR1)
        refused = unpd.wait_event("log.not_reopened")
        assert refused.fields["pid"] == worker
        assert "no free one" in refused.fields["error"]
        (cause,) = degraded(unpd)
        assert cause.startswith(f"worker default/0 (pid {worker}) writes to the old log file")
        until(lambda: holders(unpd, old) == [worker], 10.0, "the exporter to switch")
        until(lambda: 'reason="log_failed"} 1.0' in metrics(unpd), 10.0, "the metric")
        if end == "a-death":
            procs.kill([worker])
    if end == "another-signal":
        until(lambda: len(procs.fds(worker)) < 64, 10.0, "free descriptors")
        unpd.signal(SIGUSR1)
    until(lambda: not degraded(unpd), 10.0, "the end of the fault")
    until(lambda: not holders(unpd, old), 10.0, "the old file to be closed by all")


@pytest.mark.slow
def test_a_child_that_does_not_answer_is_shown(launch: Launch, public: Path) -> None:
    """A worker that is stopped holds the old file. Log and status show it after some
    seconds, until it goes on and has switched.
    """
    path, old = public / "unpd.log", public / "unpd.log.1"
    unpd = launch(f'[log]\nfile = "{path}"\n{ECHO}')
    unpd.expect_errors("log.not_reopened")
    worker, _ = unpd.workers()
    with procs.stopped([worker]):
        path.rename(old)
        unpd.signal(SIGUSR1)
        late = unpd.wait_event("log.not_reopened")
        assert (late.fields["pid"], late.fields["error"]) == (worker, "it does not answer")
        (cause,) = degraded(unpd)
        assert f"(pid {worker}) writes to the old log file: it does not answer" in cause
        unpd.signal(SIGUSR1)
    until(lambda: not degraded(unpd), 10.0, "the end of the fault")
    until(lambda: not holders(unpd, old), 10.0, "the old file to be closed by all")
    assert len(unpd.log_events("log.not_reopened")) == 1


@pytest.mark.slow
def test_a_log_file_that_is_gone_is_shown(launch: Launch, public: Path) -> None:
    """A log file that was moved away without SIGUSR1 makes the daemon degraded, in the
    status and the metrics, until the signal comes.
    """
    path, old = public / "unpd.log", public / "unpd.log.1"
    unpd = launch(f'[log]\nfile = "{path}"\n{ECHO}')
    assert not degraded(unpd)
    path.rename(old)
    (cause,) = until(lambda: degraded(unpd), 10.0, "the fault")
    assert cause == (f"no line reaches the log file {path}: it was removed; SIGUSR1 opens it anew")
    assert "log.file_lost" in old.read_text()
    until(lambda: 'reason="log_file_lost"} 1.0' in metrics(unpd), 10.0, "the metric")
    unpd.signal(SIGUSR1)
    until(lambda: not degraded(unpd), 10.0, "the end of the fault")
    assert path.exists()


def test_a_log_file_of_two_daemons_is_a_warning(launch: Launch, public: Path) -> None:
    """A second daemon on the same log file warns, at its start and when it opens the
    file anew; the first does not, nor does a second alone.
    """
    config = f'[log]\nfile = "{public}/unpd.log"\n{ECHO}'

    def logged(event: str) -> int:
        return (public / "unpd.log").read_text().count(f'"event":"{event}"')

    first = launch(config)
    second = launch(config, ready=False)
    until(lambda: logged("master.ready") == 2, 10.0, "the second daemon")
    assert logged("log.shared") == 1
    second.signal(SIGUSR1)
    until(lambda: logged("log.shared") == 2, 10.0, "the warning of the reopened file")
    assert first.stop() == 0
    second.signal(SIGUSR1)
    until(lambda: logged("log.reopened") == 2, 10.0, "the file")
    assert second.stop() == 0
    assert logged("log.shared") == 2


def metrics(unpd: Unpd) -> str:
    """Return what the exporter says. Its address stands in the old log file."""
    (line,) = [
        event
        for event in parse_log(unpd.log_path.with_name("unpd.log.1").read_text())
        if event.name == "listener.opened" and event.fields["service"] == "metrics"
    ]
    with clients.connect(parse_address(line.fields["address"])) as sock:
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return clients.read_all(sock).decode()


@pytest.mark.slow
@faults.requires_strace()
def test_no_child_shares_the_description_of_the_masters_log(launch: Launch, public: Path) -> None:
    """Neither with each other nor with the master, in a file as on a pipe, after a
    rotation too.
    """
    path = public / "unpd.log"
    unpd = launch(f'[log]\nfile = "{path}"\n' + ECHO)
    assert_all_apart(unpd, str(path))
    path.rename(public / "unpd.log.1")
    unpd.signal(SIGUSR1)
    until(lambda: len(holders(unpd, path)) == 4, 10.0, "the new file to be opened by all")
    assert_all_apart(unpd, str(path))
    assert unpd.stop() == 0
    with piped(launch, ECHO) as (other, _, _):
        assert_all_apart(other, os.readlink(f"/proc/{other.pid}/fd/2"))
        assert other.stop() == 0


def assert_all_apart(unpd: Unpd, target: str) -> None:
    """Assert that no two processes of the daemon share a description of ``target``."""
    family = [unpd.pid, *(child.pid for child in procs.children(unpd.pid))]
    assert len(holders(unpd, Path(target))) == len(family) == 4
    for pid, other in itertools.combinations(family, 2):
        common = {procs.fds(pid)[fd] for fd, _ in descriptors.shared(pid, other)}
        assert target not in common, (pid, other, common)


@pytest.mark.slow
@faults.requires_strace()
def test_a_worker_cannot_make_the_master_wait_for_the_log(launch: Launch) -> None:
    """A faulty worker clears O_NONBLOCK on its descriptors of the log and fills the
    pipe. The master drops its lines, and does its work.
    """
    with piped(launch, ECHO) as (unpd, _, _):
        workers = unpd.workers()
        opened = procs.fds(workers[0])
        for number in (fd for fd, target in opened.items() if target == opened[2]):
            fd = descriptors.borrow(workers[0], number)
            fill(fd)
            os.set_blocking(fd, True)
            os.close(fd)
        procs.kill(workers)
        unpd.wait_respawned(workers)
        wait_all_ready(unpd)
        until(lambda: unpd.metric(DROPPED) > 0, 10.0, "dropped lines")
        assert unpd.stop() == 0


def fill(fd: int) -> None:
    """Write into a pipe until not one byte more has room."""
    os.set_blocking(fd, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while os.write(fd, b"x" * size):
                pass


@pytest.mark.parametrize("fault", ["missing", "forbidden"])
def test_a_start_says_why_there_is_no_log(launch: Launch, public: Path, fault: str) -> None:
    """The message names the directory, and what would make it."""
    path = public / "missing" / "unpd.log" if fault == "missing" else Path("/proc/unpd.log")
    unpd = launch(f'[log]\nfile = "{path}"\n' + ECHO, ready=False)
    unpd.expect_exit(73)
    assert unpd.wait_exit() == 73
    assert f"cannot open the log file {path}: " in unpd.stderr()
    if fault == "missing":
        assert f"there is no directory {path.parent}: make it" in unpd.stderr()
        assert "LogsDirectory=" in unpd.stderr()


def test_a_log_that_cannot_be_reopened_stays_where_it_is(launch: Launch, public: Path) -> None:
    """When the new file cannot be created, the old one gets an error line, status and
    metrics show the fault, and the service goes on. Another SIGUSR1 mends it.
    """
    inner, moved = public / "log", public / "moved"
    inner.mkdir(mode=0o755)
    inner.chmod(0o755)
    unpd = launch(f'[log]\nfile = "{inner}/unpd.log"\n' + ECHO)
    address = unpd.address("echo")
    unpd.expect_errors("log.not_reopened")
    inner.rename(moved)
    unpd.signal(SIGUSR1)

    def told() -> list[object]:
        return [
            event
            for event in parse_log((moved / "unpd.log").read_text())
            if event.name == "log.not_reopened"
        ]

    until(told, 10.0, "the error in the old file")
    assert clients.converse(address, b"served") == b"served"
    (cause,) = degraded(unpd)
    assert cause.startswith("the log goes to the old file")
    assert f"there is no directory {inner}" in cause
    moved.rename(inner)
    unpd.signal(SIGUSR1)
    unpd.wait_event("log.reopened")
    assert not degraded(unpd)


# failing sinks


def quiet(unpd: Unpd, port: int, metrics: int) -> None:
    """Wait until a daemon without a log is ready. Write its addresses to the place
    where the test's tools look for the log.
    """
    wait_ready(unpd)
    note(
        unpd,
        [
            {"service": "echo", "address": f"tcp://127.0.0.1:{port}"},
            {"service": "metrics", "address": f"tcp://127.0.0.1:{metrics}"},
        ],
    )


def note(unpd: Unpd, opened: list[dict[str, str]]) -> None:
    """Write listener.opened lines to the place where the test's tools look for
    the log.
    """
    with unpd.stderr_path.open("a") as file:
        for fields in opened:
            file.write(json.dumps({"level": "info", "event": "listener.opened", **fields}) + "\n")


def on_ports() -> tuple[str, int, int]:
    """Return a configuration on known ports, with the ports of echo and metrics."""
    port, metrics = free_port(), free_port()
    return (
        f'[services.echo]\nlisten = ["tcp://127.0.0.1:{port}"]\n\n[metrics]\nlisten = "tcp://127.0.0.1:{metrics}"\n',
        port,
        metrics,
    )


def close_standard_error() -> None:
    """Close descriptor 2, as ``2>&-`` does."""
    os.close(2)


def fill_standard_error() -> None:
    """Let descriptor 2 fail, as ``2>/dev/full`` does."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def test_a_daemon_without_standard_error_serves(launch: Launch) -> None:
    """A daemon that starts with descriptor 2 closed opens /dev/null there, so that no
    socket ever becomes standard error.
    """
    text, port, metrics = on_ports()
    unpd = launch(text, ready=False, preexec=close_standard_error)
    quiet(unpd, port, metrics)
    assert [procs.fds(pid)[2] for pid in (unpd.pid, *unpd.workers())] == ["/dev/null"] * 3
    assert clients.converse(("127.0.0.1", port), b"served") == b"served"
    assert unpd.stop() == 0


def test_a_sink_that_fails_is_counted(launch: Launch) -> None:
    """When every write fails (/dev/full), the lines of master and workers are counted
    as dropped, and the service goes on.
    """
    text, port, metrics = on_ports()
    unpd = launch(text, ready=False, preexec=fill_standard_error)
    quiet(unpd, port, metrics)
    for _ in range(10):
        assert clients.converse(("127.0.0.1", port), b"served") == b"served"
    until(lambda: unpd.metric(DROPPED) >= START_LINES + 10, 10.0, "each line to be counted")
    procs.kill(unpd.workers()[:1])
    until(
        lambda: (
            unpd.metric(DROPPED) >= START_LINES + 10 + len(("reaped", "died", "spawned", "ready"))
        ),
        10.0,
        "the lines about the dead worker too",
    )
    assert unpd.stop() == 0


@contextlib.contextmanager
def piped(launch: Launch, text: str) -> Iterator[tuple[Unpd, int, int]]:
    """Start a daemon with a small pipe as standard error, and read it until the daemon
    and its three children are ready. Yields (daemon, read end, write end).
    """
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    unpd = launch(text, ready=False, preexec=lambda: os.dup2(writer, 2))
    with open(reader, "rb", buffering=0) as pipe, open(writer, "wb", buffering=0) as kept:
        said = b""
        with unpd.stderr_path.open("ab") as copy:
            while said.count(b".ready") < 4 or not said.endswith(b"\n"):
                piece = pipe.read(4096)
                said += piece
                copy.write(piece)
        yield unpd, pipe.fileno(), kept.fileno()


def test_a_full_pipe_never_blocks(launch: Launch) -> None:
    """While standard error is not read, lines are dropped and counted. The service does
    not wait, and the inherited descriptor stays blocking.
    """
    with piped(launch, ECHO) as (unpd, reader, writer):
        address = unpd.address("echo")
        # The least that the kernel gives is a page, which may be one of 64 KiB.
        for _ in range(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) // SHORTEST_LINE_BYTES):
            assert clients.converse(address, b"served", timeout_s=5.0) == b"served"
        until(lambda: unpd.metric(DROPPED) > 0, 10.0, "dropped lines")
        assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK
        os.set_blocking(reader, False)
        said = [drained(reader).partition(b"\n")[2]]
        assert b"connection.ended" in said[0]
        clients.converse(address, b"the pipe is empty again")

        def goes_on() -> bool:
            said.append(drained(reader))
            return b'"received":23' in said[-1]

        until(goes_on, 10.0, "a line after the pipe was emptied")
        for line in b"".join(said).splitlines():
            assert json.loads(line)["event"]
        assert unpd.stop() == 0


def drained(fd: int) -> bytes:
    """Return everything in a pipe."""
    said = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 65536):
            said += piece
    return said


def test_a_broken_pipe_does_not_end_the_daemon(launch: Launch) -> None:
    """After the reader of standard error has closed (EPIPE), lines are counted, the
    daemon lives, and its exit code is 0.
    """
    with piped(launch, ECHO) as (unpd, reader, writer):
        os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
        assert clients.converse(unpd.address("echo"), b"served") == b"served"
        until(lambda: unpd.metric(DROPPED) > 0, 10.0, "dropped lines")
        unpd.wait_respawned(kill_all(unpd))
        assert clients.converse(unpd.address("echo"), b"served") == b"served"
        assert unpd.stop() == 0


def kill_all(unpd: Unpd) -> list[int]:
    """Kill every worker. Return their pids."""
    workers = unpd.workers()
    procs.kill(workers)
    return workers


def test_a_socket_as_standard_error_is_written_without_waiting(launch: Launch) -> None:
    """A stream socket as standard error, as under journald, that is not read costs
    lines but no time. It stays as blocking as its owner left it.
    """
    text, port, metrics = on_ports()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        unpd = launch(text, ready=False, preexec=lambda: os.dup2(theirs.fileno(), 2))
        quiet(unpd, port, metrics)
        assert b"config.loaded" in ours.recv(4096)
        for _ in range(60):
            assert clients.converse(("127.0.0.1", port), b"served", timeout_s=5.0) == b"served"
        until(lambda: unpd.metric(DROPPED) > 0, 10.0, "dropped lines")
        assert not fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
        assert unpd.stop() == 0


@faults.requires_root
def test_a_full_disk_costs_lines_and_nothing_else(launch: Launch, public: Path) -> None:
    """On a full disk dropped lines are counted and the service goes on. When there is
    room again the log goes on too, and says before the end how many lines its workers
    have lost.
    """
    with faults.small_disk(public / "disk") as disk:
        unpd = launch(f'[log]\nfile = "{disk}/unpd.log"\n' + ECHO)
        address = unpd.address("echo")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        for _ in range(60):
            assert clients.converse(address, b"served") == b"served"
        until(lambda: unpd.metric(DROPPED) > 0, 10.0, "dropped lines")
        filler.unlink()

        def goes_on() -> bool:
            clients.converse(address, b"there is room again")
            return bool(unpd.log_events("connection.ended", received=19))

        until(goes_on, 10.0, "the log to go on")
        dropped = unpd.metric(DROPPED)
        assert unpd.stop() == 0
        told = [event.fields["lines"] for event in unpd.log_events("log.lines_lost")]
        assert sum(told) == dropped
