"""Containers of the image: podman, with a storage of its own, as root.

A container has a network of its own with nothing but loopback; ``with
container.network():`` puts this process into it, where the ordinary clients work. runc
starts the containers, because crun needs cgroups of version 2 alone.
"""

import contextlib
import http.client
import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support import faults, procs
from tests.support.clients import Address
from tests.support.observed import Samples, parse_samples
from tests.support.waiting import until

ECHO: Address = ("127.0.0.1", 10007)
DAYTIME: Address = ("127.0.0.1", 10013)
METRICS = ("127.0.0.1", 9867)

TOOLS = ("podman", "runc", "conmon")
RUN_S = 120.0
READY_S = 60.0
COMMON = (
    "--network=none",
    "--log-driver=k8s-file",
    # By default podman asks for more, which not every machine grants.
    "--ulimit=nofile=4096:4096",
    "--ulimit=nproc=4096:4096",
)
HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/run/unpd",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)
"""What README.md recommends: a read-only root file system but for /run/unpd, and no
capabilities.
"""


class Podman:
    """podman, and the image of an archive. :func:`loaded` makes it."""

    def __init__(self, directory: Path, archive: Path) -> None:
        self._command = (
            "podman",
            f"--root={directory}/root",
            f"--runroot={directory}/run",
            f"--tmpdir={directory}/state",
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
            "--runtime=runc",
        )
        self.run("load", "--quiet", f"--input={archive}")
        self.image = self.run("images", "--quiet").stdout.strip()

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman. AssertionError, with its output, if it fails and ``check`` is
        set.
        """
        done = subprocess.run(
            [*self._command, *words],
            stdin=subprocess.DEVNULL,
            # Its timers for health checks need systemd, which not every machine has.
            env={**os.environ, "DISABLE_HC_SYSTEMD": "true"},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_S,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def ended(
        self, *options: str, command: Sequence[str] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        with _adopting():
            words = ("run", "--rm", *COMMON, *options, self.image, *command)
            return self.run(*words, check=check)

    @contextlib.contextmanager
    def container(self, *options: str) -> Iterator["Container"]:
        """A container whose unpd is ready, for the length of the block."""
        name = f"unpd-{uuid.uuid4().hex[:8]}"
        with _adopting():
            try:
                self.run("run", "--detach", f"--name={name}", *COMMON, *options, self.image)
                container = Container(self, name)
                until(container.is_ready, READY_S, lambda: f"unpd to be ready: {container.log()}")
                yield container
            finally:
                self.run("rm", "--force", "--ignore", "--time=0", name)


class Container:
    """A running container."""

    def __init__(self, podman: Podman, name: str) -> None:
        self._podman = podman
        self.name = name
        self.pid = int(self.inspect("State.Pid"))

    def inspect(self, field: str) -> str:
        """A field of what podman knows about the container."""
        return self._podman.run("inspect", f"--format={{{{.{field}}}}}", self.name).stdout.strip()

    def exec(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as its user."""
        return self._podman.run("exec", self.name, *command, check=check)

    def python(self, code: str, *arguments: str) -> str:
        """What a program in Python prints in the container."""
        return self.exec("/usr/bin/python3", "-IS", "-c", code, *arguments).stdout

    def podman(self, verb: str, *options: str, check: bool = True) -> str:
        """What a command of podman about the container prints."""
        done = self._podman.run(*verb.split(), *options, self.name, check=check)
        return done.stdout + done.stderr

    def log(self) -> str:
        """The standard error of the container so far."""
        return self._podman.run("logs", self.name).stderr

    def output(self) -> str:
        """The standard output of the container so far."""
        return self._podman.run("logs", self.name).stdout

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Put this process into the container's network for the length of the block.
        Sockets made there stay there.
        """
        with faults.network_of(Path(f"/proc/{self.pid}/ns/net")):
            yield

    def is_ready(self) -> bool:
        """Whether /readyz says so. AssertionError if the container has ended."""
        assert procs.alive(self.pid), f"the container has ended: {self.log()}"
        try:
            return self.get("/readyz")[0] == http.HTTPStatus.OK
        except ConnectionRefusedError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        """Ask the exporter: the status and the text of its answer."""
        with self.network():
            connection = http.client.HTTPConnection(*METRICS, timeout=10.0)
            with contextlib.closing(connection):
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()

    def samples(self) -> Samples:
        """The metrics now."""
        return parse_samples(self.get("/metrics")[1])

    def processes(self) -> list[int]:
        """The pids, in our namespace, of unpd's processes, the main process first."""
        return [self.pid, *(child.pid for child in procs.descendants(self.pid))]


@contextlib.contextmanager
def loaded(directory: Path, archive: Path) -> Iterator[Podman]:
    """A podman with the image of ``archive``, for the length of the block.
    ``directory`` is empty, and has a short path: podman puts sockets there.
    """
    podman = Podman(directory, archive)
    try:
        yield podman
    finally:
        podman.run("rm", "--all", "--force", "--time=0")
        podman.run("rmi", "--all", "--force")


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Reap, after the block, the monitors of the containers that ended in it: this
    process adopts them.
    """
    before = procs.child_pids(os.getpid())

    def gone() -> bool:
        for pid in procs.child_pids(os.getpid()) - before:
            procs.reap(pid)
        return not procs.child_pids(os.getpid()) - before

    try:
        yield
    finally:
        until(gone, 30.0, lambda: f"the monitors to end: {procs.children(os.getpid())}")
