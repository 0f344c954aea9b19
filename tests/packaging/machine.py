"""A Debian that was booted: systemd as process 1, in a container of systemd-nspawn with
a network of its own, in which there is loopback and nothing else.

Its root is the plain system under an overlay in memory, so that each boot starts fresh
and nothing is left. The container shares our kernel: its processes are in our /proc
too, and ``with machine.network():`` puts this very process into its network, where the
ordinary clients work.
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
"""systemd's own hierarchies: both on a hybrid system, the last on one with cgroups of
version 2 alone.
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
    """A booted system; :func:`booted` makes it and ends it."""

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
                # Should these tests be killed, nspawn shuts the container down. (Its
                # own death by SIGKILL would not end it.)
                ["setpriv", "--pdeathsig", "TERM", *self._nspawn_command(root)],
                # Nothing ever writes to the root, so that any number of runs may share
                # it.
                env={**os.environ, "SYSTEMD_NSPAWN_LOCK": "0"},
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
            # the kernel tells what a filter refuses: tests.packaging.seccomp
            "--setenv=SYSTEMD_LOG_SECCOMP=1",
        ]

    def _enter_cgroups(self) -> None:
        """Two containers in one cgroup would take each other's processes for
        their own.
        """
        for cgroup in self._cgroups:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    def boot(self) -> None:
        """Wait until the system runs; AssertionError with what the console shows if it
        does not.
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
        """End the system, in order if it lets us, and all that is left of it."""
        self._nspawn.terminate()  # an orderly shutdown
        if not self._has_ended():
            procs.kill(
                procs.child_pids(self._nspawn.pid)
            )  # process 1 takes all others with it, and nspawn ends when they have
        if not self._has_ended():
            self._nspawn.kill()
            self._nspawn.wait()
        until(
            lambda: all(_removed(cgroup) for cgroup in self._cgroups),
            10.0,
            "the container's cgroups to become empty",
        )

    def _has_ended(self) -> bool:
        """Give nspawn the time to end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(END_S)
        return self._nspawn.poll() is not None

    # what is done inside

    def run(
        self, *command: str, check: bool = True, stdin: str = "", timeout_s: float = RUN_S
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` inside as root. AssertionError with what it printed if it
        fails, unless not ``check``; timeout(1) ends it with 124.
        """
        ended = subprocess.run(
            # To end nsenter from here would leave the command behind.
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
        """Start ``command`` inside as root and return at once; its output, both kinds
        as one, can be read.
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
        """The absolute ``path`` of the inside, for us. A symbolic link in it would lead
        outside.
        """
        return Path(f"/proc/{self._init}/root{path}")

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file of root's inside, with the directories that it needs."""
        place = self.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """This very process, and what it starts, is in the container's network for the
        length of the block; sockets made there stay there.
        """
        with faults.network_of(Path(f"/proc/{self._init}/ns/net")):
            yield

    def outer_pid(self, pid: int) -> int:
        """Our number of the process that has ``pid`` inside; KeyError if there
        is none.
        """
        space = os.readlink(f"/proc/{self._init}/ns/pid")
        return {
            _inner_pid(found.pid): found.pid
            for found in procs.all_processes()
            if _pid_namespace(found.pid) == space
        }[pid]

    # journal

    def cursor(self) -> str:
        """The journal's end as it is now."""
        self.run("journalctl", "--sync")
        return (
            self.run("journalctl", "--lines=0", "--show-cursor", "--quiet")
            .stdout.partition("-- cursor: ")[2]
            .strip()
        )

    def journal(self, after: str, **fields: str) -> list[Mapping[str, Any]]:
        """The journal's entries with these fields that came after the cursor
        ``after``.
        """
        self.run("journalctl", "--sync")
        # journalctl (252) with both a cursor and a selection leaves out the first entry
        # selected: it takes it for the one at the cursor.
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
    """A system made of ``root``, which goes away at the end of the block. What its
    console shows is written to ``console``.
    """
    machine = Machine(root, console)
    try:
        machine.boot()
        yield machine
    finally:
        machine.close()


def bootable() -> bool:
    """Whether a system can be booted here at all."""
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
    """Remove ``cgroup`` with all below it; False while one of them still has a dying
    process.
    """
    try:
        for directory, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(directory)
    except OSError:
        return False
    return True
