"""The log under systemd: entries go to the journal's socket. Where the socket is out of
reach, lines with a priority go to the journal's stream.
"""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGABRT

import pytest

from tests.support import clients, faults, procs
from tests.support.daemon import Unpd
from tests.support.fake_journald import Entry, FakeJournald
from tests.support.launch import Launch
from tests.support.memory_sink import MemorySink
from tests.support.operating import status
from tests.support.waiting import until
from unpd.kernel.journal import SOCKET
from unpd.logs import Log
from unpd.sinks import Journal

TEXT = """
[log]
format = "text"

[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""
WRONG = """
[services.echo]
listen = ["nonsense"]
"""

REACH = (
    f"mount -t tmpfs tmpfs {Path(SOCKET).parents[1]} && mkdir {Path(SOCKET).parent} && mount --bind"
    f' "$0" {Path(SOCKET).parent} && exec "$@"'
)
"""Runs in a mount namespace of its own, where journald's directory is the given one,
whatever journald the machine has.
"""
needs_place = pytest.mark.skipif(
    not Path(SOCKET).parents[1].is_dir(), reason=f"needs the directory {Path(SOCKET).parents[1]}"
)


@pytest.fixture
def journald(public: Path) -> Iterator[FakeJournald]:
    """Provide a journald at its place. The test does not read it all the time, so its
    queue has to be long. That limit belongs to a network namespace.
    """
    with faults.namespace() as space:
        space.sysctl("net.unix.max_dgram_qlen", "1000")
        with space.entered():
            found = FakeJournald(public / "socket")
        yield found
        found.stop()


class Streamed:
    """A daemon whose standard error is a stream that $JOURNAL_STREAM names as the
    journal's.
    """

    def __init__(self, unpd: Unpd, stream: socket.socket) -> None:
        self.unpd = unpd
        self._stream = stream
        self._said = b""

    @property
    def said(self) -> str:
        """Everything that came over the stream so far."""
        try:
            while piece := self._stream.recv(65536, socket.MSG_DONTWAIT):
                self._said += piece
        except BlockingIOError:
            pass
        return self._said.decode()

    def ready(self) -> None:
        """Wait until the daemon is ready. Write its addresses to the place where the
        test's tools look for the log.
        """

        def is_ready() -> bool:
            try:
                return bool(status(self.unpd)["ready"])
            except (
                FileNotFoundError,
                ConnectionRefusedError,
            ):  # between its bind and its listen a socket exists and refuses
                return False

        until(is_ready, 20.0, lambda: f"the daemon to be ready; it said {self.said}")
        with self.unpd.stderr_path.open("a") as file:
            for service in status(self.unpd)["services"]:
                for listener in service["listeners"]:
                    fields = {"service": service["name"], "address": listener["address"]}
                    file.write(
                        json.dumps({"level": "info", "event": "listener.opened", **fields}) + "\n"
                    )


@contextmanager
def streamed(launch: Launch, public: Path, text: str = TEXT) -> Iterator[Streamed]:
    """Start a daemon as systemd does: $JOURNAL_STREAM names the socket that is its
    descriptor 2, and ``public`` is journald's directory.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        there = os.fstat(theirs.fileno())
        unpd = launch(
            text,
            ready=False,
            prefix=("unshare", "--mount", "sh", "-c", REACH, str(public)),
            env={"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"},
            preexec=lambda: os.dup2(theirs.fileno(), 2),
        )
        yield Streamed(unpd, ours)


def entries_until(journald: FakeJournald, wanted: str) -> list[Entry]:
    """Return the entries up to and including the event ``wanted``."""
    entries: list[Entry] = []

    def there() -> bool:
        entries.extend(journald.entries())
        return any(entry["UNPD_EVENT"] == wanted for entry in entries)

    until(
        there,
        20.0,
        lambda: f"{wanted} in the journal, which has {[entry['MESSAGE'] for entry in entries]}",
    )
    return entries


@faults.requires_namespaces()
@needs_place
def test_the_journal_gets_entries_of_every_process(
    launch: Launch, public: Path, journald: FakeJournald
) -> None:
    """The master and each worker, which is no longer root, send their own entries.
    Nothing goes to standard error.
    """
    with streamed(launch, public) as daemon:
        daemon.ready()
        clients.converse(daemon.unpd.address("echo"), b"x")
        entries = entries_until(journald, "connection.ended")
        assert {entry.pid for entry in entries if entry["UNPD_EVENT"] == "master.ready"} == {
            daemon.unpd.pid
        }
        (ended,) = (entry for entry in entries if entry["UNPD_EVENT"] == "connection.ended")
        assert ended.pid in daemon.unpd.workers()
        assert (
            ended["PRIORITY"],
            ended["SYSLOG_IDENTIFIER"],
            ended["UNPD_ROLE"],
            ended["UNPD_CAUSE"],
        ) == ("7", "unpd", "worker", "client_fin")
        assert ended["MESSAGE"].startswith("connection.ended role=worker pool=default ")
        assert daemon.unpd.stop() == 0
        assert daemon.said == ""
    assert [entry["UNPD_EVENT"] for entry in journald.entries()][-1] == "master.stopped"


