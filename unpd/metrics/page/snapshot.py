"""What the status page shows, as JSON values: the page and /status.json are two views
of it. The fields are those of :data:`unpd.control.page_fields.PAGE`, which a test
compares. A field that the answer to ``status`` has too has its name and meaning. A
maximum over the history has its ten minutes in its name.

Reads the scoreboard, the history and the news of the master; changes nothing. Called by
:mod:`unpd.metrics.page.status_page`. Raises nothing, whatever a faulty child wrote. It
shows no address of a client.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from unpd.board import layout
from unpd.board.active import accepted_in_row, count_all
from unpd.board.halted import Halted
from unpd.board.history import History, Series, Window
from unpd.board.layout import Directory, Master, Row
from unpd.board.memory import Entry, Scoreboard, sane
from unpd.kernel.clock import since_boot_ns
from unpd.logs import moment
from unpd.loop import now
from unpd.metrics.labels import Labels, ListenerLabels
from unpd.metrics.page import lately
from unpd.metrics.page.news import News
from unpd.metrics.reading import Reading, ServiceCounts, child_beat_age_s, why_not_ready
from unpd.names import ANSWER_SCHEMA, MAX_CHILDREN, MISSING, ChildKind, MasterPhase

SILENT_S = 5.0
"""A master whose last heartbeat is older than this is shown as silent: it beats once a
second.
"""
SESSIONS_ONLY = "sessions_only"
"""The phase of a child that was reaped and whose sessions live on."""
_OF_LIVING = (
    "generation",
    "birth",
    "pid",
    "age_s",
    "connections",
    "accepted",
    "cpu_percent",
    "cpu_s",
    "memory_bytes",
    "heartbeat_age_s",
)
"""What only a living child has."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a snapshot by three clocks. ``monotonic_s``: that of heartbeats.
    ``boot_ns``: that of the history. ``wall_s``: since the epoch.
    """

    monotonic_s: float
    boot_ns: int
    wall_s: float

    @classmethod
    def present(cls) -> Self:
        """The time now."""
        return cls(now(), since_boot_ns(), time.time())


@dataclass(frozen=True, slots=True)
class Sources:
    """What a snapshot is made of."""

    board: Scoreboard
    labels: Labels
    history: History
    news: News
    halted: Halted


def snapshot(sources: Sources, at: Moment) -> dict[str, Any]:
    """Return the snapshot. Durations are in seconds, rates in units a second."""
    board, labels, state = sources.board, sources.labels, sources.news.state
    reading = Reading.take(board, labels, 0)
    window = sources.history.window(at.boot_ns)
    series = window.totals()
    columns, listeners = dict(labels.services), _listeners(board.words, labels)
    beat_ns = reading.master[Master.BEAT_NS]
    beat_age_s = child_beat_age_s(beat_ns, 1, at.monotonic_s)
    return {
        "schema": ANSWER_SCHEMA,
        "version": labels.version,
        "time": moment(at.wall_s),
        "pid": labels.master_pid,
        "config": labels.config,
        "phase": _phase(board),
        "answering": beat_age_s is not None and beat_age_s <= SILENT_S,
        "heartbeat_age_s": beat_age_s,
        "not_ready": why_not_ready(board, labels),
        "faults": state.get("faults", 0),
        "degraded": state.get("degraded", []),
        "generation": reading.master[Master.GENERATION],
        "uptime_s": round(
            max(0.0, at.monotonic_s - reading.master[Master.START_NS] / layout.NS), 1
        ),
        "last_reload": state.get("last_reload"),
        "retired": state.get("retired", []),
        "live_changes": state.get("live_changes", []),
        "live_changes_left_out": state.get("live_changes_left_out", 0),
        "zombies": reading.zombies,
        "denials": reading.master[Master.DENIALS],
        "log_lines_dropped": sane(reading.log_lines_dropped),
        "totals": _totals(reading, series),
        "services": [
            _service(sources, each, columns[each.name], window, listeners.get(each.name, []))
            for each in reading.services
            if each.name in labels.served_by
        ],
        "children": list(_children(sources, at)),
        "serving": _serving(labels),
        "events": lately.events(sources.news.events),
        "history": lately.history(series, at.boot_ns),
    }


def _phase(board: Scoreboard) -> str:
    """The phase of the master. One that there is not, as only damage writes, is none of
    running.
    """
    phase = board.words[Master.PHASE]
    phases = layout.MASTER_PHASES
    return str(phases[phase] if phase < len(phases) else MasterPhase.STARTING)


def _totals(reading: Reading, series: Series) -> dict[str, Any]:
    services = reading.services
    return lately.totals(
        series,
        active=sane(sum(each.active for each in services)),
        accepted=sane(sum(each.accepted for each in services)),
        refused=sane(sum(sum(each.refused) for each in services)),
    )


def _service(
    sources: Sources,
    counts: ServiceCounts,
    column: int,
    window: Window,
    listeners: list[dict[str, Any]],
) -> dict[str, Any]:
    words = sources.board.words
    series = window.recent(column)
    active, halt = sane(counts.active), sources.halted.of(column)
    limits = [each["queue"]["limit"] for each in listeners if each["queue"]]
    datagrams = counts.datagrams
    return {
        "name": counts.name,
        "halted": str(halt) if halt else None,
        "reachable": not words[Master.UNREACHABLE + column],
        "active": active,
        "peak": max(active, sane(words[Master.CONNECTION_PEAKS + column])),
        "active_max_10min": max(active, window.highest(column, "open")),
        "limit": sane(words[Master.LIMITS + column]) or None,
        "queued": series.latest("queued") if limits else None,
        "queued_max_10min": window.highest(column, "queued") if limits else None,
        "queued_limit": sane(sum(limits)) if limits else None,
        "accepted": sane(counts.accepted),
        "refused": sane(sum(counts.refused)),
        "refused_by_reason": lately.refused_by_reason(
            zip(layout.REFUSAL_REASONS, counts.refused, strict=True)
        ),
        "would_refuse": sane(sum(counts.would_refuse)),
        "received_bytes": sane(counts.received_bytes + datagrams.received_bytes),
        "sent_bytes": sane(counts.sent_bytes + datagrams.sent_bytes),
        "datagrams_received": sane(datagrams.received),
        "datagrams_sent": sane(datagrams.sent),
        **lately.rates(series),
        "listeners": listeners,
    }


def _listeners(words: memoryview, labels: Labels) -> dict[str, list[dict[str, Any]]]:
    """The listeners by service."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in labels.listeners:
        found.setdefault(each.service, []).append(_listener(words, each))
    return found


