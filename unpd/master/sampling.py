"""The samples that the master takes once a second: accept queues, its own process, the
heartbeats of its children.

Called by the shell's sweep; writes the master's words of the board.
"""

import contextlib
import os
import resource
import time

from unpd.board import layout
from unpd.core import events as ev
from unpd.kernel import sockets
from unpd.master.listening.listener import METRICS
from unpd.master.runtime import Runtime

_PAGE_BYTES = resource.getpagesize()


def sample(runtime: Runtime) -> None:
    """Write what only the master sees: accept queues, the figures of its own process,
    signals and dropped lines.
    """
    words = runtime.board.words
    for key, listener in runtime.deployment.listeners.opened.items():
        if listener.wanted.service == METRICS:
            continue
        queue = sockets.accept_queue(listener.sock)
        if queue is not None:
            at = layout.Master.LISTEN_QUEUES + 2 * runtime.columns.listeners.column(key)
            words[at], words[at + 1] = queue
    words[layout.Master.SIGCHLD] = runtime.reaper.calls
    words[layout.Master.LOG_DROPPED] = runtime.log.sink.dropped
    # Without a free descriptor, perhaps by another program's fault, the last figures
    # stay.
    with contextlib.suppress(OSError):
        _sample_process(words)


def _sample_process(words: memoryview) -> None:
    words[layout.Master.CPU_NS] = time.process_time_ns()
    with open("/proc/self/statm", "rb") as statm:
        virtual, resident = statm.read().split()[:2]
    words[layout.Master.VIRTUAL_BYTES] = int(virtual) * _PAGE_BYTES
    words[layout.Master.RESIDENT_BYTES] = int(resident) * _PAGE_BYTES
    # listdir(3) opens the directory: one descriptor of those that it lists.
    words[layout.Master.OPEN_FDS] = len(os.listdir("/proc/self/fd")) - 1
    words[layout.Master.MAX_FDS] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def beats(runtime: Runtime) -> ev.BeatsRead:
    """Read every child's heartbeat. The master decides nothing from what a child writes
    but this, and only about that very child.
    """
    return ev.BeatsRead(
        {
            birth: runtime.board.row(process.row)[layout.Row.BEAT_NS] / layout.NS
            for birth, process in runtime.processes.items()
        }
    )