@faults.requires_namespaces()
@needs_place
def test_without_its_socket_the_journal_gets_lines_with_a_priority(
    launch: Launch, public: Path
) -> None:
    """When nothing listens on journald's socket, each event is a line on the stream
    that journald reads, with a priority in front and without a timestamp.
    """
    with streamed(launch, public) as daemon:
        daemon.ready()
        clients.converse(daemon.unpd.address("echo"), b"x")
        until(lambda: "connection.ended" in daemon.said, 10.0, "the line of the connection's end")
        assert daemon.unpd.stop() == 0
        lines = daemon.said.splitlines()
    assert all(re.match(r"<[3467]>[a-z]+\.[a-z_]+( |$)", line) for line in lines), lines
    assert lines[0].startswith("<6>config.loaded source=")
    assert any(line.startswith("<7>connection.ended role=worker ") for line in lines)


@faults.requires_namespaces()
@needs_place
def test_a_trace_goes_to_the_stream(launch: Launch, public: Path, journald: FakeJournald) -> None:
    """A worker's trace comes as lines on standard error. faulthandler writes it in
    pieces, and in the socket each piece would be an entry of its own.
    """
    with streamed(launch, public, TEXT + "\n[pools.default]\nworkers = 1\n") as daemon:
        daemon.ready()
        workers = daemon.unpd.workers()
        procs.kill(workers, SIGABRT)
        # The worker ends only while somebody reads: the trace of CPython 3.14 fills the
        # stream.
        until(
            lambda: "Fatal Python error: Aborted" in daemon.said and not procs.alive(workers[0]),
            10.0,
            "the trace on the stream, and the worker's end",
        )
        daemon.unpd.wait_respawned(workers)
        entries_until(journald, "worker.died")
        assert daemon.unpd.stop() == 0


@faults.requires_namespaces()
@needs_place
def test_json_stays_json(launch: Launch, public: Path, journald: FakeJournald) -> None:
    """With ``format = "json"`` the log goes to standard error as JSON, under systemd
    too.
    """
    with streamed(launch, public, TEXT.replace('"text"', '"json"')) as daemon:
        daemon.ready()
        assert daemon.unpd.stop() == 0
        events = [json.loads(line)["event"] for line in daemon.said.splitlines()]
    assert (events[0], events[-1]) == ("config.loaded", "master.stopped")
    assert journald.entries() == []


def test_a_redirected_standard_error_gets_text(launch: Launch) -> None:
    """When $JOURNAL_STREAM does not name descriptor 2, standard error was redirected.
    It gets text with timestamps and levels.
    """
    unpd = launch(
        WRONG.replace("nonsense", "tcp://127.0.0.1:0") + '\n[log]\nformat = "text"\n',
        ready=False,
        env={"JOURNAL_STREAM": "1:1"},
    )
    until(lambda: " master.ready " in unpd.stderr(), 20.0, "the daemon to be ready")
    assert re.match(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info    config\.loaded ", unpd.stderr()
    )


@faults.requires_root
@needs_place
def test_a_refused_start_is_an_error_of_the_journal(launch: Launch, public: Path) -> None:
    """The command's own message on standard error has the priority of an error."""
    with streamed(launch, public, WRONG) as daemon:
        daemon.unpd.expect_exit(78)
        assert daemon.unpd.wait_exit() == 78
        assert daemon.said.startswith("<3>unpd: ")
        assert "nonsense" in daemon.said


@faults.requires_namespaces()
def test_a_forked_child_sends_with_its_own_pid(journald: FakeJournald) -> None:
    """A forked child shares its parent's socket. The kernel tells journald the pid of
    each sender.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        log = Log(
            Journal(MemorySink().sink, sock, str(journald.path)),
            "info",
            "journal",
        )
        log.event("master.started")
        pid = os.fork()
        if pid == 0:
            log.child(role="worker").event("log.reopened")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        log.event("master.ready")
    assert [(entry["UNPD_EVENT"], entry.pid) for entry in journald.entries()] == [
        ("master.started", os.getpid()),
        ("log.reopened", pid),
        ("master.ready", os.getpid()),
    ]
