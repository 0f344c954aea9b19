"""Faults of the system around the daemon: failing system calls, networks that go down,
limits, full disks. And what a test may need to be able to run.
"""

import contextlib
import ctypes
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import procs
from tests.support.waiting import until

CLONE_NEWNET = 0x40000000
CGROUPS = Path("/sys/fs/cgroup")
SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"
"""Not on an ordinary user's PATH everywhere, but ip and tc live there."""


# what a test needs

requires_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def requires_tool(name: str) -> pytest.MarkDecorator:
    """Skip, by name, where the program ``name`` is not installed."""
    return pytest.mark.skipif(find_tool(name) is None, reason=f"needs {name}")


def requires_strace() -> pytest.MarkDecorator:
    """Skip where strace is missing or may not attach to a process of ours (Yama's
    ptrace_scope, a container without CAP_SYS_PTRACE).
    """
    return pytest.mark.skipif(
        not strace_attaches(), reason="needs strace that may attach to a running process"
    )


def requires_pids_cgroup() -> pytest.MarkDecorator:
    """Skip where the pids controller cannot be used."""
    return pytest.mark.skipif(_pids_parent() is None, reason="needs a writable pids cgroup")


def requires_namespaces() -> pytest.MarkDecorator:
    """Skip where network namespaces cannot be made."""
    return pytest.mark.skipif(
        not _namespaces_work(), reason="needs root, ip, and a kernel that makes network namespaces"
    )


def requires_ss_kill() -> pytest.MarkDecorator:
    """Skip where ``ss --kill`` cannot end a listener (root, and a kernel with
    CONFIG_INET_DIAG_DESTROY).
    """
    return pytest.mark.skipif(
        not _ss_kills(), reason="needs root, ss, and a kernel that lets it end sockets"
    )


def ss_kill(port: int) -> None:
    """End the TCP listeners on ``port``, whoever they belong to."""
    subprocess.run(
        [
            find_tool("ss") or "ss",
            "--kill",
            "--listening",
            "--tcp",
            "--numeric",
            f"sport = :{port}",
        ],
        check=True,
        capture_output=True,
    )


@functools.cache
def _ss_kills() -> bool:
    if os.geteuid() != 0 or find_tool("ss") is None:
        return False
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ss_kill(listener.getsockname()[1])
        return listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0


def find_tool(name: str) -> str | None:
    """The path of the program ``name``; None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_DIRECTORIES)


@functools.cache
def strace_attaches() -> bool:
    """Whether ``strace -p`` on a child of ours works here."""
    if find_tool("strace") is None:
        return False
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        tracer = subprocess.Popen(
            ["strace", "-qq", "-o", "/dev/null", "-p", str(child.pid)], stderr=subprocess.DEVNULL
        )
        try:
            until(
                lambda: _tracer(child.pid) == tracer.pid or tracer.poll() is not None,
                5.0,
                "strace neither attaches nor ends",
            )
            return tracer.poll() is None
        finally:
            tracer.terminate()
            tracer.wait()
            child.communicate(b"\n")


def _tracer(pid: int) -> int:
    return int(procs.status(pid).get("TracerPid", "0"))


@functools.cache
def _namespaces_work() -> bool:
    if os.geteuid() != 0 or find_tool("ip") is None:
        return False
    name = f"unpd-probe-{uuid.uuid4().hex[:8]}"
    made = (
        subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode
        == 0
    )
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


# strace


@dataclass(frozen=True, slots=True)
class Trace:
    """What strace writes."""

    path: Path

    def lines(self) -> list[str]:
        """The lines up to now; ``-f`` puts the pid first."""
        return self.path.read_text(errors="replace").splitlines() if self.path.exists() else []

    def count(self, syscall: str) -> int:
        """How many calls of ``syscall`` it shows."""
        return sum(f"{syscall}(" in line for line in self.lines())

    def returned(self, syscall: str) -> int:
        """The sum of what the calls of ``syscall`` that did not fail returned; another
        process may have come between the halves of a call.
        """
        ends = re.compile(rf"\b{syscall}(?:\(| resumed).*\) += (\d+)")
        return sum(int(found[1]) for line in self.lines() if (found := ends.search(line)))


def strace_prefix(
    output: Path, trace: str, *inject: str, options: Sequence[str] = ()
) -> tuple[str, ...]:
    """To put before a command: strace of the system calls ``trace`` (comma-separated)
    with faults such as "clone:error=EAGAIN:when=3+2".

    The tracer is a detached grandchild (-D), so that the command keeps the pid that its
    starter sees. ``when`` counts for each process by itself.
    """
    assert_real_program(sys.executable)
    faults = [word for fault in inject for word in ("-e", f"inject={fault}")]
    return (
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        str(output),
        "-e",
        f"trace={trace}",
        *faults,
        *options,
    )


@contextlib.contextmanager
def straced(
    pid: int, output: Path, trace: str, *inject: str, follow: bool = True
) -> Iterator[Trace]:
    """Attach strace to the running process ``pid`` (and, with ``follow``, what it forks
    from now on) for the length of the block; see :func:`strace_prefix`.
    """
    faults = [word for fault in inject for word in ("-e", f"inject={fault}")]
    command = [
        "strace",
        *(["-f"] if follow else []),
        "-qq",
        "-o",
        str(output),
        "-e",
        f"trace={trace}",
        *faults,
        "-p",
        str(pid),
    ]
    with subprocess.Popen(command) as tracer:
        try:
            until(
                lambda: _tracer(pid) == tracer.pid or tracer.poll() is not None,
                10.0,
                f"strace to attach to {pid}",
            )
            assert tracer.poll() is None, f"strace did not attach to {pid}"
            yield Trace(output)
        finally:
            tracer.send_signal(signal.SIGINT)  # strace lets go of what it traces


def assert_real_program(path: str) -> None:
    """A version manager's shim is a shell script: tracing it would trace the shell."""
    with Path(path).open("rb") as program:
        assert program.read(4) == b"\x7fELF", f"{path} is a script, not the interpreter itself"


