"""What a reaped child leaves: its entry in the tables of the master, its open
connections, its last words.

Owns nothing; works on :class:`unpd.master.runtime.Runtime`. Called by the shell for
each pid that the SIGCHLD handler reaped.
"""

import os
from bisect import bisect_left

from unpd.board import memory as sb
from unpd.core import events as ev
from unpd.kernel import processes
from unpd.kernel.processes import ExitReport
from unpd.kernel.signals import Reaped
from unpd.master.perform import read_report
from unpd.master.runtime import ChildProcess, Runtime
from unpd.names import ReapReason


def account_for(runtime: Runtime, reaped: Reaped) -> None:
    """Look a reaped pid up, count it, and tell the core. A pid that is not ours
    (process 1 inherits orphans) is counted and dropped, whatever it ended with.
    """
    birth = runtime.births.pop(reaped.pid, None)
    report = processes.decode_wait_status(reaped.status)
    if birth is None:
        runtime.board.count(sb.UNKNOWN_REAPED_AT)
        runtime.log.debug("child.unknown", pid=reaped.pid, ended=str(report))
        return
    read_report(runtime, birth)  # its last words come before its death
    living = runtime.living.pop(birth)
    _count(runtime, living, reaped, report)
    abandoned = runtime.board.book_worker_died(living.row)
    runtime.board.leave(living.row)
    if living.pidfd is not None:
        os.close(living.pidfd)
    slot = living.child.slot
    runtime.log.info(
        "child.reaped",
        kind=str(slot.kind),
        slot=str(slot),
        birth=birth,
        pid=reaped.pid,
        reason=str(_reason(report)),
        ended=str(report),
        connections_lost=abandoned,
    )
    runtime.events.append(ev.ChildExited(birth, str(report)))


def _count(runtime: Runtime, living: ChildProcess, reaped: Reaped, report: ExitReport) -> None:
    board = runtime.board
    kind = sb.KINDS.index(living.child.slot.kind)
    board.count(sb.REAPED_AT + kind * len(sb.REAP_REASONS) + sb.REAP_REASONS.index(_reason(report)))
    stamp_ns = board.row(living.row)[sb.EXIT_NS]
    if 0 < stamp_ns <= reaped.at_ns:  # a killed child left none; a mad one left nonsense
        delay_ns = reaped.at_ns - stamp_ns
        board.count(sb.REAP_BUCKETS_AT + bisect_left(sb.REAP_BOUNDS_S, delay_ns / sb.NS))
        board.count(sb.REAP_SUM_NS_AT, delay_ns)


def _reason(report: ExitReport) -> ReapReason:
    if report.signum is None:
        return ReapReason.CLEAN if report.code == 0 else ReapReason.FAILED
    name = processes.signal_name(report.signum).lower()
    return ReapReason(name) if name in tuple(ReapReason) else ReapReason.OTHER_SIGNAL
