"""Starts one real unpd, reads its log, its metrics and /proc, and examines it after its
end.

:class:`tests.support.launch.Launch` creates the daemons; nearly every integration,
chaos and packaging test uses them. The tests of others have :mod:`unpd.testing`, which
is shipped with unpd: it starts a daemon in one way only, and asks its control socket,
where these tests break daemons, and read /proc instead.

:meth:`Unpd.finish` leaves no process behind whatever the test did. It reports what the
daemon should not have left: a wrong exit code, an orphan, a zombie, a socket or pid
file, a traceback, an error line that the test did not name, a port still in use.

A process belongs to the daemon by descent, by session or process group (the daemon
leads its own), or by UNPD_TEST_ID in its environment. A process that sets its title
over its environment loses the last, and a child leads a session of its own. Orphans
therefore become children of the test run
(see :func:`tests.support.procs.become_subreaper`), and are known by their titles.
"""

import contextlib
import errno
import http.client
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

from tests.support import ROOT, clients, procs
from tests.support.clients import Address
from tests.support.configs import table
from tests.support.fork_server import Forked, ForkServer
from tests.support.observed import (
    Answer,
    Event,
    Samples,
    contradiction,
    known,
    parse_address,
    parse_log,
    parse_samples,
    total,
)
from tests.support.waiting import pause, until
from unpd.metrics.pages import CACHED_S
from unpd.names import ChildKind

COMMAND = (sys.executable, "-m", "unpd")
READY_S = 20.0
STOP_S = 20.0
"""How long a stop may take unless the test sets ``unpd.stop_s``."""
COMM_BYTES = 15
LISTENING = "0A"
"""TCP_LISTEN, as /proc/net/tcp writes it."""
ORPHANS = tuple(
    title[: COMM_BYTES + 1]
    for role in (*ChildKind, "session")
    for title in (f"unpd: {role}", f"(unpd: {role}")
)
"""How the titles of children begin whose master has died, and of dead ones in brackets:
there the kernel keeps 15 bytes.
"""
ORPHANS_S = 2.0
"""How long a child may outlive its master unless the test sets ``unpd.orphans_s``."""

OF_THE_MANAGER = (
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
    "JOURNAL_STREAM",
)
NOT_INHERITED = (*OF_THE_MANAGER, "PYTEST_CURRENT_TEST")
READ_LATE = {*OF_THE_MANAGER, "PYTHONPATH"}
"""What the environment of a fork of the server can change."""
AS_LISTENERS = """
import fcntl, os, sys
fds, command = [int(fd) for fd in sys.argv[1].split(",")], sys.argv[2:]
aside = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100 + len(fds)) for fd in fds]
for at, fd in enumerate(aside):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(fds), 400)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(command[0], command)
"""
"""Runs between fork and exec. The descriptors move to 3 and up, and LISTEN_PID names
the process.
"""


