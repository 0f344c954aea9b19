"""A real unpd: started from a configuration, watched through its log, metrics and
/proc, and examined after its end.

Whatever a test did, :meth:`Unpd.finish` leaves no process behind, and says what the
daemon left that it should not have: a wrong exit code, an orphan, a zombie, a socket or
pid file, a traceback, an error line that the test did not name, a port that is still
taken.

A process of the daemon is known by descent, by session and process group (the daemon
leads its own), and by UNPD_TEST_ID in its environment. The last is lost where a process
sets its title over its environment; orphans therefore become children of the test run
itself (see :func:`tests.support.procs.become_subreaper`).
"""

import contextlib
import errno
import http.client
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

from tests.support import ROOT, clients, procs
from tests.support.clients import Address
from tests.support.configs import table
from tests.support.observed import (
    Answer,
    Event,
    Samples,
    parse_address,
    parse_log,
    parse_samples,
    total,
)
from tests.support.waiting import until

COMMAND = (sys.executable, "-m", "unpd")
READY_S = 20.0
STOP_S = 20.0
"""How long an end may take unless the test says otherwise (``unpd.stop_s``)."""
LISTENING = "0A"
"""TCP_LISTEN, as /proc/net/tcp writes it."""
ORPHANS_S = 2.0
"""How long a child may outlive its master unless the test says otherwise
(``unpd.orphans_s``).
"""

NOT_INHERITED = (
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
    "JOURNAL_STREAM",
    "PYTEST_CURRENT_TEST",
)


@dataclass(slots=True)
class Promises:
    """What the test says about the daemon's end."""

    exit_code: int = 0
    errors: set[str] = field(default_factory=set)
    leftovers: set[Path] = field(default_factory=set)
    traceback: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """How to start the daemon. ``prefix`` goes before the command (strace, unshare, ip
    netns exec); ``env`` is added to the environment, None takes a name away.
    """

    directory: Path
    command: Sequence[str] = COMMAND
    arguments: Sequence[str] = ("run",)
    prefix: Sequence[str] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    preexec: Callable[[], object] | None = None
    pass_fds: Sequence[int] = ()
    detached: bool = False


