"""A booted Debian: systemd as process 1, in a container of systemd-nspawn whose own
network has nothing but loopback.

An overlay in memory covers the root directory of the plain system, so each boot starts
fresh and leaves nothing behind. The container shares our kernel. Its processes are in
our /proc too, and ``with machine.network():`` puts this process into its network, where
the ordinary clients work.
"""

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support import faults, procs
from tests.support.waiting import until

BOOT_S = 60.0
RUN_S = 60.0
END_S = 30.0
CGROUPS = tuple(Path("/sys/fs/cgroup", hierarchy) for hierarchy in ("systemd", "unified", "."))
"""Where systemd's own hierarchies may lie: the first two on a hybrid system, the last
on a system that has only version 2 of the cgroups.
"""
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
    "SYSTEMD_PAGER": "cat",
}


class Machine:
    """A booted system. :func:`booted` makes and ends it."""

    def __init__(self, root: Path, console: Path) -> None:
        self._name = f"unpd-{uuid.uuid4().hex[:8]}"
        self._console = console
        self._cgroups = [
            hierarchy / self._name for hierarchy in CGROUPS if (hierarchy / "cgroup.procs").exists()
        ]
        for cgroup in self._cgroups:
            cgroup.mkdir()
        with console.open("wb") as output:
            self._nspawn = subprocess.Popen(
                # If the tests are killed, nspawn gets SIGTERM and shuts the container
                # down. A SIGKILL of nspawn itself would leave the container running.
                ["setpriv", "--pdeathsig", "TERM", *self._nspawn_command(root)],
                # Nothing writes to the root directory, so any number of runs may share
                # it. The systemd of Debian 13 refuses cgroups of version 1, which this
                # host may have.
                env={
                    **os.environ,
                    "SYSTEMD_NSPAWN_LOCK": "0",
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=self._enter_cgroups,  # noqa: PLW1509 - the test run has no thread
            )
        self._init = 0

    def _nspawn_command(self, root: Path) -> list[str]:
        return [
            "systemd-nspawn",
            f"--directory={root}",
            "--volatile=overlay",
            f"--machine={self._name}",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--console=pipe",
            # The kernel logs refused system calls for tests.packaging.seccomp.
            "--setenv=SYSTEMD_LOG_SECCOMP=1",
        ]

    def _enter_cgroups(self) -> None:
        """Give the container cgroups of its own: two containers in one cgroup would
        take each other's processes for their own.
        """
        for cgroup in self._cgroups:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    def boot(self) -> None:
        """Wait until the system runs. AssertionError, with the text of the console, if
        it does not.
        """
        self._init = until(self._find_init, BOOT_S, self._complaint)
        until(self._is_running, BOOT_S, self._complaint)
        assert self._nspawn.poll() is None, self._complaint()

    def _find_init(self) -> int:
        found = [
            pid
            for pid in procs.child_pids(self._nspawn.pid)
            if procs.status(pid).get("NSpid", "").split()[-1:] == ["1"]
        ]
        return found[0] if found else int(self._nspawn.poll() is not None)

    def _is_running(self) -> bool:
        return self._nspawn.poll() is not None or self.run(
            "systemctl", "is-system-running", "--wait", check=False
        ).stdout.strip() in ("running", "degraded")

    def _complaint(self) -> str:
        return (
            "the system to run; its console"
            f" says:\n{self._console.read_text(errors='replace')[-2000:]}"
        )

    def close(self) -> None:
        """End the system: by an orderly shutdown if possible, otherwise by force."""
        self._nspawn.terminate()  # an orderly shutdown
        if not self._has_ended():
            # All other processes die with process 1, and then nspawn ends.
            procs.kill(procs.child_pids(self._nspawn.pid))
        if not self._has_ended():
            self._nspawn.kill()
            self._nspawn.wait()
        until(
            lambda: all(_removed(cgroup) for cgroup in self._cgroups),
            10.0,
            "the container's cgroups to become empty",
        )

    def _has_ended(self) -> bool:
        """Wait a while for nspawn. True if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(END_S)
        return self._nspawn.poll() is not None

    # inside the machine

    def run(
        self, *command: str, check: bool = True, stdin: str = "", timeout_s: float = RUN_S
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` inside as root. AssertionError, with its output, if it fails
        and ``check`` is set. After ``timeout_s`` timeout(1) ends it with code 124.
        """
        ended = subprocess.run(
            # The timeout runs inside: if we ended nsenter, the command would go on.
            [
                "nsenter",
                "--target",
                str(self._init),
                "--all",
                "timeout",
                "--kill-after=5",
                str(timeout_s),
                *command,
            ],
            input=stdin,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or ended.returncode == 0, (
            f"{' '.join(command)} ended with"
            f" {ended.returncode}:\n{ended.stdout[-4000:]}{ended.stderr[-4000:]}"
        )
        return ended

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start ``command`` inside as root and return at once. Its standard output and
        standard error come through one pipe.
        """
        return subprocess.Popen(
            ["nsenter", "--target", str(self._init), "--all", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            text=True,
        )

    def path(self, path: str) -> Path:
        """The path by which we reach the absolute ``path`` inside. A symbolic link in
        it would lead outside.
        """
        return Path(f"/proc/{self._init}/root{path}")

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file inside, owned by root, and make the directories above it."""
        place = self.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Put this process, and those that it starts, into the container's network for
        the length of the block. Sockets made there stay there.
        """
        with faults.network_of(Path(f"/proc/{self._init}/ns/net")):
            yield

    def outer_pid(self, pid: int) -> int:
        """The pid in our namespace of the process that has ``pid`` inside. KeyError if
        no process has it.
        """
        space = os.readlink(f"/proc/{self._init}/ns/pid")
        return {
            _inner_pid(found.pid): found.pid
            for found in procs.all_processes()
            if _pid_namespace(found.pid) == space
        }[pid]

    # the journal

    def cursor(self) -> str:
        """A cursor at the present end of the journal."""
        self.run("journalctl", "--sync")
        return (
            self.run("journalctl", "--lines=0", "--show-cursor", "--quiet")
            .stdout.partition("-- cursor: ")[2]
            .strip()
        )

    def journal(self, after: str, **fields: str) -> list[Mapping[str, Any]]:
        """The entries of the journal that came after the cursor ``after`` and have
        these fields.
        """
        self.run("journalctl", "--sync")
        # With a cursor and a selection, journalctl (252) leaves out the first selected
        # entry: it takes it for the entry at the cursor.
        printed = self.run(
            "journalctl", "--output=json", "--all", "--quiet", f"--after-cursor={after}"
        ).stdout
        return [
            entry
            for line in printed.splitlines()
            if (entry := json.loads(line)).items() >= fields.items()
        ]


@contextlib.contextmanager
def booted(root: Path, console: Path) -> Iterator[Machine]:
    """Boot a system from ``root`` for the length of the block. The text of its console
    goes to the file ``console``.
    """
    machine = Machine(root, console)
    try:
        machine.boot()
        yield machine
    finally:
        machine.close()


def bootable() -> bool:
    """Whether a system can boot here: as root, on a kernel that makes namespaces."""
    namespaces = ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "true"]
    return (
        os.geteuid() == 0
        and subprocess.run(namespaces, capture_output=True, check=False).returncode == 0
    )


def _inner_pid(pid: int) -> int:
    return int(procs.status(pid).get("NSpid", "0").split()[-1])


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _removed(cgroup: Path) -> bool:
    """Remove ``cgroup`` with all cgroups below it. False while one of them still holds
    a dying process.
    """
    try:
        for directory, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(directory)
    except OSError:
        return False
    return True
