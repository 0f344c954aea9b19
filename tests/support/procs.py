"""Processes as /proc shows them (proc(5)). A process that is gone reads as None, empty
or False, never as an exception.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import until

PR_SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>."""

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat and cmdline say of one process. ``started`` (clock ticks
    since boot) tells a reused pid from the old one.
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
        """Dead and not reaped."""
        return self.state == "Z"


def _read(pid: int, name: str) -> bytes | None:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def stat(pid: int) -> Stat | None:
    """The process ``pid`` as it is now; None if there is none."""
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
    """The command line, or the title that the process gave itself; "" for a zombie or a
    process that is gone.
    """
    return (
        (_read(pid, "cmdline") or b"").rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    )


def every() -> list[Stat]:
    """All processes there are."""
    return [found for entry in os.listdir(PROC) if entry.isdigit() and (found := stat(int(entry)))]


def children(pid: int) -> list[Stat]:
    """The children of ``pid``, zombies too, by pid."""
    return sorted(
        (process for process in every() if process.ppid == pid), key=lambda process: process.pid
    )


def child_pids(pid: int) -> set[int]:
    """The pids of the children of ``pid``, zombies too: cheaper than :func:`children`
    where the kernel keeps the list (CONFIG_PROC_CHILDREN).
    """
    lists = list((PROC / str(pid) / "task").glob("*/children"))
    if not lists:
        return {child.pid for child in children(pid)}
    pids: set[int] = set()
    for path in lists:
        with contextlib.suppress(
            FileNotFoundError, ProcessLookupError
        ):  # a thread that has ended since
            pids.update(int(word) for word in path.read_text().split())
    return pids


def descendants(pid: int) -> list[Stat]:
    """All below ``pid``, zombies too, parents before their children."""
    by_parent: dict[int, list[Stat]] = {}
    for process in every():
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
    """The lines of /proc/PID/status: Uid, Gid, Groups, CapEff, NoNewPrivs, VmRSS...;
    empty if the process is gone.
    """
    lines = (_read(pid, "status") or b"").decode(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@dataclass(frozen=True, slots=True)
class Ids:
    """Who a process is: each of real, effective, saved, filesystem; capability sets as
    numbers.
    """

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    capabilities: dict[str, int]
    no_new_privileges: bool


def ids(pid: int) -> Ids:
    """The identity of ``pid``; KeyError if it is gone."""
    lines = status(pid)
    numbers = {
        name: tuple(int(word) for word in lines[name].split()) for name in ("Uid", "Gid", "Groups")
    }
    capabilities = {
        name: int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    }
    return Ids(
        numbers["Uid"], numbers["Gid"], numbers["Groups"], capabilities, lines["NoNewPrivs"] == "1"
    )


@dataclass(frozen=True, slots=True)
class SignalSets:
    """The signals of a process: pending for it, blocked, ignored, caught."""

    pending: frozenset[int]
    blocked: frozenset[int]
    ignored: frozenset[int]
    caught: frozenset[int]


def signals(pid: int) -> SignalSets:
    """The signal masks of ``pid`` (ShdPnd, SigBlk, SigIgn, SigCgt) as numbers; KeyError
    if it is gone.
    """
    lines = status(pid)
    return SignalSets(
        *(_numbers(int(lines[name], 16)) for name in ("ShdPnd", "SigBlk", "SigIgn", "SigCgt"))
    )


def _numbers(mask: int) -> frozenset[int]:
    return frozenset(number for number in range(1, 65) if mask >> (number - 1) & 1)


def fds(pid: int) -> dict[int, str]:
    """The open descriptors of ``pid`` and what each points at ("socket:[123]",
    "anon_inode:[eventpoll]", a path).
    """
    found = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(entry.name)] = os.readlink(entry)
    return found


def rss_bytes(pid: int) -> int:
    """Resident memory; 0 if the process is gone."""
    return int(status(pid).get("VmRSS", "0 kB").split()[0]) * 1024


def cpu_s(pid: int) -> float:
    """Processor time used so far, user and system, in seconds; 0.0 if the process is
    gone.
    """
    fields = (_read(pid, "stat") or b"").decode(errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def environ(pid: int) -> dict[str, str]:
    """The environment that ``pid`` was started with. A process that changed its title
    has overwritten it: then it is empty or nonsense.
    """
    words = (_read(pid, "environ") or b"").decode(errors="replace").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def become_subreaper() -> None:
    """From now on an orphan among our descendants becomes our child
    (PR_SET_CHILD_SUBREAPER), so that none can leave the tests' sight.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Send ``number`` to each of ``pids`` that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def reap(pid: int) -> int | None:
    """Collect our dead child ``pid``; None if it lives or is not our child. Returns the
    raw wait status.
    """
    try:
        found, wait_status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return wait_status if found else None


def sweep(processes: Iterable[Stat]) -> None:
    """Kill each of ``processes``, all it has below it, and collect what becomes ours;
    AssertionError if one does not go within 10 s.
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
        lambda: (
            f"killed processes did not go: {[found for found in doomed.values() if _same(found)]}"
        ),
    )


def _same(process: Stat) -> bool:
    now = stat(process.pid)
    return now is not None and now.started == process.started


@contextlib.contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Hold ``pids`` with SIGSTOP for the length of the block; enters when all of them
    stand still.
    """
    held = tuple(pids)
    kill(held, signal.SIGSTOP)
    try:
        for pid in held:
            until(
                lambda pid=pid: (now := stat(pid)) is None or now.state in "TtZX",  # type: ignore[misc]
                5.0,
                f"process {pid} does not stop",
            )
        yield
    finally:
        kill(held, signal.SIGCONT)
