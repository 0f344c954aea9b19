"""The pytest fixture ``unpd_daemon``: real daemons for the tests of your own services.

A ``conftest.py`` or a test module names this module, and its tests start daemons::

    pytest_plugins = ["unpd.testing"]


    def test_it_echoes(unpd_daemon):
        daemon = unpd_daemon(CONFIG)
        with daemon.connect("echo") as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"

Owns the daemons that the fixture starts, and their directories below the ``tmp_path``
of the test. Called by pytest alone: nothing else of unpd imports this module, and
pytest is no dependency of unpd. Calls the command ``unpd run`` and the control socket.
Errors: a test fails with one sentence if a daemon does not start, does not stop well,
or has logged errors.

PYTEST_DONT_REWRITE: this module asserts nothing, and tests may import its types before
pytest loads it.

Known gaps: if the process of the tests is killed, its daemons serve on. If a daemon has
to be killed, its session processes last as long as their clients.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unpd.config.addresses import FileAddress, InternetAddress, parse_address, takes_datagrams
from unpd.control.client import ControlClient
from unpd.control.protocol import Request
from unpd.kernel.processes import signal_name

START_S = 30.0
"""How long a daemon may take until it is ready."""
STOP_S = 30.0
"""How long a daemon may take to stop: more than ``daemon.grace_s`` has by default."""
CONNECT_S = 10.0
"""How long a client may wait for the daemon."""
_COMMAND = (sys.executable, "-P", "-m", "unpd")
"""Without the current directory on the import path: the command has none there."""
_OFFERS = ("FDSTORE", "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_PID", "WATCHDOG_USEC")
"""What a service manager may have offered to the process of the tests alone."""

SocketAddress = tuple[str, int] | str
"""An address as the module socket takes it: host and port, or a path."""


class RunningDaemon:
    """A daemon that serves. ``pid``: its main process.

    ``directory`` has its files: ``unpd.toml`` with the text of the test, ``unpd.log``
    with a JSON object in each line, and ``stderr``. A drop-in sets these places, and
    has the exporter listen on a free port.
    """

    def __init__(self, directory: Path, config: str) -> None:
        self.directory = directory
        self._control = directory / "control.sock"
        self._log = directory / "unpd.log"
        self._stderr = directory / "stderr"
        self._expected: set[str] = set()
        self._is_checked = False
        self._write_config(config)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as announcements:
            announcements.bind(str(directory / "notify.sock"))
            self._process = self._start()
            self.pid = self._process.pid
            if not _announces_ready(announcements, self.pid):
                self._fail_start()

    def _write_config(self, config: str) -> None:
        (self.directory / "conf.d").mkdir(parents=True)
        (self.directory / "unpd.toml").write_text(config)
        (self.directory / "conf.d/testing.toml").write_text(
            f"daemon.pid_file = {json.dumps(str(self.directory / 'unpd.pid'))}\n"
            f"daemon.control = {json.dumps(str(self._control))}\n"
            f"log.file = {json.dumps(str(self._log))}\n"
            'log.format = "json"\n'
            'metrics.listen = "tcp://127.0.0.1:0"\n'
        )

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if name not in _OFFERS}
        environment["NOTIFY_SOCKET"] = str(self.directory / "notify.sock")
        with self._stderr.open("wb") as stderr:
            return subprocess.Popen(  # noqa: S603 - our own command
                [*_COMMAND, "run", "--config", str(self.directory / "unpd.toml")],
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

    def _fail_start(self) -> None:
        """Fail the test with the reason for which the daemon does not serve."""
        code = self._process.poll()
        how = f"it took more than {START_S:g} s" if code is None else f"it {_ended(code)}"
        self._process.kill()
        self._process.wait()
        said = self._stderr.read_text(errors="replace").strip() or self.log[-2000:]
        pytest.fail(f"unpd did not start, {how}: {said.removeprefix('unpd: ')}", pytrace=False)

    def addresses(self, service: str) -> list[SocketAddress]:
        """The addresses of a service, in the order of its listeners; that of the
        exporter for "metrics".
        """
        return [_socket_address(text) for text in self._listeners(service)]

    def connect(self, service: str, index: int = 0) -> socket.socket:
        """A new connection to one of the listeners of a service, or a socket that sends
        to it if it takes datagrams. Its timeout is CONNECT_S.
        """
        text = self._listeners(service)[index]
        address = _socket_address(text)
        sock = socket.socket(_family(address), _type(text))
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def _listeners(self, service: str) -> list[str]:
        """The addresses of a service as the configuration writes them."""
        with contextlib.closing(ControlClient(self._control)) as client:
            status = client.ask(Request("status"))["status"]
        if service == "metrics":
            return [status["metrics"]]
        listeners = {each["name"]: each["listeners"] for each in status["services"]}
        return [listener["address"] for listener in listeners[service]]

    @property
    def log(self) -> str:
        """The log so far."""
        return self._log.read_text() if self._log.exists() else ""

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """The lines of the log so far as objects: all, or those about one event, such
        as "connection.failed".
        """
        lines = [json.loads(line) for line in self.log.splitlines()]
        return [line for line in lines if name in ("", line["event"])]

    def expect_errors(self, *names: str) -> None:
        """Let the log have errors with these events, such as "session.failed"."""
        self._expected.update(names)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command for this daemon to its end, such as ``run("reload")`` after a
        change of ``unpd.toml``.
        """
        return subprocess.run(  # noqa: S603 - our own command
            [*_COMMAND, *words, "--config", str(self.directory / "unpd.toml")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self) -> None:
        """Stop the daemon as ``unpd stop`` does, unless it was stopped before, and fail
        the test if it does not end well, or has logged errors that are not expected.
        """
        if self._is_checked:
            return
        self._is_checked = True
        self._process.terminate()
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail(f"unpd did not stop within {STOP_S:g} s", pytrace=False)
        if code != 0:
            said = self._stderr.read_text(errors="replace").strip()
            pytest.fail(f"unpd {_ended(code)}: {said}", pytrace=False)
        errors = [line for line in self.events() if line["level"] == "error"]
        if found := [line for line in errors if line["event"] not in self._expected]:
            pytest.fail(
                f"unpd logged an error that the test does not expect: {found[0]}", pytrace=False
            )


StartDaemon = Callable[[str], RunningDaemon]
"""The type of the fixture."""


@pytest.fixture
def unpd_daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartDaemon]:
    """Start a daemon with ``unpd_daemon(CONFIG)``, the text of an unpd.toml. It serves
    when the call returns, and is stopped and checked after the test. If the test fails,
    pytest shows its log.
    """
    started: list[RunningDaemon] = []

    def start(config: str) -> RunningDaemon:
        started.append(RunningDaemon(tmp_path / f"unpd-{len(started)}", config))
        return started[-1]

    with contextlib.ExitStack() as stops:
        yield start
        for daemon in started:
            stops.callback(_show_log, daemon, request)
            stops.callback(daemon.stop)


def _show_log(daemon: RunningDaemon, request: pytest.FixtureRequest) -> None:
    request.node.add_report_section("teardown", "unpd.log", daemon.log)


def _announces_ready(announcements: socket.socket, pid: int) -> bool:
    """Wait until a daemon says that it serves (sd_notify(3)). False if it ends instead,
    or takes longer than START_S.
    """
    deadline_at = time.monotonic() + START_S
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(announcements, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    try:
        while (left_s := deadline_at - time.monotonic()) > 0:
            readable = [fd for fd, _ in poll.poll(left_s * 1000)]
            if announcements.fileno() not in readable:
                return False
            if b"READY=1" in announcements.recv(4096).splitlines():
                return True
    finally:
        os.close(pidfd)
    return False


def _ended(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal_name(-code)}"


def _socket_address(text: str) -> SocketAddress:
    match parse_address(text):
        case InternetAddress(host, port):
            return host, port
        case FileAddress(path):
            return path
    raise AssertionError(f"{text} is no address of a socket")


def _family(address: SocketAddress) -> socket.AddressFamily:
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _type(text: str) -> socket.SocketKind:
    return socket.SOCK_DGRAM if takes_datagrams(parse_address(text)) else socket.SOCK_STREAM
