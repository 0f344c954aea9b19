"""Reads processes from /proc (proc(5)), signals them and reaps them. Every kind of test
uses it. A process that is gone reads as None, empty or False, never as an exception.
"""

import contextlib
import ctypes
import os
import re
import signal
import unittest
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import until

PR_SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>."""

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat and cmdline of one process. ``started`` (clock ticks
    since boot) distinguishes a reused pid.
    """

    pid: int
    state: str
    ppid: int
    pgid: int
    session: int
    started: int
    title: str

    @property
    def zombie(self) -> bool:
        """Whether it is dead and not reaped."""
        return self.state == "Z"


def _read(pid: int, name: str) -> bytes | None:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def stat(pid: int) -> Stat | None:
    """Return the process ``pid`` as it is now, or None."""
    line = _read(pid, "stat")
    if line is None:
        return None
    comm, _, rest = line.decode(errors="replace").partition("(")[2].rpartition(")")
    fields = rest.split()
    return Stat(
        pid,
        fields[0],
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        int(fields[19]),
        title(pid) or f"({comm})",
    )


def title(pid: int) -> str:
    """Return the command line, or the title that the process gave itself; "" for a
    zombie or a missing process.
    """
    return (
        (_read(pid, "cmdline") or b"").rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    )


def all_processes() -> list[Stat]:
    """Return all processes."""
    return [found for entry in os.listdir(PROC) if entry.isdigit() and (found := stat(int(entry)))]


def children(pid: int) -> list[Stat]:
    """Return the children of ``pid``, zombies included, ordered by pid."""
    return sorted(
        (process for process in all_processes() if process.ppid == pid),
        key=lambda process: process.pid,
    )


def child_pids(pid: int) -> set[int]:
    """Return the pids of the children of ``pid``, zombies included. It is cheaper than
    :func:`children` where the kernel keeps the list (CONFIG_PROC_CHILDREN).
    """
    lists = list((PROC / str(pid) / "task").glob("*/children"))
    if not lists:
        return {child.pid for child in children(pid)}
    pids: set[int] = set()
    for path in lists:
        with contextlib.suppress(
            FileNotFoundError, ProcessLookupError
        ):  # a thread may have ended meanwhile
            pids.update(int(word) for word in path.read_text().split())
    return pids


def descendants(pid: int) -> list[Stat]:
    """Return all descendants of ``pid``, zombies included, parents before their
    children.
    """
    by_parent: dict[int, list[Stat]] = {}
    for process in all_processes():
        by_parent.setdefault(process.ppid, []).append(process)
    found = list(by_parent.get(pid, []))
    for process in found:
        found += by_parent.get(process.pid, [])
    return found


def alive(pid: int) -> bool:
    """Whether ``pid`` exists and is not a zombie."""
    found = stat(pid)
    return found is not None and not found.zombie


