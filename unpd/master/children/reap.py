"""Accounts for reaped children: counts the exit, counts the connections that the child
left open, and queues an event for the core.

Called by the shell for each pid that the SIGCHLD handler reaped; works on
:class:`unpd.master.runtime.Runtime`.
"""

import os
from bisect import bisect_left

from unpd.board import layout
from unpd.core import events as ev
from unpd.core.model import State
from unpd.kernel import processes
from unpd.kernel.processes import ExitReport
from unpd.kernel.signals import Reaped
from unpd.master import ended, kicking, rotation
from unpd.master.children.lost import book_lost
from unpd.master.children.reports import read_and_close
from unpd.master.runtime import ChildProcess, Runtime
from unpd.names import reap_reason


def account_for(runtime: Runtime, state: State, reaped: Reaped) -> None:
    """Count a reaped process, and queue ChildExited if it was a child. ``state``: the
    core's, which still has the child.

    A process that the master did not fork is only counted: it inherits orphans. But the
    sessions of a dispatcher that died are accounted for.
    """
    birth = runtime.birth_by_pid.pop(reaped.pid, None)
    report = processes.decode_wait_status(reaped.status)
    if birth is None and runtime.lanes.session_ended(reaped):
        return
    if birth is None:
        runtime.board.count(layout.Master.UNKNOWN_REAPED)
        runtime.log.event("child.unknown", pid=reaped.pid, ended=str(report))
        return
    read_and_close(runtime, birth)  # the core gets the child's report before its exit
    process = runtime.processes.pop(birth)
    rotation.forget(runtime, birth)
    if process.ended is not None:
        ended.keep(runtime, process.ended)
    _count(runtime, process, reaped, report)
    lane = runtime.lanes.held_by(birth)
    if lane is None:
        services = runtime.columns.services.by_name
        ends = runtime.lanes.ended
        lost = book_lost(runtime.board, process.row, services, ends, runtime.log)
        runtime.sources.clear(process.row)
        runtime.board.leave(process.row)
    else:
        ends_at = state.drain_ends_at(birth)
        lost = runtime.lanes.take_back(lane, runtime.reaper.reaped, ends_at)
        kicking.dispatcher_died(runtime, birth)
    if process.pidfd is not None:
        os.close(process.pidfd)
    slot = process.child.slot
    runtime.log.event(
        "child.reaped",
        kind=str(slot.kind),
        slot=str(slot),
        birth=birth,
        pid=reaped.pid,
        reason=str(reap_reason(report.code, report.signal)),
        ended=_in_words(process, report),
        connections_lost=lost,
    )
    runtime.events.append(ev.ChildExited(birth, _in_words(process, report)))


def _in_words(process: ChildProcess, report: ExitReport) -> str:
    """How the child ended. One that left in peace without an order of the master
    followed a signal of another process.
    """
    if report.code != 0 or process.ordered:
        return str(report)
    return f"{report} after {process.left_by or 'a signal'} from another process"


def _count(runtime: Runtime, process: ChildProcess, reaped: Reaped, report: ExitReport) -> None:
    board = runtime.board
    kind = layout.KINDS.index(process.child.slot.kind)
    reason = layout.REAP_REASONS.index(reap_reason(report.code, report.signal))
    board.count(layout.Master.REAPED + kind * len(layout.REAP_REASONS) + reason)
    exit_ns = board.row(process.row)[layout.Row.EXIT_NS]
    # A killed child wrote no time, and a faulty child may have written any number.
    if 0 < exit_ns <= reaped.at_ns:
        delay_ns = reaped.at_ns - exit_ns
        bucket = bisect_left(layout.REAP_BOUNDS_S, delay_ns / layout.NS)
        board.count(layout.Master.REAP_BUCKETS + bucket)
        board.count(layout.Master.REAP_SUM_NS, delay_ns)