@dataclass(slots=True)
class Expectations:
    """What the test expects of the daemon's end."""

    exit_code: int = 0
    errors: set[str] = field(default_factory=set)
    leftovers: set[Path] = field(default_factory=set)
    traceback: bool = False


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How to start the daemon. ``prefix`` goes before the command (strace, unshare, ip
    netns exec). ``env`` is added to the environment; None removes a name.
    ``listen_fds``: the descriptors that a service manager passes (sd_listen_fds(3)).
    ``server``: forks a daemon that needs no more than these and ``arguments``.
    """

    directory: Path
    server: ForkServer | None
    command: Sequence[str] = COMMAND
    arguments: Sequence[str] = ("run",)
    prefix: Sequence[str] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    preexec: Callable[[], object] | None = None
    pass_fds: Sequence[int] = ()
    listen_fds: Sequence[int] = ()
    detached: bool = False

    @property
    def server_of_daemons(self) -> ForkServer | None:
        """The server that can start the daemon. None: it takes more than a fork."""
        more = (self.prefix, self.preexec, self.pass_fds, self.detached)
        return None if any(more) else self.server_of_commands

    @property
    def server_of_commands(self) -> ForkServer | None:
        """The server that can run other commands of unpd in the same environment."""
        server = self.server
        if not server or not server.is_in_reach:
            return None
        return server if self.command is COMMAND and READ_LATE.issuperset(self.env) else None


class Unpd:
    """A started daemon. :class:`tests.support.launch.Launch` creates it."""

    def __init__(self, setting: StartOptions, config_text: str) -> None:
        self.setting = setting
        self.directory = setting.directory
        self.config_path = self.directory / "unpd.toml"
        self.config_path.write_text(config_text)
        daemon = table(config_text, "daemon")
        self.pid_file = Path(daemon.get("pid_file", self.directory / "unpd.pid"))
        self.control = Path(daemon.get("control", self.directory / "control.sock"))
        self.stderr_path = self.directory / "stderr"
        self.log_path = Path(table(config_text, "log").get("file") or self.stderr_path)
        self.expectations = Expectations()
        self.stop_s = STOP_S
        self.orphans_s = ORPHANS_S
        self.test_id = uuid.uuid4().hex
        self._existed = {path for path in (self.pid_file, self.control) if path.exists()}
        self._pid: int | None = None
        self._sessions: set[int] = set()
        self._exit_code: int | None = None
        self._page_at = -CACHED_S
        self._orphans_at_exit: list[procs.Stat] = []
        with self.stderr_path.open("ab") as stderr:
            self.process = self._start(stderr.fileno())
        self._sessions.add(self.process.pid)

    def _start(self, stderr_fd: int) -> "subprocess.Popen[bytes] | Forked":
        setting, environment = self.setting, self._environment()
        arguments = [*setting.arguments, "--config", str(self.config_path)]
        if server := setting.server_of_daemons:
            with Path(os.devnull).open("rb") as null:
                fds = (null.fileno(), 1, stderr_fd, *setting.listen_fds)
                return server.start(arguments, self.directory, environment, fds)
        listens: Sequence[str] = ()
        if setting.listen_fds:
            listens = (sys.executable, "-c", AS_LISTENERS, ",".join(map(str, setting.listen_fds)))
        return subprocess.Popen(
            [*setting.prefix, *listens, *setting.command, *arguments],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=stderr_fd,
            start_new_session=True,
            pass_fds=(*setting.pass_fds, *setting.listen_fds),
            preexec_fn=setting.preexec,  # noqa: PLW1509 - the test run has no thread
        )

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        ours = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED} | {
            "PYTHONPATH": path,
            "UNPD_TEST_ID": self.test_id,
        }
        changed = {**ours, **self.setting.env}
        return {name: value for name, value in changed.items() if value is not None}

    # expectations of the test

    def expect_exit(self, code: int) -> None:
        """Expect exit code ``code`` instead of 0. A negative number means that
        signal.
        """
        self.expectations.exit_code = code

    def expect_errors(self, *events: str) -> None:
        """Allow lines of level error with these events in the log."""
        self.expectations.errors.update(map(known, events))

    def expect_leftover(self, path: Path) -> None:
        """Allow ``path`` (a socket, the pid file) to exist after the end."""
        self.expectations.leftovers.add(path)

    def expect_traceback(self) -> None:
        """Allow a traceback on standard error, where the test makes the daemon itself
        fail.
        """
        self.expectations.traceback = True

    # processes

    @property
    def pid(self) -> int:
        """The pid of the master: the started process, the first unpd below a prefix
        that forks, or the pid in the pid file of a detached daemon.
        """
        if self._pid is None:
            self._pid = self._find_master()
            if found := procs.stat(self._pid):
                self._sessions.add(found.session)
        return self._pid

    def _find_master(self) -> int:
        if self.setting.detached:
            return int(self.pid_file.read_text().split()[0])
        if not self.setting.prefix:
            return self.process.pid
        below = (procs.stat(self.process.pid), *procs.descendants(self.process.pid))
        found = [process for process in below if process]
        names = [Path(word).name for word in self.setting.command[:1]]
        masters = [process.pid for process in found if process.title.startswith("unpd: ")]
        starting = [
            process.pid for process in found if Path(process.title.split(" ")[0]).name in names
        ]
        if not (masters or starting):
            raise AssertionError(f"no unpd below {' '.join(self.setting.prefix)}: {found}")
        return (masters or starting)[0]

    def workers(self) -> list[int]:
        """Return the pids of the living workers, by their titles."""
        return self.children(ChildKind.WORKER)

    def children(self, kind: ChildKind) -> list[int]:
        """Return the pids of the living children of a kind, by their titles."""
        return [
            child.pid
            for child in procs.children(self.pid)
            if child.title.startswith(f"unpd: {kind} ")
        ]

    def sessions(self, service: str = "") -> list[int]:
        """Return the pids of the living session processes, of one service if named, by
        their titles.
        """
        start = f"unpd: session {service} " if service else "unpd: session "
        return [child.pid for child in self.family() if child.title.startswith(start)]

    def exporter(self) -> int | None:
        """Return the pid of the exporter, or None if it is not alive."""
        return next(iter(self.children(ChildKind.EXPORTER)), None)

    def family(self) -> list[procs.Stat]:
        """Return every process of this daemon, zombies included. Another process may
        have the pid of a master that was reaped.
        """
        masters = {self.process.pid, *([] if self._pid is None else [self._pid])}
        if self._exit_code is not None:
            masters.clear()
        below = masters | {
            process.pid for master in masters for process in procs.descendants(master)
        }
        return [
            process
            for process in procs.all_processes()
            if process.pid in below or self._ours(process)
        ]

    def _ours(self, process: procs.Stat) -> bool:
        if process.session in self._sessions or process.pgid in self._sessions:
            return True
        if process.ppid == os.getpid() and process.title.startswith(ORPHANS):
            return True
        return (
            process.pid != os.getpid()
            and procs.environ(process.pid).get("UNPD_TEST_ID") == self.test_id
        )

    def signal(self, number: Signals) -> None:
        """Send ``number`` to the master."""
        os.kill(self.pid, number)

    def wait_respawned(self, before: Sequence[int], timeout_s: float = 10.0) -> list[int]:
        """Wait until all pids in ``before`` are gone and the same number of other
        workers exists. Return the new pids.
        """

        def replaced() -> list[int]:
            now = self.workers()
            return now if not set(now) & set(before) and len(now) == len(before) else []

        return until(
            replaced,
            timeout_s,
            lambda: f"workers {list(before)} to be replaced; there are {self.workers()}",
        )

    # log

    def log_text(self) -> str:
        """Return the log written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stderr(self) -> str:
        """Return standard error written so far."""
        return self.stderr_path.read_text(errors="replace")

    def log_events(self, name: str = "", *, level: str = "", **fields: Any) -> list[Event]:
        """Return the events so far, filtered by name, level and fields where given."""
        if name:
            known(name)
        return [
            event
            for event in parse_log(self.log_text())
            if name in ("", event.name) and level in ("", event.level) and event.matches(fields)
        ]

    def wait_event(
        self, name: str, *, timeout_s: float = 10.0, after: int = 0, **fields: Any
    ) -> Event:
        """Return the first matching event after the first ``after`` matching ones, and
        wait for it if needed. ``after`` is ``len(log_events(name, ...))`` at an earlier
        moment.
        """

        def there() -> list[Event]:
            return self.log_events(name, **fields)[after : after + 1]

        return until(
            there,
            timeout_s,
            lambda: (
                f"event {name} {fields} number {after + 1} in the log, which"
                f" ends:\n{self.log_text()[-2000:]}"
            ),
        )[0]

    # addresses and metrics

    def addresses(self, service: str) -> list[Address]:
        """Return the addresses of ``service`` ("metrics" for the exporter) for clients,
        in the order in which the listeners were opened.
        """
        return [
            parse_address(event.fields["address"])
            for event in self.log_events("listener.opened", service=service)
        ]

    def address(self, service: str, index: int = 0) -> Address:
        """Return one of :meth:`addresses`."""
        return self.addresses(service)[index]

    def port(self, service: str, index: int = 0) -> int:
        """Return the TCP port of one of :meth:`addresses`."""
        address = self.address(service, index)
        assert not isinstance(address, str), f"{service} listens on {address}, which has no port"
        return address[1]

    def get(
        self, path: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0
    ) -> Answer:
        """GET ``path`` from the exporter."""
        connection = http.client.HTTPConnection("unpd", timeout=timeout_s)
        connection.sock = clients.connect(self.address("metrics", -1), timeout_s=timeout_s)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": "localhost", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def metrics(self) -> Samples:
        """Scrape once. A page is shown for CACHED_S: this waits until that time of the
        last one is over.
        """
        pause(max(0.0, self._page_at + CACHED_S - time.monotonic()))
        answer = self.get("/metrics")
        self._page_at = time.monotonic()
        assert answer.status == http.client.OK, f"scrape: {answer}"
        return parse_samples(answer.body.decode())

    def metric(self, name: str, **labels: str) -> float:
        """Scrape and return one sample. KeyError if it does not exist."""
        return self.metrics()[name, frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """Scrape and return the sum of all samples of ``name`` whose labels include
        ``labels``. KeyError if no sample has that name.
        """
        return total(self.metrics(), name, **labels)

    def metric_becomes(
        self, value: float, name: str, *, timeout_s: float = 10.0, **labels: str
    ) -> None:
        """Wait until the sum of the samples of ``name`` with ``labels`` is
        ``value``.
        """
        last: list[float] = []

        def there() -> bool:
            last[:] = [self.total(name, **labels)]
            return last[0] == value

        until(there, timeout_s, lambda: f"{name}{labels} to become {value}; it is {last[-1]}")

    def run(
        self, *arguments: str, data: bytes = b"", timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run another command of unpd (status, reload, stop, client) to its end."""
        environment = self._environment()
        if server := self.setting.server_of_commands:
            return server.run(arguments, self.directory, environment, data, timeout_s)
        return subprocess.run(
            [*self.setting.command, *arguments],
            cwd=self.directory,
            env=environment,
            input=data,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    # the end

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until the daemon is ready, and each of its first children is ready or
        gone. AssertionError with the log if the daemon ends first.
        """
        if self.setting.detached:
            code = self.process.wait(timeout_s)
            assert code == 0, f"unpd start ended with {code}:\n{self.stderr()}"
        until(
            lambda: (
                self.log_events("master.ready")
                or (self.process.poll() is not None and not self.setting.detached)
            ),
            timeout_s,
            lambda: f"master.ready in the log, which ends:\n{self.log_text()[-4000:]}",
        )
        assert self.log_events("master.ready"), (
            f"unpd ended with {self.process.returncode} before it was"
            f" ready:\n{self.log_text()[-4000:]}"
        )
        until(
            lambda: (
                self._all_settled()
                or (self.process.poll() is not None and not self.setting.detached)
            ),
            timeout_s,
            lambda: f"every child to be ready or gone; the log ends:\n{self.log_text()[-4000:]}",
        )
        self._reap_detachers(self.pid)

    def _all_settled(self) -> bool:
        """Whether each spawned child is ready or gone. The master is ready with the
        first worker of each pool; the others may still be starting.
        """
        spawned = {
            event.fields["birth"] for event in self.log_events("child.spawned")
        }  # a line of level debug
        settled = {
            event.fields["birth"]
            for name in (*(f"{kind}.ready" for kind in ChildKind), "child.reaped")
            for event in self.log_events(name)
        }
        return spawned <= settled and not [
            child
            for child in procs.children(self.pid)
            if child.title.startswith("unpd: ") and " ready" not in child.title
        ]

    def _reap_detachers(self, master: int) -> None:
        """Reap the parent that a detached daemon left behind. Elsewhere init does
        that.
        """
        for process in self.family():
            if process.zombie and process.pid != master and process.ppid == os.getpid():
                procs.reap(process.pid)

    def wait_exit(self, timeout_s: float | None = None) -> int:
        """Wait for the end and return the exit code (negative: the signal). Note the
        orphans of that moment for :meth:`finish`.
        """
        limit_s = self.stop_s if timeout_s is None else timeout_s
        if self._exit_code is None:
            if self.setting.detached:
                self._exit_code = self._reap_detached(limit_s)
            else:
                try:
                    self._exit_code = self.process.wait(limit_s)
                except subprocess.TimeoutExpired:
                    raise AssertionError(
                        f"unpd did not end within {limit_s} s; the log"
                        f" ends:\n{self.log_text()[-2000:]}"
                    ) from None
            self._orphans_at_exit = [process for process in self.family() if not is_tracer(process)]
        return self._exit_code

    def _reap_detached(self, timeout_s: float) -> int:
        """Reap a daemon that detached itself and so became a child of this process."""
        statuses: list[int] = []

        def ended() -> list[int]:
            if (wait_status := procs.reap(self.pid)) is not None:
                statuses.append(wait_status)
            return statuses

        return os.waitstatus_to_exitcode(until(ended, timeout_s, f"{self.pid} to end")[0])

    def stop(self, number: Signals = SIGTERM, *, timeout_s: float | None = None) -> int:
        """Send ``number``, wait for the end, assert that no orphan is left, and return
        the exit code.
        """
        self.signal(number)
        code = self.wait_exit(timeout_s)
        assert not self._orphans_at_exit or number == SIGKILL, (
            f"orphans of {self.pid}: {self._orphans_at_exit}"
        )
        return code

    def finish(self) -> list[str]:
        """End the daemon if the test has not, examine what it left, and remove that.
        Return one sentence for each problem.
        """
        problems: list[str] = []
        try:
            if self._exit_code is None:
                problems += self._end()
            problems += self._examine_processes()
        # Whatever fails here, the processes below have to go.
        except Exception as failure:  # noqa: BLE001
            problems.append(f"the examination failed: {failure!r}")
        finally:
            procs.kill_and_reap(process for process in self.family() if process.pid != os.getpid())
            self.process.poll()
        return problems + self._examine_files() + self._examine_log() + self._examine_ports()

    def _end(self) -> list[str]:
        if self.setting.detached and self.process.wait(READY_S) != 0:
            self._exit_code = self.process.returncode
            return []
        if procs.alive(self.pid):
            lasting = [
                child
                for child in procs.children(self.pid)
                if child.zombie and not self._reaped(child)
            ]
            self.signal(SIGTERM)
            self.wait_exit()
            return [f"zombies while it ran: {lasting}"] if lasting else []
        self.wait_exit()
        return []

    def _reaped(self, zombie: procs.Stat) -> bool:
        try:
            return until(
                lambda: (now := procs.stat(zombie.pid)) is None or now.started != zombie.started,
                self.orphans_s,
                "the zombie to be reaped",
            )
        except AssertionError:
            return False

    def _examine_processes(self) -> list[str]:
        problems = []
        if self._exit_code is not None and self._exit_code != self.expectations.exit_code:
            problems.append(
                f"exit code {self._exit_code}, expected was {self.expectations.exit_code}"
            )
        if self._orphans_at_exit and self._exit_code != -SIGKILL:
            problems.append(f"orphans when the master left: {self._orphans_at_exit}")
        left: list[procs.Stat] = []

        def all_gone() -> bool:
            for process in self.family():
                if process.zombie and process.ppid == os.getpid():
                    procs.reap(process.pid)
            left[:] = self.family()
            return not left

        with contextlib.suppress(AssertionError):
            until(all_gone, self.orphans_s, "every process to end")
        if left:
            problems.append(f"processes left {self.orphans_s} s after the end: {left}")
        return problems

    def _examine_files(self) -> list[str]:
        if self._exit_code is not None and self._exit_code < 0:
            return []  # a killed master cannot clean up
        opened = [event.fields["address"] for event in self.log_events("listener.opened")]
        sockets = [
            Path(address.partition("://")[2])
            for address in opened
            if address.startswith(("unix://", "unixgram://"))
        ]
        expected = self.expectations.leftovers | self._existed
        return [
            f"left behind: {path}"
            for path in {self.pid_file, self.control, *sockets} - expected
            if path.exists() or path.is_symlink()
        ]

    def _examine_log(self) -> list[str]:
        problems = []
        if (
            not self.expectations.traceback
            and "Traceback (most recent call last)" in self.stderr() + self.log_text()
        ):
            problems.append(f"a traceback on standard error:\n{self.stderr()[-4000:]}")
        for event in self.log_events():
            if event.level in ("error", "critical") and event.name not in self.expectations.errors:
                problems.append(f"an error line that the test does not name: {event}")
            if complaint := contradiction(event):
                problems.append(f"against the table of log events: {complaint}: {event}")
        return problems

    def _examine_ports(self) -> list[str]:
        opened = {
            event.fields["address"]
            for event in self.log_events("listener.opened")
            if event.fields["address"].startswith("tcp://")
        }
        return [
            f"still taken: {address}"
            for address in sorted(opened)
            if _taken(parse_address(address)) and held_here(parse_address(address))
        ]


def is_tracer(process: procs.Stat) -> bool:
    """Whether ``process`` is strace, which ends a moment after its tracee."""
    return process.title.split(" ")[0].endswith(("strace", "(strace)"))


def held_here(address: Address) -> bool:
    """Whether a process of this test run holds a TCP listener on the address's port.
    Another run on this machine may have received a port that became free.
    """
    inodes = set()
    for kind in ("tcp", "tcp6"):
        for row in (procs.PROC / "net" / kind).read_text().splitlines()[1:]:
            _, local, _, state, *rest = row.split()
            if state == LISTENING and int(local.rpartition(":")[2], 16) == address[1]:
                inodes.add(f"socket:[{rest[5]}]")
    ours = [os.getpid(), *(process.pid for process in procs.descendants(os.getpid()))]
    return any(inodes & set(procs.fds(pid).values()) for pid in ours)


def _taken(address: Address) -> bool:
    with socket.socket(clients.family(address), socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen()
        except OSError as failure:
            return failure.errno == errno.EADDRINUSE
    return False
