"""Samples what the master measures once a second: the accept queues, the datagrams and
the clients that the kernel dropped, how busy the workers and the
machine are, its own process and those of its children, its faults, the wanted workers,
the services out of reach, and the heartbeats of its children. Writes the master's own
heartbeat.

Called by the shell's sweep. :func:`sample` and :func:`show_state` write the master's
words of the board.
"""

import contextlib
import functools
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

from unpd.board import layout
from unpd.config.addresses import takes_datagrams
from unpd.config.schema import Config
from unpd.core import events as ev
from unpd.core.model import State
from unpd.kernel import datagrams, pressure, procnet, tcp_info
from unpd.loop import now
from unpd.master.busyness import Sample
from unpd.master.listening.listener import OpenListener
from unpd.master.runtime import Runtime
from unpd.master.status import degradations
from unpd.names import METRICS, ChildKind

_PAGE_BYTES = resource.getpagesize()
_BUSYNESS = (layout.Row.BEAT_NS, layout.Row.BUSY_NS)


def sample(runtime: Runtime) -> None:
    """Write the accept queues, and the figures of the master's process: heartbeat,
    signals, dropped log lines, time, memory and descriptors. Keep the longest queues,
    and what the children use.
    """
    words = runtime.board.words
    longest, runtime.queue_peaks = runtime.queue_peaks, {}
    for key, listener in runtime.deployment.listeners.opened.items():
        queue = tcp_info.accept_queue(listener.sock)
        if queue is not None:
            runtime.queue_peaks[key] = max(queue[0], longest.get(key, 0))
        if listener.wanted.service == METRICS:
            continue
        if queue is not None:
            word = layout.Master.LISTEN_QUEUES + 2 * runtime.columns.listeners.column(key)
            words[word], words[word + 1] = queue
        if listener.sock.family != socket.AF_UNIX:
            _sample_drops(runtime, key, listener)
    _sample_usages(runtime)
    sample_busyness(runtime, now())
    sample_losses(runtime)
    sample_machine(words, runtime.deployment.config)
    words[layout.Master.BEAT_NS] = int(now() * layout.NS)
    words[layout.Master.SIGCHLD] = runtime.reaper.calls
    words[layout.Master.LOG_DROPPED] = runtime.log.sink.dropped
    # The samples of the process need a free descriptor. Without one, perhaps by another
    # program's fault, the last figures stay.
    with contextlib.suppress(OSError):
        _sample_process(words)


def _sample_usages(runtime: Runtime) -> None:
    """Sample what some children use, and write it."""
    processes = runtime.processes
    pids = {birth: process.pid for birth, process in processes.items()}
    for birth in runtime.usages.take(pids, now()):
        if (used := runtime.usages.of(birth)) is not None:
            cpu_ns = int(used.cpu_s * layout.NS)
            row = processes[birth].row
            runtime.board.show_usage(row, cpu_ns, used.cpu_percent, used.resident_bytes)


def sample_machine(words: memoryview, config: Config, root: Path = Path("/")) -> None:
    """Write how busy the machine is, as far as a limit of ``config`` asks for it.

    ``root``: the root directory of the file system (tests make their own).
    """
    services = config.services.values()
    for word, waited_for in enumerate(layout.RESOURCES, layout.Master.PRESSURE):
        limited = any(getattr(service.max_pressure, waited_for) for service in services)
        read = functools.partial(pressure.read, waited_for, root)
        words[word] = _hundredths(read) if limited else 0
    limited = any(service.max_load for service in services)
    words[layout.Master.LOAD] = _hundredths(pressure.load_average) if limited else 0


def _hundredths(read: Callable[[], float]) -> int:
    """What ``read`` returns; 0 if it fails, because an old figure could close a service
    for good.
    """
    try:
        return round(100 * read())
    except OSError:
        return 0


