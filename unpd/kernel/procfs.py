"""proc(5): the children of a process that are zombies. Called by the exporter at each
scrape; calls nothing of ours.

Known gap: ``/proc/PID/task/PID/children`` can skip a child while a sibling leaves
(proc(5)), so a count taken in the middle of mass deaths may be low; the next one is
not. Where the kernel has no such file (CONFIG_PROC_CHILDREN off), all of /proc is read,
which costs about 10 us a process.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_STAT_BYTES = 1024


def zombie_children(pid: int) -> int | None:
    """How many children of the single-threaded process ``pid`` are in state Z right
    now; None where ``pid`` cannot be seen (it is gone, or hidepid hides it).
    """
    if _state(pid) is None:
        return None
    try:
        return zombies_among(_children(pid), pid)
    except OSError:
        return zombies_among(all_processes(), pid)


def zombies_among(pids: Iterable[int], parent: int) -> int:
    """How many of ``pids`` are children of ``parent`` in state Z; those that cannot be
    seen are none.
    """
    return sum(_state(pid) == ("Z", parent) for pid in pids)


def all_processes() -> list[int]:
    """Every process that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()]


def _state(pid: int) -> tuple[str, int] | None:
    """State letter and parent of ``pid`` (proc(5), /proc/PID/stat), None if it cannot
    be seen. The name before them may hold spaces and brackets.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        stat = os.read(fd, _STAT_BYTES)
    except ProcessLookupError:  # it left between open and read
        return None
    finally:
        os.close(fd)
    state, parent = stat.rpartition(b")")[2].split()[:2]
    return state.decode("ascii"), int(parent)
