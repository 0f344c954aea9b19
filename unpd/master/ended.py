"""Lists the connections that ended last, for ``unpd connections --ended``: the last
MOST_ENDED of all children, also of those that have died since.

Each child that serves writes its ends into a ring (:mod:`unpd.board.ended`). The master
reads the rings, so that no child has to answer. When a child has died, its last entries
go into a list of the master. The ends that the master books itself, because their
sessions had no dispatcher, are in a list of the lanes.

A page has PAGE entries, and those that ended at the same moment as the last one. So a
page takes some milliseconds; the place behind it is that moment and the number of
entries before it, ``12345:200``.

Called by :mod:`unpd.master.orders` and :mod:`unpd.master.children.reap`. What a child
wrote is checked, because an intruder may have it. Errors: VerbError, which is answered.
"""

import heapq
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from unpd.board.ended import EndedEntry, EndedRing, entry_of
from unpd.board.layout import END_CAUSES, MOST_ENDED, NS, SANE_COUNT, service_cells
from unpd.kernel.connections import address_text
from unpd.loop import now
from unpd.master.children import reports
from unpd.master.listing import selection_of
from unpd.master.runtime import Runtime
from unpd.worker.selection import Selection

PAGE = 200


def list_page(runtime: Runtime, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the answer to a request for a page. VerbError."""
    selection = selection_of(runtime, arguments)
    now_ns = int(now() * NS)
    before_ns, looked = map(int, (arguments["after"] or f"{now_ns + 1}:0").split(":"))
    names = {service_cells(at): name for name, at in runtime.columns.services.by_name.items()}
    rows: list[dict[str, Any]] = []
    last_ns = 0
    for entry in islice(_before(runtime, before_ns), max(0, MOST_ENDED - looked)):
        if len(rows) >= PAGE and entry.ended_ns != last_ns:
            return {"ended": rows, "next": f"{last_ns}:{looked}"}
        looked, last_ns = looked + 1, entry.ended_ns
        name = names.get(entry.words)
        if name is not None and _is_meant(entry, name, selection):
            rows.append(_row(entry, name, now_ns))
    return {"ended": rows, "next": None}


def keep(runtime: Runtime, ring: EndedRing) -> None:
    """Keep the last entries of a child that has died. An entry older than all that are
    kept is not looked at.
    """
    kept = runtime.ended
    full_ns = kept[-1].ended_ns if len(kept) == MOST_ENDED else 0
    added: list[EndedEntry] = []
    for entry in islice(ring.newest(), MOST_ENDED):
        if entry.ended_ns <= full_ns:
            break
        added.append(entry)
    runtime.ended = sorted(kept + added, key=_when)[:MOST_ENDED]


def _when(entry: EndedEntry) -> int:
    return -entry.ended_ns


def _before(runtime: Runtime, before_ns: int) -> Iterator[EndedEntry]:
    """All ends before a moment, the latest first. Only a faulty child writes one from
    the future.
    """
    rings = [process.ended.newest() for process in runtime.processes.values() if process.ended]
    own = sorted(map(entry_of, runtime.lanes.ended), key=_when)
    every: Iterable[EndedEntry] = heapq.merge(runtime.ended, own, *rings, key=_when)
    return (entry for entry in every if entry.ended_ns < before_ns)


def _is_meant(entry: EndedEntry, service: str, selection: Selection) -> bool:
    if entry.cause >= len(END_CAUSES) or max(entry[:-1]) >= SANE_COUNT:
        return False  # a child forged it
    try:
        return selection.takes(service, entry.peer, entry.duration_ns / NS)
    except ValueError:  # the socket of a program has no client
        return False


def _row(entry: EndedEntry, service: str, now_ns: int) -> dict[str, Any]:
    """An end, as :data:`unpd.control.client_fields.ENDED` has it."""
    return {
        "service": service,
        "peer": reports.shown(address_text(entry.peer)),
        "cause": str(END_CAUSES[entry.cause]),
        "ended_at": _wall(time.time() - (now_ns - entry.ended_ns) / NS),
        "duration_s": round(entry.duration_ns / NS, 6),
        "received": entry.received,
        "sent": entry.sent,
        "rtt_s": entry.rtt_ns / NS if entry.rtt_ns else None,
        "retransmits": entry.retransmits if entry.rtt_ns else None,
    }


def _wall(wall_s: float) -> str:
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
