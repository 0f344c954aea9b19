"""Counts the zombies among the children of a process, from proc(5).

Owns nothing. Called by the exporter at each scrape. Calls nothing of unpd. Raises
nothing for a process that has ended or is hidden: that is None or no zombie.

Known gaps: ``/proc/PID/task/PID/children`` can omit a child while a sibling exits
(proc(5)), so a count during mass deaths may be low; the next count is right. A kernel
without that file (CONFIG_PROC_CHILDREN off) makes us read all of /proc, which costs
about 10 us for each process.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_STAT_BYTES = 1024


def zombie_children(pid: int) -> int | None:
    """How many children of the single-threaded process ``pid`` are in state Z now.

    None if we cannot see ``pid`` (it has ended, or the mount option hidepid hides it).
    """
    if _state(pid) is None:
        return None
    try:
        return zombies_among(_children(pid), pid)
    except OSError:
        return zombies_among(all_processes(), pid)


def zombies_among(pids: Iterable[int], parent: int) -> int:
    """How many of ``pids`` are children of ``parent`` in state Z; processes that we
    cannot see do not count.
    """
    return sum(_state(pid) == ("Z", parent) for pid in pids)


def all_processes() -> list[int]:
    """The pids of all processes that we can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()]


def _state(pid: int) -> tuple[str, int] | None:
    """The state letter and the parent of ``pid`` (proc(5), /proc/PID/stat); None if we
    cannot see it.

    Both follow the name in brackets, which may itself hold spaces and brackets.
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
    state, parent = stat.rpartition(b")")[2].split()[:2]
    return state.decode("ascii"), int(parent)
