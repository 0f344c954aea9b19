"""The samples that the master takes once a second: accept queues, its own process, the
heartbeats of its children.

Called by the shell's sweep; writes the master's words of the board.
"""

import contextlib
import os
import resource
import time

from unpd.board import memory as sb
from unpd.core import events as ev
from unpd.kernel import sockets
from unpd.master.listening.listener import METRICS
from unpd.master.runtime import Runtime

_PAGE_BYTES = resource.getpagesize()


def sample(runtime: Runtime) -> None:
    """Write what only the master can see: accept queues, its own process figures,
    signals and dropped lines.
    """
    words = runtime.board.words
    for key, listener in runtime.deployment.listeners.opened.items():
        told = sockets.accept_queue(listener.sock) if listener.wanted.service != METRICS else None
        if told is not None:
            at = sb.LISTEN_QUEUE_AT + 2 * runtime.columns.listeners.column(key)
            words[at], words[at + 1] = told
    words[sb.SIGCHLD_AT] = runtime.reaper.calls
    words[sb.MASTER_LOG_DROPPED_AT] = runtime.log.sink.dropped
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


def beats(runtime: Runtime) -> ev.BeatsRead:
    """Every child's heartbeat: the only thing that the master believes of what a child
    writes, and only about that very child.
    """
    return ev.BeatsRead(
        {
            birth: runtime.board.row(living.row)[sb.BEAT_NS] / sb.NS
            for birth, living in runtime.living.items()
        }
    )