def status(pid: int) -> dict[str, str]:
    """Return the lines of /proc/PID/status by name (Uid, Gid, Groups, CapEff,
    NoNewPrivs, VmRSS); empty if the process is gone.
    """
    lines = (_read(pid, "status") or b"").decode(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a process (credentials(7)): real, effective, saved and
    filesystem ids each; capability sets as numbers.
    """

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    capabilities: dict[str, int]
    no_new_privileges: bool


def credentials(pid: int) -> Credentials:
    """Return the credentials of ``pid``. KeyError if it is gone."""
    lines = status(pid)
    numbers = {
        name: tuple(int(word) for word in lines[name].split()) for name in ("Uid", "Gid", "Groups")
    }
    capabilities = {
        name: int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    }
    return Credentials(
        numbers["Uid"], numbers["Gid"], numbers["Groups"], capabilities, lines["NoNewPrivs"] == "1"
    )


@dataclass(frozen=True, slots=True)
class SignalSets:
    """The signals of a process: pending, blocked, ignored, caught."""

    pending: frozenset[int]
    blocked: frozenset[int]
    ignored: frozenset[int]
    caught: frozenset[int]


def signals(pid: int) -> SignalSets:
    """Return the signal masks of ``pid`` (ShdPnd, SigBlk, SigIgn, SigCgt) as sets of
    numbers. KeyError if it is gone.
    """
    lines = status(pid)
    return SignalSets(
        *(_numbers(int(lines[name], 16)) for name in ("ShdPnd", "SigBlk", "SigIgn", "SigCgt"))
    )


def _numbers(mask: int) -> frozenset[int]:
    return frozenset(number for number in range(1, 65) if mask >> (number - 1) & 1)


@contextlib.contextmanager
def may_look() -> Iterator[None]:
    """Skip the test if the block may not look into a process: the master does not let
    its own user do that, and then only root can.
    """
    try:
        yield
    except PermissionError:
        if os.geteuid() == 0:
            raise
        # Of the standard library: the benchmark, which uses this module, has no pytest.
        raise unittest.SkipTest(
            "needs root, to look into a master that runs as our own user"
        ) from None


def fds(pid: int) -> dict[int, str]:
    """Return the open descriptors of ``pid`` and their targets ("socket:[123]",
    "anon_inode:[eventpoll]", a path).
    """
    found = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), may_look():
        for entry in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(entry.name)] = os.readlink(entry)
    return found


def rss_bytes(pid: int) -> int:
    """Return the resident memory in bytes; 0 if the process is gone."""
    return int(status(pid).get("VmRSS", "0 kB").split()[0]) * 1024


def private_bytes(pid: int) -> int:
    """Return the memory that ``pid`` shares with no other process (proc(5),
    smaps_rollup).
    """
    text = (_read(pid, "smaps_rollup") or b"").decode()
    return sum(
        int(size) * 1024 for size in re.findall(r"^Private_\w+: +(\d+) kB$", text, re.MULTILINE)
    )


def cpu_s(pid: int) -> float:
    """Return the processor time used so far, user and system, in seconds; 0.0 if the
    process is gone.
    """
    fields = (_read(pid, "stat") or b"").decode(errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def limits(pid: int) -> str:
    """Return the text of /proc/PID/limits; "" if the process is gone."""
    return (_read(pid, "limits") or b"").decode()


def environ(pid: int) -> dict[str, str]:
    """Return the environment at the start of ``pid``. A process that changed its title
    has overwritten it; the result is then empty or nonsense.
    """
    words = (_read(pid, "environ") or b"").decode(errors="replace").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def become_subreaper() -> None:
    """Make orphans among our descendants our children (PR_SET_CHILD_SUBREAPER), so that
    no orphan leaves the tests' sight.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Send ``number`` to each of ``pids`` that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def reap(pid: int) -> int | None:
    """Reap our dead child ``pid`` and return its wait status; None if it lives or is
    not our child.
    """
    try:
        found, wait_status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return wait_status if found else None


def kill_and_reap(processes: Iterable[Stat]) -> None:
    """Kill each of ``processes`` with its descendants, and reap those that become ours.
    AssertionError if one is still there after 10 s.
    """
    doomed = {
        found.pid: found for process in processes for found in (process, *descendants(process.pid))
    }

    def gone() -> bool:
        kill(process.pid for process in doomed.values() if _same(process) and not process.zombie)
        for pid in doomed:
            reap(pid)
        return not any(_same(process) for process in doomed.values())

    until(
        gone,
        10.0,
        lambda: f"killed processes to end: {[found for found in doomed.values() if _same(found)]}",
    )


def _same(process: Stat) -> bool:
    now = stat(process.pid)
    return now is not None and now.started == process.started


@contextlib.contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Hold ``pids`` with SIGSTOP for the length of the block. Enter once all of them
    have stopped.
    """
    held = tuple(pids)
    kill(held, signal.SIGSTOP)
    try:
        for pid in held:
            until(
                lambda pid=pid: (now := stat(pid)) is None or now.state in "TtZX",  # type: ignore[misc]
                5.0,
                f"process {pid} to stop",
            )
        yield
    finally:
        kill(held, signal.SIGCONT)
