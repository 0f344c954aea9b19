"""Under systemd the log goes to the journal: entries to its socket, lines with a
priority to its stream where the socket is out of reach.
"""

import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGABRT

import pytest

from tests.support import clients, faults, procs
from tests.support.daemon import Unpd
from tests.support.fake_journald import Entry, FakeJournald
from tests.support.launch import Launch
from tests.support.operating import status
from tests.support.waiting import until
from unpd.kernel.journal import SOCKET
from unpd.logs import Log
from unpd.sinks import Journal, Sink

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
"""In a mount namespace of its own: journald's directory is the one given, whatever
journald this machine has.
"""
needs_place = pytest.mark.skipif(
    not Path(SOCKET).parents[1].is_dir(), reason=f"needs the directory {Path(SOCKET).parents[1]}"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """The directory that the daemon takes for journald's; the unprivileged workers can
    reach it.
    """
    path = Path(tempfile.mkdtemp(prefix="unpd-journal-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def journald(place: Path) -> Iterator[FakeJournald]:
    """A journald at its place. Nobody reads it all the time, so its queue has to be
    long; that is set for a network namespace.
    """
    with faults.namespace() as space:
        space.sysctl("net.unix.max_dgram_qlen", "1000")
        with space.entered():
            found = FakeJournald(place / "socket")
        yield found
        found.stop()


class Streamed:
    """A daemon whose standard error is a stream that systemd says is the journal's;
    ``said`` is what came over it.
    """

    def __init__(self, unpd: Unpd, stream: socket.socket) -> None:
        self.unpd = unpd
        self._stream = stream
        self._said = b""

    @property
    def said(self) -> str:
        """All that has come so far."""
        try:
            while piece := self._stream.recv(65536, socket.MSG_DONTWAIT):
                self._said += piece
        except BlockingIOError:
            pass
        return self._said.decode()

    def ready(self) -> None:
        """Wait until the daemon is, and write down for the test's tools where it
        listens.
        """

        def is_ready() -> bool:
            try:
                return bool(status(self.unpd)["ready"])
            except (
                FileNotFoundError,
                ConnectionRefusedError,
            ):  # between its bind and its listen a socket is there and refuses
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
def streamed(launch: Launch, place: Path, text: str = TEXT) -> Iterator[Streamed]:
    """Start a daemon as systemd does: $JOURNAL_STREAM names the socket that is its
    descriptor 2, and ``place`` is where journald has its own.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        there = os.fstat(theirs.fileno())
        unpd = launch(
            text,
            ready=False,
            prefix=("unshare", "--mount", "sh", "-c", REACH, str(place)),
            env={"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"},
            preexec=lambda: os.dup2(theirs.fileno(), 2),
        )
        yield Streamed(unpd, ours)


def heard(journald: FakeJournald, wanted: str) -> list[Entry]:
    """What has come by the time when the event ``wanted`` has."""
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
    launch: Launch, place: Path, journald: FakeJournald
) -> None:
    """The master sends its own and each worker, which is no longer root, its own;
    nothing goes to standard error.
    """
    with streamed(launch, place) as daemon:
        daemon.ready()
        clients.converse(daemon.unpd.address("echo"), b"x")
        entries = heard(journald, "connection.ended")
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
    launch: Launch, place: Path
) -> None:
    """Nothing answers at journald's socket: each event is a line on the stream that
    journald reads, with the priority in front and no stamp.
    """
    with streamed(launch, place) as daemon:
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
def test_a_trace_goes_to_the_stream(launch: Launch, place: Path, journald: FakeJournald) -> None:
    """A worker's last words come as lines on standard error: faulthandler writes piece
    by piece, and each piece would be an entry of its own in the socket.
    """
    with streamed(launch, place, TEXT + "\n[pools.default]\nworkers = 1\n") as daemon:
        daemon.ready()
        workers = daemon.unpd.workers()
        procs.kill(workers, SIGABRT)
        until(lambda: "Fatal Python error: Aborted" in daemon.said, 10.0, "the trace on the stream")
        daemon.unpd.wait_respawned(workers)
        heard(journald, "worker.died")
        assert daemon.unpd.stop() == 0


@faults.requires_namespaces()
@needs_place
def test_json_that_was_asked_for_stays_json(
    launch: Launch, place: Path, journald: FakeJournald
) -> None:
    """The configuration says json: that is what standard error gets, under
    systemd too.
    """
    with streamed(launch, place, TEXT.replace('"text"', '"json"')) as daemon:
        daemon.ready()
        assert daemon.unpd.stop() == 0
        events = [json.loads(line)["event"] for line in daemon.said.splitlines()]
    assert (events[0], events[-1]) == ("config.loaded", "master.stopped")
    assert journald.entries() == []


def test_a_redirected_standard_error_gets_text(launch: Launch) -> None:
    """$JOURNAL_STREAM names another file than descriptor 2: somebody redirected it, and
    reads stamps and levels.
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
def test_a_refused_start_is_an_error_of_the_journal(launch: Launch, place: Path) -> None:
    """What the command says itself, on standard error, has the priority of an error
    too.
    """
    with streamed(launch, place, WRONG) as daemon:
        daemon.unpd.expect_exit(78)
        assert daemon.unpd.wait_exit() == 78
        assert daemon.said.startswith("<3>unpd: ")
        assert "nonsense" in daemon.said


@faults.requires_namespaces()
def test_a_forked_child_is_itself(journald: FakeJournald) -> None:
    """It shares its parent's socket, and the kernel tells journald the pid of each
    sender.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        log = Log(Journal(Sink(-1, len), sock, str(journald.path)), "info", "journal")
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