def _listener(words: memoryview, listener: ListenerLabels) -> dict[str, Any]:
    kind, column = listener.address.partition(":")[0], listener.column
    queue = Master.LISTEN_QUEUES + 2 * column
    length, limit = sane(words[queue]), sane(words[queue + 1])
    return {
        "address": listener.address,
        "kind": kind,
        "drops": None if kind.startswith("unix") else sane(words[Master.DROPS_SEEN + column]),
        "queue": {"length": length, "limit": limit} if listener.is_tcp else None,
    }


# --- children -------------------------------------------------------------------------


def _children(sources: Sources, at: Moment) -> Iterator[dict[str, Any]]:
    """The living children, and the slots that have none but want one, by kind and
    place.
    """
    pools = {column: name for name, column in sources.labels.pools}
    places = _services_of_places(sources.labels)
    rows: list[tuple[ChildKind, str, int, Entry | None]] = []
    entries, columns = sources.board.entries(), dict(sources.labels.services)
    opened = count_all(sources.board, columns, [entry.row for entry in entries]).by_row
    for entry in entries:
        serves = entry.kind is not ChildKind.EXPORTER
        pool = pools.get(entry.pool, "") if serves else str(ChildKind.EXPORTER)
        rows.append((entry.kind, pool, entry.index, entry))
    held = {row[:3] for row in rows if row[3] and not row[3].reaped}
    wanted = islice(_wanted_places(sources), MAX_CHILDREN)
    rows += ((*place, None) for place in wanted if place not in held)
    for kind, pool, index, found in sorted(rows, key=_order):
        service = places.get((kind, pool, index))
        end = sources.news.ends.get((str(kind), service or f"{pool}/{index}"))
        child = {"kind": str(kind), "pool": pool, "index": sane(index), "service": service}
        life = _life(sources.board, found, opened, at)
        yield child | life | {"last_end": lately.last_end(end)}


