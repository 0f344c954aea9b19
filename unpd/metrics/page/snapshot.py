"""What the status page shows, as JSON values: the page and /status.json are two views
of it. The fields are those of :data:`unpd.control.page_fields.PAGE`, which a test
compares.

Reads the scoreboard, the history and the news of the master; changes nothing. Called by
:mod:`unpd.metrics.page.status_page`. Raises nothing, whatever a faulty child wrote. It
shows no address of a client.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from unpd.board import layout
from unpd.board.history import History, Series, Window
from unpd.board.layout import Master, Row
from unpd.board.memory import Entry, Scoreboard, sane
from unpd.logs import moment
from unpd.loop import now
from unpd.metrics.labels import Labels
from unpd.metrics.page import wording
from unpd.metrics.page.news import News
from unpd.metrics.reading import Reading, ServiceCounts, why_not_ready
from unpd.names import MAX_CHILDREN, ChildKind, MasterPhase

SCHEMA = 1
MAX_CHILDREN_SHOWN = 256
SILENT_S = 5.0
"""A master whose last heartbeat is older than this is shown as silent: it beats once a
second.
"""


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
        return cls(now(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time())


@dataclass(frozen=True, slots=True)
class Sources:
    """What a snapshot is made of."""

    board: Scoreboard
    labels: Labels
    history: History
    news: News


def snapshot(sources: Sources, at: Moment) -> dict[str, Any]:
    """Return the snapshot. Durations are in seconds, rates in units a second."""
    board, labels, state = sources.board, sources.labels, sources.news.state
    reading = Reading.take(board, labels, 0)
    window = sources.history.window(at.boot_ns)
    series = window.totals()
    children = list(_children(sources, at))
    beat_age_s = reading.beat_age_s
    return {
        "schema": SCHEMA,
        "version": labels.version,
        "time": moment(at.wall_s),
        "pid": labels.master_pid,
        "config": state.get("config"),
        "phase": _phase(board),
        "answering": beat_age_s is not None and beat_age_s <= SILENT_S,
        "heartbeat_age_s": None if beat_age_s is None else round(beat_age_s, 1),
        "not_ready": why_not_ready(board, labels),
        "faults": state.get("faults", 0),
        "degraded": state.get("degraded", []),
        "generation": reading.master[Master.GENERATION],
        "uptime_s": round(max(0.0, at.wall_s - reading.master[Master.START_WALL_NS] / layout.NS)),
        "last_reload": state.get("last_reload"),
        "zombies": reading.zombies,
        "denials": reading.master[Master.DENIALS],
        "log_lines_dropped": sane(reading.log_lines_dropped),
        "totals": _totals(reading, series),
        "services": [
            _service(sources, each, window)
            for each in reading.services
            if each.name in labels.served_by
        ],
        "children": children[:MAX_CHILDREN_SHOWN],
        "children_left_out": max(0, len(children) - MAX_CHILDREN_SHOWN),
        "events": [_event(each) for each in reversed(sources.news.events)],
        "history": _history(series, at),
    }


def _phase(board: Scoreboard) -> str:
    """The phase of the master. One that there is not, as only damage writes, is none of
    running.
    """
    phase = board.words[Master.PHASE]
    phases = layout.MASTER_PHASES
    return str(phases[phase] if phase < len(phases) else MasterPhase.STARTING)


def _totals(reading: Reading, series: Series) -> dict[str, Any]:
    opened = sane(sum(each.active for each in reading.services))
    return {
        "open": opened,
        "open_highest": max(opened, series.highest("open")),
        "queued": series.latest("queued"),
        "queued_highest": series.highest("queued"),
        "accepted": sane(sum(each.accepted for each in reading.services)),
        "refused": sane(sum(sum(each.refused) for each in reading.services)),
        **_rates(series),
        "rtt_s": _rounded(series.mean_s("rtt"), 6),
        "lag_s": _rounded(series.mean_s("lag"), 6),
    }


def _rates(series: Series) -> dict[str, float | None]:
    names = ("accepted", "datagrams", "received", "sent", "refused")
    return {f"{name}_per_s": _rounded(series.rate(name), 1) for name in names}


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)


def _service(sources: Sources, counts: ServiceCounts, window: Window) -> dict[str, Any]:
    board, labels = sources.board, sources.labels
    column = dict(labels.services)[counts.name]
    series = window.recent(column)
    shown = [each for each in labels.listeners if each.service == counts.name]
    queues = [_queue(board, each.column) if each.is_tcp else None for each in shown]
    limits = [queue["limit"] for queue in queues if queue]
    opened = sane(counts.active)
    limited = sources.news.state.get("limits", {}).get(counts.name)
    return {
        "name": counts.name,
        "reachable": not board.words[Master.UNREACHABLE + column],
        "open": opened,
        "open_highest": max(opened, window.highest(column, "open")),
        "open_limit": limited or None,
        "queued": series.latest("queued"),
        "queued_highest": window.highest(column, "queued"),
        "queued_limit": sane(sum(limits)) if limits else None,
        "accepted": sane(counts.accepted),
        "refused": sane(sum(counts.refused)),
        "would_refuse": sane(sum(counts.would_refuse)),
        "datagrams": sane(counts.datagrams.received),
        **_rates(series),
        "listeners": [
            {"address": each.address, "queue": queue}
            for each, queue in zip(shown, queues, strict=True)
        ],
    }


def _queue(board: Scoreboard, column: int) -> dict[str, int]:
    at = Master.LISTEN_QUEUES + 2 * column
    return {"length": sane(board.words[at]), "limit": sane(board.words[at + 1])}


# --- children -------------------------------------------------------------------------


def _children(sources: Sources, at: Moment) -> Iterator[dict[str, Any]]:
    """The living children, and the slots that have none but want one, by kind and
    place.
    """
    pools = {column: name for name, column in sources.labels.pools}
    ends = _last_ends(sources.news.events)
    places = _services_of_places(sources.labels)
    rows: list[tuple[ChildKind, str, int, Entry | None]] = []
    for entry in sources.board.entries():
        serves = entry.kind is not ChildKind.EXPORTER
        pool = pools.get(entry.pool, "") if serves else str(ChildKind.EXPORTER)
        rows.append((entry.kind, pool, entry.index, entry))
    held = {row[:3] for row in rows}
    wanted = islice(_wanted_places(sources), MAX_CHILDREN)
    rows += ((*place, None) for place in wanted if place not in held)
    for kind, pool, index, found in sorted(rows, key=_order):
        service = places.get((kind, pool, index))
        slot = service or f"{pool}/{index}"
        child = {"kind": str(kind), "pool": pool, "index": sane(index), "service": service}
        yield child | _life(sources.board, found, at) | {"last_end": ends.get((str(kind), slot))}


def _order(row: tuple[ChildKind, str, int, Entry | None]) -> tuple[int, str, int, int]:
    """By kind, place and age."""
    kind, pool, index, entry = row
    return tuple(ChildKind).index(kind), pool, index, entry.birth if entry else 0


def _life(board: Scoreboard, entry: Entry | None, at: Moment) -> dict[str, Any]:
    """What a child does; nothing is known of a slot without one."""
    if entry is None:
        absent = ("generation", "birth", "pid", "age_s", "heartbeat_age_s")
        return {"phase": "missing", **dict.fromkeys(absent), "open": 0}
    cells = layout.row_start(entry.row)
    now_ns = int(at.monotonic_s * layout.NS)
    beat_ns = sane(board.words[cells + Row.BEAT_NS])
    age_ns, beat_age_ns = now_ns - sane(entry.born_ns), now_ns - beat_ns
    return {
        "phase": str(entry.phase),
        "generation": sane(entry.generation),
        "birth": sane(entry.birth),
        "pid": sane(entry.pid) or None,
        "age_s": round(max(0, age_ns) / layout.NS, 1),
        "heartbeat_age_s": round(max(0, beat_age_ns) / layout.NS, 1) if beat_ns else None,
        "open": sane(board.words[cells + Row.OPEN]),
    }


def _wanted_places(sources: Sources) -> Iterator[tuple[ChildKind, str, int]]:
    """The place of each child that a pool wants."""
    for pool, column in sources.labels.pools:
        for word, kind in enumerate(layout.SERVING_KINDS, layout.wanted_words(column)):
            for index in range(min(sources.board.words[word], MAX_CHILDREN)):
                yield kind, pool, index


def _services_of_places(labels: Labels) -> dict[tuple[ChildKind, str, int], str]:
    """The services of the places that serve one alone."""
    return {
        (server.kind, server.pool, server.index): service
        for service, servers in labels.served_by.items()
        for server in servers
        if server.index is not None
    }


def _last_ends(events: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, Any], dict[str, Any]]:
    """How the last child of each slot ended, by kind and slot, among these events."""
    return {
        (fields.get("kind"), fields.get("slot")): {
            "ended": str(fields.get("ended", "")),
            "pid": fields.get("pid"),
            "at": moment(event["at"]),
        }
        for event in events
        if event["event"] == "child.reaped"
        for fields in (event["fields"],)
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(event["fields"])
    return {
        "number": event["number"],
        "at": moment(event["at"]),
        "event": event["event"],
        "text": wording.event_text(event["event"], fields),
        "fields": fields,
    }


# --- history --------------------------------------------------------------------------


def _history(series: Series, at: Moment) -> dict[str, Any]:
    """The samples, the oldest first, in lists of the same length. The times are of the
    clock since boot, that of now too.
    """
    rates = ("accepted", "datagrams", "received", "sent", "refused")
    return {
        "now_s": round(at.boot_ns / layout.NS, 2),
        "at_s": [round(each / layout.NS, 2) for each in series.at_ns],
        "open": list(series.columns.get("open", ())),
        "queued": list(series.columns.get("queued", ())),
        **{f"{name}_per_s": [_rounded(each, 1) for each in series.rates(name)] for name in rates},
        "rtt_s": [_rounded(each, 6) for each in series.means_s("rtt")],
        "lag_s": [_rounded(each, 6) for each in series.means_s("lag")],
    }