class Unpd:
    """A daemon that was started; :class:`tests.support.launch.Launch` makes it."""

    def __init__(self, setting: Setting, config_text: str) -> None:
        self.setting = setting
        self.directory = setting.directory
        self.config_path = self.directory / "unpd.toml"
        self.config_path.write_text(config_text)
        daemon = table(config_text, "daemon")
        self.pid_file = Path(daemon.get("pid_file", self.directory / "unpd.pid"))
        self.control = Path(daemon.get("control", self.directory / "control.sock"))
        self.stderr_path = self.directory / "stderr"
        self.log_path = Path(table(config_text, "log").get("file") or self.stderr_path)
        self.promises = Promises()
        self.stop_s = STOP_S
        self.orphans_s = ORPHANS_S
        self.test_id = uuid.uuid4().hex
        self._existed = {path for path in (self.pid_file, self.control) if path.exists()}
        self._pid: int | None = None
        self._sessions: set[int] = set()
        self._exit_code: int | None = None
        self._orphans_at_exit: list[procs.Stat] = []
        with self.stderr_path.open("ab") as stderr:
            self.process = subprocess.Popen(
                [
                    *setting.prefix,
                    *setting.command,
                    *setting.arguments,
                    "--config",
                    str(self.config_path),
                ],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                pass_fds=setting.pass_fds,
                preexec_fn=setting.preexec,  # noqa: PLW1509 - the test run has no thread
            )
        self._sessions.add(self.process.pid)

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        ours = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED} | {
            "PYTHONPATH": path,
            "UNPD_TEST_ID": self.test_id,
        }
        changed = {**ours, **self.setting.env}
        return {name: value for name, value in changed.items() if value is not None}

    # what the test promises

    def expect_exit(self, code: int) -> None:
        """The daemon will end with ``code`` (negative: by that signal) instead of 0."""
        self.promises.exit_code = code

    def expect_errors(self, *events: str) -> None:
        """Lines of level error with these events may appear in the log."""
        self.promises.errors.update(events)

    def expect_leftover(self, path: Path) -> None:
        """``path`` (a socket, the pid file) may be there after the end."""
        self.promises.leftovers.add(path)

    def expect_traceback(self) -> None:
        """A trace may be on standard error: the test provokes a failure of the daemon
        itself.
        """
        self.promises.traceback = True

    # processes

    @property
    def pid(self) -> int:
        """The master: the process started, the first unpd below a prefix that forks, or
        what the pid file of a detached one says.
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
        found = (procs.stat(self.process.pid), *procs.descendants(self.process.pid))
        names = [Path(word).name for word in self.setting.command[:1]]
        masters = [
            process.pid
            for process in found
            if process
            and (
                process.title.startswith("unpd: ")
                or Path(process.title.split(" ")[0]).name in names
            )
        ]
        if not masters:
            raise AssertionError(f"no unpd below {' '.join(self.setting.prefix)}: {found}")
        return masters[0]

    def workers(self) -> list[int]:
        """The pids of the living workers, as their titles say."""
        return [
            child.pid
            for child in procs.children(self.pid)
            if child.title.startswith("unpd: worker")
        ]

    def exporter(self) -> int | None:
        """The pid of the exporter, if it lives."""
        return next(
            (
                child.pid
                for child in procs.children(self.pid)
                if child.title.startswith("unpd: exporter")
            ),
            None,
        )

    def family(self) -> list[procs.Stat]:
        """Every process of this daemon, zombies too."""
        below = {
            self.process.pid,
            *(process.pid for process in procs.descendants(self.process.pid)),
        }
        if self._pid is not None:
            below |= {self._pid, *(process.pid for process in procs.descendants(self._pid))}
        return [process for process in procs.every() if process.pid in below or self._ours(process)]

    def _ours(self, process: procs.Stat) -> bool:
        if process.session in self._sessions or process.pgid in self._sessions:
            return True
        return (
            process.pid != os.getpid()
            and procs.environ(process.pid).get("UNPD_TEST_ID") == self.test_id
        )

    def signal(self, number: Signals) -> None:
        """Send ``number`` to the master."""
        os.kill(self.pid, number)

    def respawned(self, before: Sequence[int], timeout_s: float = 10.0) -> list[int]:
        """Wait until none of the pids ``before`` is left and as many other workers are
        there; return those.
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
        """The log as it is now."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stderr(self) -> str:
        """Standard error as it is now."""
        return self.stderr_path.read_text(errors="replace")

    def log_events(self, name: str = "", *, level: str = "", **fields: Any) -> list[Event]:
        """The events so far: of one name, of one level, with these fields, if given."""
        return [
            event
            for event in parse_log(self.log_text())
            if name in ("", event.name) and level in ("", event.level) and event.matches(fields)
        ]

    def wait_event(
        self, name: str, *, timeout_s: float = 10.0, after: int = 0, **fields: Any
    ) -> Event:
        """The first event of that name and fields that is, or comes, after the first
        ``after`` of them (as ``len(log_events(name, ...))`` told earlier).
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
        """Where clients reach ``service`` ("metrics" for the exporter), in the order in
        which the listeners were opened.
        """
        return [
            parse_address(event.fields["address"])
            for event in self.log_events("listener.opened", service=service)
        ]

    def address(self, service: str, index: int = 0) -> Address:
        """One of :meth:`addresses`."""
        return self.addresses(service)[index]

    def port(self, service: str, index: int = 0) -> int:
        """The TCP port of one of :meth:`addresses`."""
        address = self.address(service, index)
        assert not isinstance(address, str), f"{service} listens on {address}, which has no port"
        return address[1]

    def get(
        self, path: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0
    ) -> Answer:
        """GET ``path`` of the exporter."""
        connection = http.client.HTTPConnection("unpd", timeout=timeout_s)
        connection.sock = clients.connect(self.address("metrics", -1), timeout_s=timeout_s)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": "localhost", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def metrics(self) -> Samples:
        """One scrape."""
        answer = self.get("/metrics")
        assert answer.status == http.client.OK, f"scrape: {answer}"
        return parse_samples(answer.body.decode())

    def metric(self, name: str, **labels: str) -> float:
        """One sample of a scrape of its own; KeyError if there is none."""
        return self.metrics()[name, frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of ``name`` that have ``labels`` among theirs."""
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
        """Run another verb of the command line (status, reload, stop, client) to its
        end.
        """
        return subprocess.run(
            [*self.setting.command, *arguments],
            cwd=self.directory,
            env=self._environment(),
            input=data,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    # the end

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Until the daemon says that it is ready, and each of its first children is, or
        is gone; AssertionError with the log if it ends instead.
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
        """Whether each child that was spawned is ready or gone: the master is ready
        with the first worker of each pool, the others may still be on their way.
        """
        spawned = {
            event.fields["birth"] for event in self.log_events("child.spawned")
        }  # a line of level debug
        settled = {
            event.fields["birth"]
            for name in ("worker.ready", "exporter.ready", "child.reaped")
            for event in self.log_events(name)
        }
        return spawned <= settled and not [
            child
            for child in procs.children(self.pid)
            if child.title.startswith("unpd: ") and " ready" not in child.title
        ]

    def _reap_detachers(self, master: int) -> None:
        """The parent that a detached daemon has left behind on its way is dead and ours
        to collect, as it is init's elsewhere.
        """
        for process in self.family():
            if process.zombie and process.pid != master and process.ppid == os.getpid():
                procs.reap(process.pid)

    def wait_exit(self, timeout_s: float | None = None) -> int:
        """The exit code, once the daemon has ended (negative: the signal). What it left
        as orphans at that moment is noted for :meth:`finish`.
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
        """A daemon that detached itself has become a child of ours."""
        statuses: list[int] = []

        def ended() -> list[int]:
            if (wait_status := procs.reap(self.pid)) is not None:
                statuses.append(wait_status)
            return statuses

        return os.waitstatus_to_exitcode(until(ended, timeout_s, f"{self.pid} to end")[0])

    def stop(self, number: Signals = SIGTERM, *, timeout_s: float | None = None) -> int:
        """Ask the daemon to end, wait for it, assert that it left no orphan, and return
        its exit code.
        """
        self.signal(number)
        code = self.wait_exit(timeout_s)
        assert not self._orphans_at_exit or number == SIGKILL, (
            f"orphans of {self.pid}: {self._orphans_at_exit}"
        )
        return code

    def finish(self) -> list[str]:
        """End the daemon if the test has not, examine what it left, and remove that.
        Returns what is wrong, one sentence each.
        """
        problems: list[str] = []
        try:
            if self._exit_code is None:
                problems += self._end()
            problems += self._examine_processes()
        # whatever fails here, the processes below have to go
        except Exception as failure:  # noqa: BLE001
            problems.append(f"the examination failed: {failure!r}")
        finally:
            procs.sweep(process for process in self.family() if process.pid != os.getpid())
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
                "reaping",
            )
        except AssertionError:
            return False

    def _examine_processes(self) -> list[str]:
        problems = []
        if self._exit_code is not None and self._exit_code != self.promises.exit_code:
            problems.append(f"exit code {self._exit_code}, promised was {self.promises.exit_code}")
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
            until(all_gone, self.orphans_s, "")
        if left:
            problems.append(f"processes left {self.orphans_s} s after the end: {left}")
        return problems

    def _examine_files(self) -> list[str]:
        if self._exit_code is not None and self._exit_code < 0:
            return []  # a killed master cannot clean up
        opened = [event.fields["address"] for event in self.log_events("listener.opened")]
        sockets = [
            Path(address.removeprefix("unix://"))
            for address in opened
            if address.startswith("unix://")
        ]
        expected = self.promises.leftovers | self._existed
        return [
            f"left behind: {path}"
            for path in {self.pid_file, self.control, *sockets} - expected
            if path.exists() or path.is_symlink()
        ]

    def _examine_log(self) -> list[str]:
        problems = []
        if (
            not self.promises.traceback
            and "Traceback (most recent call last)" in self.stderr() + self.log_text()
        ):
            problems.append(f"a traceback on standard error:\n{self.stderr()[-4000:]}")
        unexpected = [
            event
            for event in self.log_events()
            if event.level in ("error", "critical") and event.name not in self.promises.errors
        ]
        return problems + [
            f"an error line that the test does not name: {event}" for event in unexpected
        ]

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
    """Whether ``process`` is strace, which ends a moment after what it traces."""
    return process.title.split(" ")[0].endswith(("strace", "(strace)"))


def held_here(address: Address) -> bool:
    """Whether a process of this test run holds a TCP listener on the address's port:
    beside it another run may have been given the port that became free.
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