def _order(row: tuple[ChildKind, str, int, Entry | None]) -> tuple[int, str, int, int]:
    """By kind, place and age."""
    kind, pool, index, entry = row
    return tuple(ChildKind).index(kind), pool, index, entry.birth if entry else 0


def _life(
    board: Scoreboard, entry: Entry | None, opened: Mapping[int, int], at: Moment
) -> dict[str, Any]:
    """What a child does; nothing is known of a slot without one. ``opened``: the open
    connections by row, by the counts of the services, as ``unpd workers`` has them.
    """
    if entry is None:
        return {"phase": MISSING, **dict.fromkeys(_OF_LIVING)}
    cells = layout.row_start(entry.row)
    serves = entry.kind is not ChildKind.EXPORTER
    accepted = accepted_in_row(board, entry.row) - sane(entry.accepted_before)
    return {
        "phase": SESSIONS_ONLY if entry.reaped else str(entry.phase),
        "generation": sane(entry.generation),
        "birth": sane(entry.birth),
        "pid": sane(entry.pid) or None,
        "age_s": round(max(0.0, at.monotonic_s - sane(entry.born_ns) / layout.NS), 1),
        "connections": opened.get(entry.row, 0) if serves else None,
        "accepted": max(0, accepted) if serves else None,
        **_usage(board, entry),
        "heartbeat_age_s": child_beat_age_s(
            sane(board.words[cells + Row.BEAT_NS]), sane(entry.born_ns), at.monotonic_s
        ),
    }


def _usage(board: Scoreboard, entry: Entry) -> dict[str, Any]:
    words, start = board.words, layout.entry_start(entry.row)
    memory_bytes, cpu = sane(words[start + Directory.RESIDENT_BYTES]), words[start + Directory.CPU]
    known = memory_bytes and not entry.reaped
    return {
        "cpu_percent": round((cpu - 1) / 100, 1) if known and sane(cpu) else None,
        "cpu_s": round(sane(words[start + Directory.CPU_NS]) / layout.NS, 2) if known else None,
        "memory_bytes": memory_bytes if known else None,
    }


def _wanted_places(sources: Sources) -> Iterator[tuple[ChildKind, str, int]]:
    """The place of each child that a pool wants."""
    for pool, column in sources.labels.pools:
        for word, kind in enumerate(layout.SERVING_KINDS, layout.wanted_words(column)):
            for index in range(min(sources.board.words[word], MAX_CHILDREN)):
                yield kind, pool, index


def _serving(labels: Labels) -> list[dict[str, Any]]:
    """Which children serve which services, by kind and pool."""
    found: dict[tuple[ChildKind, str], list[str]] = {}
    for service, servers in labels.served_by.items():
        for kind, pool in sorted({(server.kind, server.pool) for server in servers}):
            found.setdefault((kind, pool), []).append(service)
    return [
        {"kind": str(kind), "pool": pool, "services": services}
        for (kind, pool), services in found.items()
    ]


def _services_of_places(labels: Labels) -> dict[tuple[ChildKind, str, int], str]:
    """The services of the places that serve one alone."""
    return {
        (server.kind, server.pool, server.index): service
        for service, servers in labels.served_by.items()
        for server in servers
        if server.index is not None
    }
