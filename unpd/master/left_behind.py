"""Ends the processes that children have left behind, at the very end of a stop.

The master is the reaper of orphans (:func:`unpd.kernel.processes.adopt_orphans`), so
that a process whose parent was a worker is a child of the master when no worker is
left. One that ignores signals would keep the port of a listener that it inherited. A
process that was there before the daemon (a shell started it, and then became unpd) is
left alone.

Called by boot after the loop has ended, when no child is wanted any more: before that,
an orphan may be one that serves a client. Calls :mod:`unpd.kernel`. Raises nothing.

Known gap: a process that forks faster than it is killed, or that the kernel cannot end
in time, is left; the log line counts it.
"""

import contextlib
import os
import signal

from unpd.core.policy import LAST_SHARE
from unpd.kernel import processes, procfs, signals
from unpd.logs import Log
from unpd.loop import now

SHORTEST_S = 0.1
LONGEST_S = 1.0
"""How long the master tries. A process that is killed ends within milliseconds."""
NAMED = 8
"""How many pids the log line names."""


def time_for(grace_s: float) -> float:
    """How long to try, in seconds: the part of a stop that no child may use."""
    return min(max((1.0 - LAST_SHARE) * grace_s, SHORTEST_S), LONGEST_S)


def end_left_behind(since: int, timeout_s: float, log: Log) -> None:
    """Kill every child of this process that began at ``since``
    (:func:`unpd.kernel.procfs.ticks_since_boot`) or later, and the children that these
    leave; log that in one line. Take at most ``timeout_s`` seconds.
    """
    deadline_at = now() + timeout_s
    killed: dict[int, None] = {}
    alive: set[int] = set()
    while now() < deadline_at:
        pidfds = _open_all(since)
        if not pidfds:
            break
        alive = _kill_all(pidfds, deadline_at - now())
        killed |= dict.fromkeys(pidfds.values())
    if killed:
        pids = ",".join(map(str, list(killed)[:NAMED]))
        log.event("orphans.killed", count=len(killed), pids=pids, alive=len(alive))


def _open_all(since: int) -> dict[int, int]:
    """The pids of these children, by pidfd. None of them is reaped meanwhile, so that
    each pidfd is that of the right process.
    """
    found = {}
    with signals.blocked():
        for pid in procfs.living_children(since):
            # Out of descriptors: the next turn takes the others.
            with contextlib.suppress(OSError):
                found[os.pidfd_open(pid)] = pid
    return found


def _kill_all(pidfds: dict[int, int], timeout_s: float) -> set[int]:
    """Kill the processes, and close the pidfds. Return the pids of those that have not
    ended in time.
    """
    for pidfd in pidfds:
        # A program with the rights of another user.
        with contextlib.suppress(PermissionError):
            processes.send_signal(pidfd, signal.SIGKILL)
    alive = {pidfds[pidfd] for pidfd in processes.alive_after(pidfds, timeout_s)}
    for pidfd in pidfds:
        os.close(pidfd)
    return alive