# networks


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace by name, with its loopback up."""

    name: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """To put before a command that is to run in it (``ip netns exec`` becomes the
        command: the pid stays).
        """
        return ("ip", "netns", "exec", self.name)

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` for this namespace; CalledProcessError if it fails."""
        subprocess.run(["ip", "-n", self.name, *arguments], check=True)

    def sysctl(self, key: str, value: str) -> None:
        """Set a network sysctl here only ("net.ipv6.conf.all.disable_ipv6")."""
        with self.entered():
            Path("/proc/sys", *key.split(".")).write_text(value)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """As :func:`network_of`, for this namespace."""
        with network_of(Path("/run/netns", self.name)):
            yield


@contextlib.contextmanager
def network_of(path: Path) -> Iterator[None]:
    """This very process is in the network namespace ``path`` for the length of the
    block (setns(2)); sockets made there stay there.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open() as home, path.open() as there:
        _setns(libc, there.fileno())
        try:
            yield
        finally:
            _setns(libc, home.fileno())


def _setns(libc: ctypes.CDLL, fd: int) -> None:
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """A new network namespace, deleted at the end of the block."""
    made = Namespace(f"unpd-{uuid.uuid4().hex[:8]}")
    subprocess.run(["ip", "netns", "add", made.name], check=True)
    try:
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", made.name], check=True)


@dataclass(frozen=True, slots=True)
class Network:
    """Two namespaces with a wire between them."""

    server: Namespace
    client: Namespace
    server_host: str = "10.99.0.1"
    client_host: str = "10.99.0.2"

    def cut(self) -> None:
        """Take the client's end down: its segments are lost, the server learns
        nothing.
        """
        self.client.ip("link", "set", "wire", "down")

    def mend(self) -> None:
        """Take the client's end up again."""
        self.client.ip("link", "set", "wire", "up")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A server's and a client's namespace joined by a veth pair, both interfaces named
    ``wire``.
    """
    with namespace() as server, namespace() as client:
        net = Network(server, client)
        server.ip(
            "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", client.name
        )
        for end, host in ((server, net.server_host), (client, net.client_host)):
            end.ip("address", "add", f"{host}/24", "dev", "wire")
            end.ip("link", "set", "wire", "up")
        yield net


# limits


@functools.cache
def _pids_parent() -> Path | None:
    """Where a cgroup with a pids limit can be made: version 1's own hierarchy, or
    version 2's root; None where neither can be written.
    """
    v1 = CGROUPS / "pids"
    if (v1 / "cgroup.procs").exists():
        return v1 if os.access(v1, os.W_OK) and os.geteuid() == 0 else None
    control = CGROUPS / "cgroup.subtree_control"
    if not control.exists() or not os.access(control, os.W_OK):
        return None
    try:
        control.write_text("+pids")
    except OSError:
        return None
    return CGROUPS


@dataclass(frozen=True, slots=True)
class PidsLimit:
    """A cgroup that limits the number of its processes."""

    path: Path

    def add(self, pid: int) -> None:
        """Move ``pid`` into it; what it forks from now on is in it too."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def set(self, limit: int | None) -> None:
        """At most ``limit`` processes; None for any number."""
        (self.path / "pids.max").write_text("max" if limit is None else str(limit))

    def current(self) -> int:
        """The number of processes in it now."""
        return int((self.path / "pids.current").read_text())


@contextlib.contextmanager
def pids_limit(pids: Iterable[int]) -> Iterator[PidsLimit]:
    """``pids`` in a cgroup of their own, without a limit at first; whatever is in it
    goes back at the end of the block.
    """
    parent = _pids_parent()
    assert parent is not None, "mark the test with requires_pids_cgroup()"
    limit = PidsLimit(parent / f"unpd-{uuid.uuid4().hex[:8]}")
    limit.path.mkdir()
    try:
        for pid in pids:
            limit.add(pid)
        yield limit
    finally:
        limit.set(None)
        until(
            functools.partial(_dissolve, limit.path, parent), 10.0, f"{limit.path} to become empty"
        )


def _dissolve(path: Path, parent: Path) -> bool:
    for pid in (path / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (parent / "cgroup.procs").write_text(pid)
    try:
        path.rmdir()
    except OSError:  # a dying process is still in it
        return False
    return True


@contextlib.contextmanager
def small_disk(directory: Path, size_bytes: int = 65536) -> Iterator[Path]:
    """``directory`` as a file system of ``size_bytes`` (tmpfs), to be filled; needs
    root. What holds a file on it open does not hinder the end.
    """
    directory.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0777", "tmpfs", str(directory)],
        check=True,
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
