"""The status of the daemon, for ``unpd status`` and for the service manager.

Reads the core's state, the listeners, the scoreboard, and /proc for the zombies
(:mod:`unpd.master.zombies`), and changes none of that. Called by
:mod:`unpd.master.orders` and :mod:`unpd.master.systemd.announcer`. The fields are those
of :data:`unpd.control.status_fields.STATUS`, which a test compares.
"""

import os
import socket
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from unpd import __version__
from unpd.board import layout
from unpd.board.active import accepted_in_row
from unpd.board.history import Series, Window
from unpd.board.layout import Master, Row
from unpd.board.memory import sane
from unpd.control.answer_fields import SCHEMA
from unpd.core.model import Child, Slot, State
from unpd.core.policy import policy_of
from unpd.core.readiness import is_ready, throttled, unready_pools, unready_slots
from unpd.kernel import datagrams, tcp_info
from unpd.kernel.clock import since_boot_ns
from unpd.logs import moment
from unpd.loop import now
from unpd.master.counts import Counts
from unpd.master.listening.listener import OpenListener
from unpd.master.log_watch import lines_lost
from unpd.master.retired import moment_of, retired
from unpd.master.runtime import ChildProcess, Runtime
from unpd.metrics.page import lately
from unpd.metrics.reading import child_beat_age_s
from unpd.names import (
    ENDING_PHASES,
    METRICS,
    UNREADY_PHASES,
    ChildKind,
    ChildPhase,
    Fault,
    ListenerState,
    LiveChange,
    MasterPhase,
    ReloadResult,
    kind_words,
)
from unpd.wording import counted

