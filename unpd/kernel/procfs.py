"""Reads proc(5): how many children of a process are zombies, which children of our own
live, what a process uses, and whether it descends from us.

Owns nothing. Called by the exporter at each scrape, by the master's sweep, by the
control socket at each connection, and at the end of the master. Calls nothing of unpd.
Raises nothing for a process that has ended or is hidden. OSError of
:func:`all_processes` alone, if there is no /proc or no descriptor is left.

Where /proc is mounted with hidepid=invisible (ProtectProc= of systemd.exec(5)), it
hides the processes of other users, and those of our own user that are not dumpable or
have more capabilities than we.

Known gaps: ``/proc/PID/task/PID/children`` can omit a child while a sibling exits
(proc(5)), so a count during mass deaths may be low; the next count is right. A kernel
without that file (CONFIG_PROC_CHILDREN off) makes us read all of /proc, which costs
about 10 us for each process. A zombie that died before it gave up a capability may be
hidden.
"""

import contextlib
import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_STAT_BYTES = 1024
MAX_ANCESTORS = 64
"""How many ancestors are looked up, each for about 10 us. A hostile child that makes a
longer chain must not cost the master more with each connection.
"""
TRIES = 5
"""How often the ancestors are looked up anew because one of them ended meanwhile."""


@dataclass(frozen=True, slots=True)
class Stat:
    """A process: its state letter, its parent, and its start in clock ticks since the
    boot (proc(5), /proc/PID/stat).
    """

    state: str
    parent: int
    started: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses. ``cpu_s``: the processor time of all its threads since its
    start, in steps of a clock tick, 10 ms. ``resident_bytes``: its memory that is in
    RAM, pages that it shares with others included.
    """

    cpu_s: float
    resident_bytes: int


def usage(pid: int) -> Usage | None:
    """What the process ``pid`` uses; None if we cannot see it. Takes about 10 us."""
    fields = _stat_fields(pid)
    if fields is None:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * resource.getpagesize())


def possible_children(pid: int) -> list[int] | None:
    """The pids among which the children of the single-threaded process ``pid`` are:
    those that the kernel lists, or else all that we can see.

    None if we cannot see them: ``pid`` has ended, or is hidden and of another user; or
    no descriptor is left.
    """
    with contextlib.suppress(OSError):
        if _stat(pid) is None:
            return all_processes() if _is_of_our_user(pid) else None
        try:
            return _children(pid)
        except OSError:
            return all_processes()
    return None


def zombies_among(pids: Iterable[int], parent: int) -> int:
    """How many of ``pids`` are children of ``parent`` in state Z; processes that we
    cannot see do not count.
    """
    stats = map(_stat, pids)
    return sum(stat is not None and (stat.state, stat.parent) == ("Z", parent) for stat in stats)


def all_processes() -> list[int]:
    """The pids of all processes that we can see. OSError."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def ticks_since_boot() -> int:
    """The time as ``Stat.started`` has it."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def living_children(since: int) -> list[int]:
    """The pids of our own children that are not dead, and that began at ``since``
    (:func:`ticks_since_boot`) or later. One that is hidden is among them.
    """
    pids = _children_of_ours()
    stats = ((pid, _stat(pid)) for pid in pids)
    return [
        pid for pid, stat in stats if stat is None or (stat.state != "Z" and stat.started >= since)
    ]


def _children_of_ours() -> list[int]:
    """Without the kernel's list, those that we can see."""
    own = os.getpid()
    with contextlib.suppress(OSError):
        return _children(own)
    with contextlib.suppress(OSError):
        stats = ((pid, _stat(pid)) for pid in all_processes())
        return [pid for pid, stat in stats if stat is not None and stat.parent == own]
    return []


def may_descend(pid: int, since: int) -> bool:
    """Whether ``pid``, a process of our user, descends from a child that we got at
    ``since`` (:func:`ticks_since_boot`) or later. False only if that is certain; a pid
    of 0 is a process outside our pid namespace.

    We must be the reaper of orphans: otherwise a descendant whose parent ended would no
    longer look like one. A child that is older was there before us: a shell may have
    started it and then have become this program.

    As process 1 we also adopt the orphans of others, such as a command whose shell has
    ended. Our children set no_new_privs, which no descendant loses (prctl(2)): one that
    lacks it is an orphan of others.
    """
    if _may_get_privileges(pid):
        return False
    for _ in range(TRIES):
        found = _descends(pid, since)
        if found is not None:
            return found
    return True


def _descends(pid: int, since: int) -> bool | None:
    """Look the ancestors up once. None if one of them has ended meanwhile."""
    for _ in range(MAX_ANCESTORS):
        if pid == 0:
            return False
        stat = _stat(pid)
        if stat is None:
            return _descends_hidden(pid)
        if stat.parent == os.getpid():
            return stat.started >= since
        pid = stat.parent
    return True


def _descends_hidden(pid: int) -> bool | None:
    """Whether a process that /proc does not show may be our descendant. Those are of
    our user, because no process can become another user with no_new_privs and without
    capabilities.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return False
    return True


def _may_get_privileges(pid: int) -> bool:
    """Whether the process lacks no_new_privs (proc(5), /proc/PID/status); False if we
    cannot see it.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return False
    return b"\nNoNewPrivs:\t0\n" in status


def _is_of_our_user(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()]


def _stat(pid: int) -> Stat | None:
    """The process ``pid``; None if we cannot see it."""
    fields = _stat_fields(pid)
    if fields is None:
        return None
    return Stat(fields[0].decode("ascii"), int(fields[1]), int(fields[19]))


def _stat_fields(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third on, the state; None if we cannot see
    the process. They follow the name in brackets, which may itself hold spaces and
    brackets.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        stat = os.read(fd, _STAT_BYTES)
    except ProcessLookupError:  # the process ended between open and read
        return None
    finally:
        os.close(fd)
    return stat.rpartition(b")")[2].split()
