"""The master's book-keeping on the scoreboard: what a reaped child leaves, and the
samples of once a second.
"""

import contextlib
import os
import resource
import time
from bisect import bisect_left

from unpd import scoreboard as sb
from unpd.core import events as ev
from unpd.kernel import processes, sockets
from unpd.kernel.processes import ExitReport
from unpd.kernel.signals import Reaped
from unpd.master.holdings import Holdings, Living
from unpd.master.listener import METRICS
from unpd.master.perform import read_report
from unpd.names import ReapReason

_PAGE_BYTES = resource.getpagesize()


def account_for(holdings: Holdings, reaped: Reaped) -> None:
    """Look a reaped pid up, count it, and tell the core. A pid that is not ours
    (process 1 inherits orphans) is counted and dropped, whatever it ended with.
    """
    birth = holdings.births.pop(reaped.pid, None)
    report = processes.decode(reaped.status)
    if birth is None:
        holdings.board.count(sb.UNKNOWN_REAPED_AT)
        holdings.log.debug("child.unknown", pid=reaped.pid, ended=str(report))
        return
    read_report(holdings, birth)  # its last words come before its death
    living = holdings.living.pop(birth)
    _count(holdings, living, reaped, report)
    abandoned = holdings.board.book_worker_died(living.row)
    holdings.board.leave(living.row)
    if living.pidfd is not None:
        os.close(living.pidfd)
    slot = living.child.slot
    holdings.log.info(
        "child.reaped",
        kind=str(slot.kind),
        slot=str(slot),
        birth=birth,
        pid=reaped.pid,
        reason=str(_reason(report)),
        ended=str(report),
        connections_lost=abandoned,
    )
    holdings.events.append(ev.ChildExited(birth, str(report)))


def _count(holdings: Holdings, living: Living, reaped: Reaped, report: ExitReport) -> None:
    board = holdings.board
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


def sample(holdings: Holdings) -> None:
    """Write what only the master can see: accept queues, its own process figures,
    signals and dropped lines.
    """
    words = holdings.board.words
    for key, listener in holdings.deployment.listeners.opened.items():
        told = sockets.queue(listener.sock) if listener.wish.service != METRICS else None
        if told is not None:
            at = sb.LISTEN_QUEUE_AT + 2 * holdings.columns.listeners.column(key)
            words[at], words[at + 1] = told
    words[sb.SIGCHLD_AT] = holdings.reaper.calls
    words[sb.MASTER_LOG_DROPPED_AT] = holdings.log.sink.dropped
    # Without a free descriptor, perhaps by another program's fault, the last figures
    # stand.
    with contextlib.suppress(OSError):
        _sample_process(words)


def _sample_process(words: memoryview) -> None:
    words[sb.CPU_NS_AT] = time.process_time_ns()
    with open("/proc/self/statm", "rb") as statm:
        virtual, resident = statm.read().split()[:2]
    words[sb.VIRTUAL_BYTES_AT] = int(virtual) * _PAGE_BYTES
    words[sb.RESIDENT_BYTES_AT] = int(resident) * _PAGE_BYTES
    words[sb.OPEN_FDS_AT] = (
        len(os.listdir("/proc/self/fd")) - 1
    )  # not the one that listdir itself holds
    words[sb.MAX_FDS_AT] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def beats(holdings: Holdings) -> ev.BeatsRead:
    """Every child's heartbeat: the only thing that the master believes of what a child
    writes, and only about that very child.
    """
    return ev.BeatsRead(
        {
            birth: holdings.board.row(living.row)[sb.BEAT_NS] / sb.NS
            for birth, living in holdings.living.items()
        }
    )