_NOUNS: Mapping[ChildKind, str] = MappingProxyType(
    {
        ChildKind.WORKER: "workers",
        ChildKind.ITERATIVE: "iterative workers",
        ChildKind.DISPATCHER: "dispatchers",
        ChildKind.LAUNCHER: "launchers",
        ChildKind.PYTHON: "python dispatchers",
    }
)
"""The kinds of children that serve, in the plural."""
_RATES: Mapping[str, str] = MappingProxyType(
    {
        "accepted_per_s": "accepted",
        "received_bytes_per_s": "received",
        "sent_bytes_per_s": "sent",
        "datagrams_per_s": "datagrams",
    }
)
"""The figure of the history for each rate."""
MAX_EVENTS = 20
"""How many of the last events a status has: as many as the status page shows."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """A fault of a running daemon, and the sentence that names the part that has it."""

    fault: Fault
    text: str


def degradations(runtime: Runtime, state: State) -> tuple[Degradation, ...]:
    """The faults of a running daemon; none if it is whole."""
    if state.phase in (MasterPhase.STARTING, MasterPhase.STOPPING):
        return ()
    others = (Degradation(fault, text) for (fault, _), text in runtime.faults.items())
    return (*faults_of(state), *others)


def faults_of(state: State) -> tuple[Degradation, ...]:
    """The faults that the core sees."""
    if state.phase in (MasterPhase.STARTING, MasterPhase.STOPPING):
        return ()
    without = [
        Degradation(Fault.POOL_NOT_READY, f"pool {pool} has no ready {kind}")
        for kind, pool in unready_pools(state)
    ]
    without += [
        Degradation(
            Fault.POOL_NOT_READY,
            f"service {slot.service} has no ready {kind_words(slot.kind)}",
        )
        for slot in unready_slots(state)
    ]
    dying = [
        Degradation(Fault.CRASH_LOOP, f"{kind_words(slot.kind)} {slot} keeps dying early")
        for slot in throttled(state)
    ]
    return (*without, *dying)


def summary(runtime: Runtime, state: State) -> str:
    """Return one line, such as ``generation 3, 2 of 2 workers ready, 41 connections``,
    with every fault at its end.
    """
    ready = Counter(
        child.slot.kind
        for child in state.children.values()
        if child.phase is ChildPhase.READY and state.is_current(child)
    )
    wanted: Counter[ChildKind] = Counter()
    for (kind, _), pool in state.wanted.pools.items():
        wanted[kind] += pool.count
    active = runtime.renewed_counts().active.total
    parts = [
        f"generation {state.generation}",
        *(
            f"{ready[kind]} of {wanted[kind]} {noun} ready"
            for kind, noun in _NOUNS.items()
            if wanted[kind]
        ),
        counted(active, "connection"),
    ]
    if state.phase is not MasterPhase.RUNNING:
        parts.insert(0, str(state.phase))
    reasons = [found.text for found in degradations(runtime, state)]
    return ", ".join(parts) + "".join(f"; degraded: {reason}" for reason in reasons)


def status(runtime: Runtime, state: State, *, history: bool) -> dict[str, Any]:
    """Return the status as JSON values. Durations are in seconds. ``history``: with the
    last ten minutes.
    """
    at = now()
    exporter = runtime.deployment.listeners.of(METRICS)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "pid": os.getpid(),
        "config": next(iter(runtime.config_names), None),
        "metrics": exporter[0].text if exporter else None,
        "phase": str(state.phase),
        "ready": (
            state.phase not in UNREADY_PHASES and is_ready(state) and not unreachable(runtime)
        ),
        "heartbeat_age_s": child_beat_age_s(runtime.board.words[Master.BEAT_NS], 1, at),
        "degraded": [
            {"reason": str(found.fault), "text": found.text}
            for found in degradations(runtime, state)
        ],
        "generation": state.generation,
        "uptime_s": round(at - runtime.started_at, 1),
        "last_reload": reload_shown(runtime),
        "stop_ends_at": (
            moment_of(state.sessions_end_at) if state.phase in ENDING_PHASES else None
        ),
        "retired": retired(runtime, state),
        "live_changes": live_changes(runtime, state),
        "zombies": runtime.zombies.count(),
        "denials": len(runtime.deny_list),
        "log_lines_dropped": sane(lines_lost(runtime)),
        "services": _services(runtime),
        "children": children(runtime, state),
        "missing": _missing(runtime, state),
        **(_lately(runtime) if history else dict.fromkeys(("totals", "history", "events"))),
    }


def _lately(runtime: Runtime) -> dict[str, Any]:
    """The last ten minutes, from the memory that the status page shows."""
    counts, boot_ns = runtime.renewed_counts(), since_boot_ns()
    series = runtime.history.history.window(boot_ns).totals()
    sums = {name: sane(sum(counts.totals.services[name])) for name in ("accepted", "refused")}
    return {
        "totals": lately.totals(series, active=counts.active.total, **sums),
        "history": lately.history(series, boot_ns),
        "events": lately.events([*runtime.renewed_feed().events][-MAX_EVENTS:]),
    }


def unreachable(runtime: Runtime) -> set[str]:
    """The services of which clients reach no listener. The exporter is none of them."""
    return runtime.deployment.listeners.unreachable() - {METRICS}


def reload_shown(runtime: Runtime) -> dict[str, Any] | None:
    """The last reload; None if there was none."""
    last = runtime.last_reload
    if last is None:
        return None
    return {
        "result": str(ReloadResult.REFUSED if last.refused else ReloadResult.SUCCESS),
        "reason": last.refused,
        "ended_at": moment(last.ended_at),
        "generation": last.generation,
    }


def children(runtime: Runtime, state: State) -> list[dict[str, Any]]:
    """The children, as :data:`unpd.control.view_fields.WORKERS` has them."""
    at = now()
    return [_child(runtime, child, at) for child in state.children.values()]


def live_changes(runtime: Runtime, state: State) -> list[dict[str, Any]]:
    """What was changed without the configuration."""
    live, level = runtime.live, runtime.live.level
    halts = [
        _live_change(LiveChange.HALT, name, str(order.halt), until=order.term.text)
        for name, order in live.halts.items()
    ]
    levels = []
    if level is not None:
        wants, until = runtime.log.configured, level.term.text
        levels = [_live_change(LiveChange.LOG_LEVEL, None, level.level, wants, until)]
    scales = [
        _live_change(LiveChange.SCALE, pool, str(scale.workers), str(scale.configured))
        for pool, scale in state.scales.items()
    ]
    return [*halts, *levels, *scales]


def _live_change(
    change: LiveChange,
    subject: str | None,
    value: str,
    configured: str | None = None,
    until: str = "",
) -> dict[str, Any]:
    return {
        "change": str(change),
        "subject": subject,
        "value": value,
        "configured": configured,
        "until": until or None,
    }


def _missing(runtime: Runtime, state: State) -> list[dict[str, Any]]:
    """The slots without a child; none are missed at a stop."""
    if state.phase is MasterPhase.STOPPING:
        return []
    held = {child.slot for child in state.children.values()}
    lacking = (slot for _, slot in state.wanted.slots() if slot not in held)
    return [{**_place(slot), "last_end": _last_end(runtime, slot)} for slot in lacking]


def _place(slot: Slot) -> dict[str, Any]:
    return {
        "kind": str(slot.kind),
        "pool": slot.pool,
        "index": slot.index,
        "service": slot.service or None,
    }


def _last_end(runtime: Runtime, slot: Slot) -> dict[str, Any] | None:
    return lately.last_end(runtime.renewed_feed().ends.get((str(slot.kind), str(slot))))


def _child(runtime: Runtime, child: Child, at: float) -> dict[str, Any]:
    process = runtime.processes.get(child.birth)
    serves = policy_of(child).serves
    return {
        **_place(child.slot),
        "phase": str(child.phase),
        "generation": child.generation,
        "birth": child.birth,
        "pid": process.pid if process else None,
        "age_s": round(at - child.born_at, 1),
        "connections": runtime.open_connections(child.birth) if serves else None,
        "accepted": _accepted(runtime, process) if serves else None,
        **_used(runtime, child),
        "heartbeat_age_s": beat_age_s(runtime, child, at),
        "last_end": _last_end(runtime, child.slot),
    }


def _accepted(runtime: Runtime, process: ChildProcess | None) -> int:
    """Count what a child has accepted. A row keeps the counts of earlier children."""
    if process is None:
        return 0
    return max(0, accepted_in_row(runtime.board, process.row) - process.accepted_before)


def _used(runtime: Runtime, child: Child) -> dict[str, Any]:
    used = runtime.usages.of(child.birth)
    percent = used.cpu_percent if used else None
    return {
        "cpu_percent": None if percent is None else round(percent, 1),
        "cpu_s": round(used.cpu_s, 2) if used else None,
        "memory_bytes": used.resident_bytes if used else None,
    }


def beat_age_s(runtime: Runtime, child: Child, at: float) -> float | None:
    """How old the last heartbeat of a child is; None if it gave none yet."""
    process = runtime.processes.get(child.birth)
    if process is None:
        return None
    beat_ns = runtime.board.row(process.row)[Row.BEAT_NS]
    return child_beat_age_s(beat_ns, int(child.born_at * layout.NS), at)


def listeners(runtime: Runtime) -> list[dict[str, Any]]:
    """The listeners, as :data:`unpd.control.view_fields.LISTENERS` has them."""
    table = runtime.deployment.listeners
    broken = table.faults()
    return [
        {"service": opened.wanted.service, **_listener(runtime, opened, broken)}
        for opened in table.opened.values()
    ]


def _listener(runtime: Runtime, opened: OpenListener, broken: Container[str]) -> dict[str, Any]:
    key = opened.wanted.key
    state = ListenerState.BROKEN if key in broken else ListenerState.OPEN
    return {
        "address": opened.text,
        "kind": opened.address.scheme,
        "state": str(state),
        "drops": _drops(opened),
        "queue": _queue(tcp_info.accept_queue(opened.sock), runtime.queue_peaks.get(key, 0)),
    }


def _drops(opened: OpenListener) -> int | None:
    """What the kernel has dropped at a socket; None if it counts none there."""
    if opened.sock.family == socket.AF_UNIX:
        return None
    return datagrams.kernel_drops(opened.sock)


def _queue(queue: tuple[int, int] | None, longest: int) -> dict[str, int] | None:
    if queue is None:
        return None
    return {"length": queue[0], "max": max(queue[0], longest), "limit": queue[1]}


def _peak(runtime: Runtime, service: str) -> int:
    column = runtime.columns.services.column(service)
    return sane(runtime.board.words[Master.CONNECTION_PEAKS + column])


def _rates(series: Series) -> dict[str, float | None]:
    rates = {field: series.rate(figure) for field, figure in _RATES.items()}
    return {field: None if rate is None else round(rate, 2) for field, rate in rates.items()}


def _services(runtime: Runtime) -> list[dict[str, Any]]:
    counts, broken = runtime.renewed_counts(), runtime.deployment.listeners.faults()
    window = runtime.history.history.window(since_boot_ns())
    return [
        _service(runtime, name, counts, window, broken)
        for name in runtime.deployment.config.services
    ]


def _service(
    runtime: Runtime, name: str, counts: Counts, window: Window, broken: Container[str]
) -> dict[str, Any]:
    column, active = runtime.columns.services.column(name), counts.active.by_service[name]
    totals = {figure: sane(sums[column]) for figure, sums in counts.totals.services.items()}
    order = runtime.live.halts.get(name)
    opened = runtime.deployment.listeners.of(name)
    return {
        "name": name,
        "halted": str(order.halt) if order else None,
        "accepted": totals["accepted"],
        "active": active,
        "peak": max(active, _peak(runtime, name)),
        "active_max_10min": max(active, window.highest(column, "open")),
        "limit": runtime.deployment.config.services[name].max_connections or None,
        "received_bytes": totals["received"],
        "sent_bytes": totals["sent"],
        **_rates(window.recent(column)),
        "refused": totals["refused"],
        "refused_by_reason": lately.refused_by_reason(
            (reason, sums[column]) for reason, sums in counts.totals.refused.items()
        ),
        "would_refuse": totals["would_refuse"],
        "datagrams_received": totals["datagrams"],
        "datagrams_sent": totals["datagrams_sent"],
        "listeners": [_listener(runtime, each, broken) for each in opened],
    }
