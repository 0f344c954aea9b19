"""Measures processor time from /proc (proc(5)): what a server used, what the generator
used, and what other programs took from both.

:mod:`tests.benchmarks.rounds` and :mod:`tests.benchmarks.quiet` use it. The resolution
is the kernel's tick of 10 ms, or a nanosecond where the scheduler's own count is
available. The split into user and system time is sampled by the tick.
"""

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.machine import Cpus

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STEAL_AT = 8
"""The index of stolen time in a cpuN line of /proc/stat, with its name counted."""

SOFTIRQS = "ksoftirqd/"
"""The kernel's thread of each processor that takes over network work under load. Only
the benchmark causes any: on the server's processor it works for the server, on the
other one for the generator.
"""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time in seconds. ``user_ticks`` and ``system_ticks`` give its
    proportions.
    """

    total_s: float = 0.0
    user_ticks: int = 0
    system_ticks: int = 0

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(
            self.total_s + other.total_s,
            self.user_ticks + other.user_ticks,
            self.system_ticks + other.system_ticks,
        )

    def __sub__(self, before: "Cpu") -> "Cpu":
        return Cpu(
            self.total_s - before.total_s,
            self.user_ticks - before.user_ticks,
            self.system_ticks - before.system_ticks,
        )

    @property
    def user_s(self) -> float:
        """The time in the program itself."""
        return self.total_s * self.user_ticks / max(1, self.user_ticks + self.system_ticks)

    @property
    def system_s(self) -> float:
        """The time in the kernel."""
        return self.total_s - self.user_s


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat. Times are in ticks; ``reaped_`` times belong to the
    dead children that the process waited for. ``cpu`` is its last processor.
    """

    name: str
    parent: int
    user: int
    system: int
    reaped_user: int
    reaped_system: int
    cpu: int

    @property
    def own(self) -> int:
        """The ticks that the process used itself."""
        return self.user + self.system

    @property
    def reaped(self) -> int:
        """The ticks that its dead children used."""
        return self.reaped_user + self.reaped_system


Key = tuple[int, int]
"""A pid and the start time of its process, because pids are reused."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All processes at one moment, and the time stolen from our two processors."""

    cpus: Cpus
    processes: Mapping[Key, Process]
    steal_s: float = 0.0
    at: float = 0.0
    used: Cpu = field(default_factory=Cpu)
    load_softirq_s: float = 0.0

    def family(self, pid: int) -> set[Key]:
        """Return ``pid`` and all its descendants."""
        found = {key for key in self.processes if key[0] == pid}
        while more := {
            key
            for key, process in self.processes.items()
            if key not in found and process.parent in {pid for pid, _ in found}
        }:
            found |= more
        return found

    def foreign_s(self, before: "Snapshot", ours: Iterable[int]) -> float:
        """Return the time of our two processors that others used since ``before``,
        stolen time included. ``ours`` lists the roots of the processes that are not
        foreign; this process is always one.
        """
        known = {(os.getpid(), start) for pid, start in self.processes if pid == os.getpid()}.union(
            *(self.family(pid) for pid in ours)
        )
        ticks = sum(
            self._ticks_since(key, process, before.processes)
            for key, process in self.processes.items()
            if key not in known
            and process.cpu in (self.cpus.server, self.cpus.load)
            and not process.name.startswith(SOFTIRQS)
        )
        return ticks / TICKS_PER_S + self.steal_s - before.steal_s

    def _ticks_since(self, key: Key, process: Process, before: Mapping[Key, Process]) -> int:
        """Return the time that a process used, with the children that it reaped
        meanwhile, without what those had used before. A parent that ignores SIGCHLD
        gets none of its children's time. That time must be subtracted neither from its
        own time nor from that of others.
        """
        earlier = before.get(key)
        gone = sum(
            other.own + other.reaped
            for other_key, other in before.items()
            if other.parent == key[0] and other_key not in self.processes
        )
        if earlier is None:
            return process.own + process.reaped
        return process.own - earlier.own + max(0, process.reaped - earlier.reaped - gone)


def snapshot(cpus: Cpus, server: int | None = None) -> Snapshot:
    """Take a snapshot. ``used`` is the time of ``server``, its descendants, the dead
    that they reaped, and the kernel's thread of their processor. ``load_softirq_s`` is
    the time of that thread on the generator's processor.
    """
    at, steal_s = time.monotonic(), sum(_steal_s(cpu) for cpu in (cpus.server, cpus.load))
    seen = Snapshot(
        cpus,
        {
            key: process
            for entry in os.listdir("/proc")
            if entry.isdigit()
            for key, process in _read(entry)
        },
        steal_s,
        at,
    )
    if server is None:
        return seen
    softirqs = {
        cpu: {key for key, process in seen.processes.items() if process.name == f"{SOFTIRQS}{cpu}"}
        for cpu in (cpus.server, cpus.load)
    }
    used = _used_by(seen, seen.family(server) | softirqs[cpus.server])
    return dataclasses.replace(
        seen, used=used, load_softirq_s=_used_by(seen, softirqs[cpus.load]).total_s
    )


def _used_by(seen: Snapshot, keys: Iterable[Key]) -> Cpu:
    return sum((_used(pid, seen.processes[pid, start]) for pid, start in keys), Cpu())


def _read(pid: str) -> Iterable[tuple[Key, Process]]:
    try:
        line = Path("/proc", pid, "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return
    head, _, tail = line.rpartition(")")
    fields = [head.partition("(")[2], *tail.split()]
    user, system, reaped_user, reaped_system = (int(word) for word in fields[12:16])
    yield (
        (int(pid), int(fields[20])),
        Process(
            fields[0], int(fields[2]), user, system, reaped_user, reaped_system, int(fields[37])
        ),
    )


def _used(pid: int, process: Process) -> Cpu:
    own_s = _scheduled_s(pid)
    own_s = process.own / TICKS_PER_S if own_s is None else own_s
    return Cpu(
        own_s + process.reaped / TICKS_PER_S,
        process.user + process.reaped_user,
        process.system + process.reaped_system,
    )


def _scheduled_s(pid: int) -> float | None:
    """Return the scheduler's own count of a process's threads, none of which ends
    meanwhile; None where it is missing. In the other count each of fifty processes
    would lose half a tick.
    """
    try:
        return (
            sum(
                int(path.read_text().split()[0])
                for path in Path("/proc", str(pid), "task").glob("*/schedstat")
            )
            / 1e9
            or None
        )
    except OSError:
        return None


def _steal_s(cpu: int) -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{cpu}":
            return int(words[STEAL_AT]) / TICKS_PER_S
    return 0.0