def _sample_drops(runtime: Runtime, key: str, listener: OpenListener) -> None:
    """Write what the kernel dropped at a listener; add the datagrams that it dropped
    since the last sample. Its own count begins with the socket, which the next master
    may get from the service manager, with the board.
    """
    seen = layout.Master.DROPS_SEEN + runtime.columns.listeners.column(key)
    total = layout.Master.KERNEL_DROPS + runtime.columns.services.column(listener.wanted.service)
    words, drops = runtime.board.words, datagrams.kernel_drops(listener.sock)
    before = words[seen] if words[seen] <= drops else 0  # a new socket
    if takes_datagrams(listener.address):
        runtime.board.count(total, drops - before)
    words[seen] = drops


def sample_busyness(runtime: Runtime, at: float) -> None:
    """Write how busy the workers of each pool are. ``at``: monotonic seconds. A worker
    that is ready may not have beaten yet: its first turn waits for a second at most.
    """
    words = runtime.board.words
    samples = []
    for birth, process in runtime.processes.items():
        if process.child.slot.kind is ChildKind.WORKER and process.reported:
            row = layout.row_start(process.row)
            beat_s, busy_s = (words[row + word] / layout.NS for word in _BUSYNESS)
            if beat_s >= process.child.born_at:
                samples.append(Sample(birth, process.child.slot.pool, beat_s, busy_s))
    shares = runtime.busyness.take(samples, at)
    for pool, column in runtime.columns.pools.by_name.items():
        words[layout.Master.BUSY + column] = round(10_000 * shares.get(pool, 0.0))


def sample_losses(runtime: Runtime, netstat: Path = procnet.NETSTAT) -> None:
    """Add the clients that the kernel turned away since the last sample. The first one
    of this master is only where its counts begin. ``netstat``: tests make their own.
    """
    found = procnet.listen_losses(netstat)
    if found is None:
        return
    seen, runtime.losses_seen = runtime.losses_seen or found, found
    for word, count, before in zip(
        (layout.Master.LISTEN_OVERFLOWS, layout.Master.LISTEN_DROPS), found, seen, strict=True
    ):
        runtime.board.count(word, max(0, count - before))


def _sample_process(words: memoryview) -> None:
    words[layout.Master.CPU_NS] = time.process_time_ns()
    with open("/proc/self/statm", "rb") as statm:
        virtual, resident = statm.read().split()[:2]
    words[layout.Master.VIRTUAL_BYTES] = int(virtual) * _PAGE_BYTES
    words[layout.Master.RESIDENT_BYTES] = int(resident) * _PAGE_BYTES
    # os.listdir opens the directory: one of the descriptors in the list is its own.
    words[layout.Master.OPEN_FDS] = len(os.listdir("/proc/self/fd")) - 1
    words[layout.Master.MAX_FDS] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def show_state(runtime: Runtime, state: State) -> None:
    """Write which faults the daemon has, how many children each pool wants, and which
    services clients cannot reach.
    """
    words = runtime.board.words
    present = {found.fault for found in degradations(runtime, state)}
    for index, fault in enumerate(layout.FAULTS):
        words[layout.Master.FAULTS + index] = int(fault in present)
    for pool, column in runtime.columns.pools.by_name.items():
        for word, kind in enumerate(layout.SERVING_KINDS, layout.wanted_words(column)):
            wanted = state.wanted.pools.get((kind, pool))
            words[word] = wanted.count if wanted else 0
    unreachable = runtime.deployment.listeners.unreachable()
    for service, column in runtime.columns.services.by_name.items():
        words[layout.Master.UNREACHABLE + column] = int(service in unreachable)


def beats(runtime: Runtime) -> ev.BeatsRead:
    """Read the heartbeat of every child. It is the only word of a child from which the
    master decides anything, and only about that child.
    """
    board = runtime.board
    rows = {birth: board.row(process.row) for birth, process in runtime.processes.items()}
    return ev.BeatsRead({birth: row[layout.Row.BEAT_NS] / layout.NS for birth, row in rows.items()})
