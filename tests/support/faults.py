"""Causes faults around the daemon: failing system calls, networks that go down, limits,
full disks. Also owns the marks that skip a test where such a fault cannot be caused.

Chaos and integration tests use it. Most faults need root or strace.
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
from unpd.kernel import privileges

CLONE_NEWNET = 0x40000000
FACCESSAT2 = 439
AT_FDCWD = -100
AT_EACCESS = 0x200
UNFINISHED = " <unfinished ...>"
CGROUPS = Path("/sys/fs/cgroup")
SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"
"""Not on every user's PATH, but ip and tc are there."""


# what a test needs

requires_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def requires_looks_as_others() -> pytest.MarkDecorator:
    """Skip where root cannot ask what nobody may do with a file: in a user namespace
    without nobody, and before Linux 5.8.
    """
    return pytest.mark.skipif(
        not _looks_as_others(), reason="needs root, the user nobody, and faccessat2(2)"
    )


@functools.cache
def _looks_as_others() -> bool:
    if os.geteuid() != 0 or privileges.unprivileged_user() != "nobody":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(FACCESSAT2, AT_FDCWD, b"/", os.X_OK, AT_EACCESS) == 0)


def requires_tool(name: str) -> pytest.MarkDecorator:
    """Skip where the program ``name`` is not installed."""
    return pytest.mark.skipif(find_tool(name) is None, reason=f"needs {name}")


def requires_strace() -> pytest.MarkDecorator:
    """Skip where strace is missing or must not attach to our processes (Yama's
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
    """End the TCP listeners on ``port``, whichever process holds them."""
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
    """Return the path of the program ``name``, or None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_DIRECTORIES)


@functools.cache
def strace_attaches() -> bool:
    """Whether ``strace -p`` on our own child works here."""
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
                "strace to attach or end",
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
    """The output file of strace."""

    path: Path

    def lines(self) -> list[str]:
        """Return the lines so far. With ``-f`` each begins with the pid."""
        return self.path.read_text(errors="replace").splitlines() if self.path.exists() else []

    def whole_calls(self) -> list[str]:
        """Return the lines, with each call that lines of another process interrupted in
        one piece, where it began.
        """
        found: list[str] = []
        begun: dict[str, int] = {}
        for line in self.lines():
            pid, _, call = line.partition(" ")
            resumed = re.match(r" *<\.\.\. \w+ resumed>(.*)$", call)
            if resumed and pid in begun:
                found[begun.pop(pid)] += resumed[1]
            elif line.endswith(UNFINISHED):
                begun[pid] = len(found)
                found.append(line.removesuffix(UNFINISHED))
            else:
                found.append(line)
        return found

    def count(self, syscall: str) -> int:
        """Count the calls of ``syscall`` in the lines so far."""
        return sum(f"{syscall}(" in line for line in self.lines())

    def returned(self, syscall: str) -> int:
        """Sum the results of the calls of ``syscall`` that succeeded. Lines of another
        process may stand between the two halves of a call.
        """
        ends = re.compile(rf"\b{syscall}(?:\(| resumed).*\) += (\d+)")
        return sum(int(found[1]) for line in self.lines() if (found := ends.search(line)))


def strace_prefix(
    output: Path, trace: str, *inject: str, options: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return a command prefix that runs strace for the system calls ``trace``
    (comma-separated) with faults such as "clone:error=EAGAIN:when=3+2".

    The tracer is a detached grandchild (-D), so the command keeps the pid that its
    starter sees. ``when`` counts for each process separately.
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
    """Attach strace to the running process ``pid`` for the length of the block; with
    ``follow`` also to its later forks. See :func:`strace_prefix`.
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
            if tracer.poll() is not None and os.geteuid() != 0:
                pytest.skip("needs root, to trace a master that runs as our own user")
            assert tracer.poll() is None, f"strace did not attach to {pid}"
            yield Trace(output)
        finally:
            tracer.send_signal(signal.SIGINT)  # strace detaches from its tracee


def assert_real_program(path: str) -> None:
    """Refuse a version manager's shim. It is a shell script, and strace would trace the
    shell.
    """
    with Path(path).open("rb") as program:
        assert program.read(4) == b"\x7fELF", f"{path} is a script, not the interpreter itself"


# networks


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace by its name, with loopback up."""

    name: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command prefix that runs a program in it. ``ip netns exec`` becomes the
        program, so the pid stays.
        """
        return ("ip", "netns", "exec", self.name)

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` for this namespace; CalledProcessError if it fails."""
        subprocess.run(["ip", "-n", self.name, *arguments], check=True)

    def sysctl(self, key: str, value: str) -> None:
        """Set a network sysctl in this namespace only
        ("net.ipv6.conf.all.disable_ipv6").
        """
        with self.entered():
            Path("/proc/sys", *key.split(".")).write_text(value)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Enter this namespace, as :func:`network_of` does."""
        with network_of(Path("/run/netns", self.name)):
            yield


@contextlib.contextmanager
def network_of(path: Path) -> Iterator[None]:
    """Move this process into the network namespace ``path`` for the length of the block
    (setns(2)). Sockets made there stay there.
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
    """Create a network namespace. Delete it at the end of the block."""
    made = Namespace(f"unpd-{uuid.uuid4().hex[:8]}")
    subprocess.run(["ip", "netns", "add", made.name], check=True)
    try:
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", made.name], check=True)


@dataclass(frozen=True, slots=True)
class Network:
    """Two namespaces joined by a wire."""

    server: Namespace
    client: Namespace
    server_host: str = "10.99.0.1"
    client_host: str = "10.99.0.2"

    def cut(self) -> None:
        """Take the client's end down. Its segments are lost, and the server is not
        notified.
        """
        self.client.ip("link", "set", "wire", "down")

    def mend(self) -> None:
        """Take the client's end up again."""
        self.client.ip("link", "set", "wire", "up")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Join a server's and a client's namespace with a veth pair. Both interfaces are
    named ``wire``.
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
    """Find the place for a cgroup with a pids limit: the hierarchy of version 1, or the
    root of version 2. None where neither is writable.
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
    """A cgroup that limits its number of processes."""

    path: Path

    def add(self, pid: int) -> None:
        """Move ``pid`` into it. Processes that it forks later are in it too."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def set(self, limit: int | None) -> None:
        """Allow at most ``limit`` processes; None allows any number."""
        (self.path / "pids.max").write_text("max" if limit is None else str(limit))

    def current(self) -> int:
        """Return its present number of processes."""
        return int((self.path / "pids.current").read_text())


@contextlib.contextmanager
def pids_limit(pids: Iterable[int]) -> Iterator[PidsLimit]:
    """Put ``pids`` in a cgroup of their own, without a limit at first. Everything in it
    moves back at the end of the block.
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
    """Mount ``directory`` as a file system of ``size_bytes`` (tmpfs); needs root. A
    process that still holds a file on it does not block the end.
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
