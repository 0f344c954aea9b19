"""A redirect of a real daemon, with real targets: what fails under load, and what a
reload, a stop, and the rules of access do.
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import pytest

from tests.support import clients
from tests.support.counts import wait_active, wait_ended
from tests.support.launch import Launch
from tests.support.operating import reload, renew
from tests.support.ports import free_port
from tests.support.threads import beside
from tests.support.waiting import until

GREETER = Path(__file__).parents[1] / "support/greeter.py"
PATIENCE_S = 30.0
CLIENTS = 8
"""How many come at the same time."""


@dataclass(frozen=True, slots=True)
class Greeter:
    """A target that greets with its name."""

    name: str
    process: subprocess.Popen[str]
    port: int

    @property
    def text(self) -> str:
        """As the configuration has it."""
        return f"tcp://127.0.0.1:{self.port}"

    def die(self) -> None:
        """Have it end between two clients."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill it, whatever it does at the moment."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def greeter(name: str, port: int = 0) -> Iterator[Greeter]:
    """A target that runs until the end of the block at most. ``port``: 0 for any."""
    with subprocess.Popen(
        [sys.executable, str(GREETER), name, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield Greeter(name, process, int(process.stdout.readline()))
        finally:
            process.kill()


def redirect(*to: str, more: str = "") -> str:
    """A configuration of one redirect, whose retry_s is short."""
    targets = ", ".join(f'"{target}"' for target in to)
    return f"""
[services.web]
type = "redirect"
listen = ["tcp://127.0.0.1:0"]
to = [{targets}]
retry_s = 0.5
{more}
"""


def greeting(sock: socket.socket) -> str:
    """The first line that a client gets; "" at the end."""
    line = b""
    while not line.endswith(b"\n"):
        piece = sock.recv(1)
        if not piece:
            return ""
        line += piece
    return line.decode().strip()


@dataclass(slots=True)
class Load:
    """Clients that come one after the other, in some threads, until ``stop``.

    ``served``: by which target each was served whole. ``lost``: the targets of those
    that ended early after their greeting. ``failed``: what those got that had none, and
    their ports.
    """

    address: tuple[str, int]
    served: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    failed: list[tuple[str, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Be one of the threads."""
        while not self.stop.is_set():
            with clients.connect(self.address, timeout_s=PATIENCE_S) as sock:
                self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        port = sock.getsockname()[1]
        try:
            name = greeting(sock)
        except OSError as error:
            self.failed.append((repr(error), port))
            return
        if not name:
            self.failed.append(("the end", port))
            return
        try:
            sock.sendall(b"x" * 1000)
            whole = clients.read_exactly(sock, 1000) == b"x" * 1000
        except OSError:
            whole = False
        (self.served if whole else self.lost).append(name)

    @contextlib.contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """So many threads, until the end of the block."""
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(beside(self.run, stop=self.stop.set))
            yield

    def becomes(self, name: str, more: int, message: str) -> None:
        """Wait until a target has served so many clients more."""
        wanted = self.served.count(name) + more
        until(lambda: self.served.count(name) >= wanted, PATIENCE_S, message)


def test_a_target_that_is_killed_under_load_costs_only_its_own_clients(launch: Launch) -> None:
    """Of two targets one dies while clients come as fast as they are served. Every
    client that was not connected to it already is served by the other one, without an
    error.
    """
    with greeter("first") as first, greeter("second") as second:
        unpd = launch(redirect(first.text, second.text))
        address = unpd.address("web")
        assert isinstance(address, tuple)
        load = Load(address)
        with load.threads(CLIENTS):
            load.becomes("first", 200, "load on both targets")
            first.die()
            load.becomes("second", 500, "load on the other target")
    assert load.failed == []
    assert set(load.lost) <= {"first"}
    assert len(load.lost) <= CLIENTS
    assert set(load.served[-200:]) == {"second"}
    unpd.wait_event("target.failed", target=first.text)
    assert unpd.total("unpd_target_connect_failures_total", target=first.text) >= 1


@pytest.mark.slow
def test_a_target_killed_at_any_moment_costs_only_its_own_clients(
    launch: Launch, rng: random.Random
) -> None:
    """Of two targets one is killed by SIGKILL again and again, in the middle of its
    work. Each client that sees an error was connected to it, as its greeting or the log
    tells. The others are served. The target is used again once it is back.
    """
    kills = 5
    with greeter("second") as second, contextlib.ExitStack() as stack:
        first = stack.enter_context(greeter("first", free_port()))
        log = '[log]\nlevel = "info"\nconnections = true\n'
        unpd = launch(log + redirect(first.text, second.text))
        address = unpd.address("web")
        assert isinstance(address, tuple)
        load = Load(address)
        with load.threads(CLIENTS):
            for _ in range(kills):
                load.becomes("first", rng.randint(50, 150), "load on both targets")
                first.kill()
                load.becomes("second", 200, "load on the other target")
                first = stack.enter_context(greeter("first", first.port))
            load.becomes("first", 50, "load on the target that is back")
        assert set(load.lost) <= {"first"}
        for error, port in load.failed:
            line = unpd.wait_event("connection.ended", peer=f"127.0.0.1:{port}")
            assert line.fields.get("target") == first.text, (error, line)
    assert len(load.lost) + len(load.failed) <= kills * CLIENTS
    unpd.wait_event("target.back", target=first.text)


def test_a_redirect_is_counted_by_target_and_errno(launch: Launch) -> None:
    """In the metrics, with each target as configured; the series of a target outlives
    it.
    """
    with greeter("alive") as alive, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        dead = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        one_worker = "[pools.default]\nworkers = 1\n"
        unpd = launch(one_worker + redirect(dead, alive.text))
        for _ in range(2):
            with clients.connect(unpd.address("web")) as sock:
                assert greeting(sock) == "alive"
        unpd.metric_becomes(2, "unpd_target_connections_total", target=alive.text)
        name = "unpd_target_connect_failures_total"
        unpd.metric_becomes(1, name, target=dead, service="web", errno="ECONNREFUSED")
        wait_ended(unpd, {"client_fin": 2}, service="web")
        reload(unpd, one_worker + redirect(alive.text))
        unpd.metric_becomes(1, name, target=dead, service="web", errno="ECONNREFUSED")


def test_names_are_looked_up_beside_the_loop(launch: Launch) -> None:
    """By one thread of each worker, which a worker without names has not."""
    with greeter("alive") as alive:
        unpd = launch(redirect(f"tcp://localhost:{alive.port}"))
        with clients.connect(unpd.address("web")) as sock:
            assert greeting(sock) == "alive"
        assert [threads_of(pid) for pid in unpd.workers()] == [2, 2]
        other = launch(redirect(alive.text))
        with clients.connect(other.address("web")) as sock:
            assert greeting(sock) == "alive"
        assert [threads_of(pid) for pid in other.workers()] == [1, 1]


def threads_of(pid: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def test_a_reload_leaves_redirected_clients_alone(launch: Launch) -> None:
    """Of a pool that does not change, and of one that does: those drain, and new
    clients get the new targets.
    """
    with greeter("old") as old, greeter("new") as new:
        unpd = launch(redirect(old.text))
        with clients.connect(unpd.address("web")) as sock:
            assert greeting(sock) == "old"
            workers = unpd.workers()
            reload(unpd)
            assert (unpd.workers(), echoes(sock)) == (workers, True)
            renew(unpd, redirect(new.text))
            assert echoes(sock)
            with clients.connect(unpd.address("web")) as other:
                assert greeting(other) == "new"


def echoes(sock: socket.socket) -> bool:
    """Whether the way to the target and back is open."""
    sock.sendall(b"hello")
    return clients.read_exactly(sock, 5) == b"hello"


@pytest.mark.parametrize(("stop", "longest_s"), [(SIGTERM, 8.0), (SIGINT, 4.0)])
def test_a_stop_ends_redirected_clients(launch: Launch, stop: Signals, longest_s: float) -> None:
    """Quiet ones within a moment; nothing is left."""
    with greeter("target") as target:
        unpd = launch(redirect(target.text))
        with clients.connect(unpd.address("web")) as sock:
            assert greeting(sock) == "target"
            assert echoes(sock)
            begin = time.monotonic()
            unpd.signal(stop)
            assert clients.read_all(sock) == b""
            assert unpd.wait_exit() == 0
            assert time.monotonic() - begin < longest_s


def test_the_rules_of_access_hold_for_a_redirect(launch: Launch) -> None:
    """A client that is refused reaches no target."""
    with greeter("target") as target:
        one_worker = "[pools.default]\nworkers = 1\n"
        unpd = launch(one_worker + redirect(target.text, more="max_per_source = 1"))
        with clients.connect(unpd.address("web")) as sock:
            assert greeting(sock) == "target"
            with clients.connect(unpd.address("web")) as other:
                assert other.recv(1) == b""
            unpd.metric_becomes(1, "unpd_refused_total", service="web", reason="max_per_source")
            wait_active(unpd, 1, service="web")
        wait_active(unpd, 0, service="web")
        with clients.connect(unpd.address("web")) as sock:
            assert greeting(sock) == "target"
        unpd.metric_becomes(2, "unpd_target_connections_total", service="web")


@pytest.mark.parametrize("listen", ["tcp", "unix"])
def test_a_redirect_tells_its_target_the_client_of_a_load_balancer(
    launch: Launch, tmp_path: Path, listen: str
) -> None:
    """The header for the target names the client that the header of a load balancer
    names, and the address to which that has connected. What follows is passed on.
    """
    path = tmp_path / "web.sock"
    text = "tcp://127.0.0.1:0" if listen == "tcp" else f"unix://{path}"
    keys = f'proxy_protocol = ["loopback", "uid:{os.geteuid()}"]\nsend_proxy = 1'
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        to = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        unpd = launch(redirect(to, more=keys).replace("tcp://127.0.0.1:0", text))
        with clients.connect(unpd.address("web") if listen == "tcp" else str(path)) as sock:
            header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n"
            sock.sendall(header + b"hello")
            target, _ = server.accept()
            with target:
                assert clients.read_exactly(target, len(header) + 5) == header + b"hello"


def test_a_redirect_from_unix_to_unix(launch: Launch, public: Path) -> None:
    """The workers reach the target with their own rights."""
    path = public / "target.sock"
    listen = f'listen = ["unix://{public}/web.sock"]'
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.settimeout(PATIENCE_S)
        server.listen()
        text = redirect(f"unix://{path}").replace('listen = ["tcp://127.0.0.1:0"]', listen)
        unpd = launch(text)
        with clients.connect(f"{public}/web.sock") as sock:
            sock.sendall(b"hello")
            target, _ = server.accept()
            with target:
                assert clients.read_exactly(target, 5) == b"hello"
                sock.close()
                assert clients.read_all(target) == b""
        wait_ended(unpd, {"client_fin": 1}, service="web")


def test_a_target_that_the_workers_may_not_reach_is_counted(launch: Launch, public: Path) -> None:
    """The client is reset, with a line about each of the two."""
    path = public / "target.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0)
        server.listen()
        unpd = launch(redirect(f"unix://{path}"))
        with pytest.raises(ConnectionResetError), clients.connect(unpd.address("web")) as sock:
            sock.recv(1)
    name = "unpd_target_connect_failures_total"
    unpd.metric_becomes(1, name, service="web", target=f"unix://{path}", errno="EACCES")
    wait_ended(unpd, {"no_target": 1}, service="web")
    unpd.wait_event("target.failed", reason="Permission denied")
    unpd.wait_event("redirect.no_target", service="web")
