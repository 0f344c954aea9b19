"""Lists the connections that ended last, for ``unpd connections --ended``: the last
MOST_ENDED of all children, also of those that have died since.

Each child that serves writes its ends into a ring (:mod:`unpd.board.ended`). The master
reads the rings, so that no child has to answer. When a child has died, its last entries
go into a list of the master. So do the ends that the master books itself: those of
sessions without a dispatcher, and of connections that a dead child has left open.

A page has PAGE entries at most, also where thousands ended at one moment. The place
behind it is the moment of its last entry, how many of that moment were shown, and how
many entries were before it in all: ``12345:3:200``.

Called by :mod:`unpd.master.orders`, the sweep and :mod:`unpd.master.children.reap`.
What a child wrote is checked, because an intruder may have it; an entry that is forged
is left out, so that it displaces no other. Errors: VerbError, which is answered.
"""

import heapq
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import Any

from unpd.board.ended import EndedEntry, EndedRing, entry_of
from unpd.board.layout import END_CAUSES, MOST_ENDED, NS, SANE_COUNT, service_cells
from unpd.kernel.clock import since_boot_ns, slept_ns
from unpd.kernel.connections import address_text
from unpd.master.children import reports
from unpd.master.listing import selection_of
from unpd.master.runtime import Runtime
from unpd.worker.selection import Selection

PAGE = 200


def list_page(runtime: Runtime, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the answer to a request for a page. VerbError."""
    selection = selection_of(runtime, arguments)
    keep_own(runtime)
    now_ns = since_boot_ns()
    boot_wall_ns = time.time_ns() - now_ns
    last_ns, shown, looked = _place(arguments["after"] or f"{now_ns}:0:0")
    names = {service_cells(at): name for name, at in runtime.columns.services.by_name.items()}
    rows: list[dict[str, Any]] = []
    entries = islice(_until(runtime, last_ns, now_ns), shown, None)
    for entry in islice(entries, max(0, MOST_ENDED - looked)):
        if len(rows) >= PAGE:
            return {"ended": rows, "next": f"{last_ns}:{shown}:{looked}"}
        shown = shown + 1 if entry.ended_ns == last_ns else 1
        looked, last_ns = looked + 1, entry.ended_ns
        name = names.get(entry.words)
        if name is not None and _is_meant(entry, name, selection):
            rows.append(_row(entry, name, boot_wall_ns))
    return {"ended": rows, "next": None}


def _place(text: str) -> tuple[int, int, int]:
    """The numbers of a place. One of the open connections has two: it is no error."""
    last_ns, shown, looked, *_ = *map(int, text.split(":")), 0
    return last_ns, max(0, shown), looked


def keep(runtime: Runtime, ring: EndedRing) -> None:
    """Keep the last entries of a child that has died. An entry older than all that are
    kept is not looked at.
    """
    kept = runtime.ended
    oldest_ns = kept[-1].ended_ns if len(kept) == MOST_ENDED else 0
    entries = _sound(ring.newest(), since_boot_ns())
    _add(runtime, takewhile(lambda entry: entry.ended_ns > oldest_ns, entries))


def keep_own(runtime: Runtime) -> None:
    """Keep the ends that the master has booked itself."""
    ends = runtime.lanes.ended
    if ends:
        asleep_ns = slept_ns()
        _add(runtime, [entry_of(end, asleep_ns) for end in ends])
        ends.clear()


def _add(runtime: Runtime, entries: Iterable[EndedEntry]) -> None:
    runtime.ended = sorted([*runtime.ended, *entries], key=_when)[:MOST_ENDED]


def _when(entry: EndedEntry) -> int:
    return -entry.ended_ns


def _sound(entries: Iterable[EndedEntry], now_ns: int) -> Iterator[EndedEntry]:
    """The entries of a ring that an honest child may have written."""
    for entry in entries:
        numbers = (
            entry.duration_ns,
            entry.received,
            entry.sent,
            entry.rtt_ns,
            entry.retransmits,
        )
        known = entry.cause < len(END_CAUSES) and max(numbers) < SANE_COUNT
        if known and entry.ended_ns <= now_ns:
            yield entry


def _until(runtime: Runtime, last_ns: int, now_ns: int) -> Iterator[EndedEntry]:
    """All ends up to the moment ``last_ns``, the latest first."""
    rings = [
        _sound(process.ended.newest(), now_ns)
        for process in runtime.processes.values()
        if process.ended
    ]
    every: Iterable[EndedEntry] = heapq.merge(runtime.ended, *rings, key=_when)
    return (entry for entry in every if entry.ended_ns <= last_ns)


def _is_meant(entry: EndedEntry, service: str, selection: Selection) -> bool:
    try:
        return selection.takes(service, entry.peer, entry.duration_ns / NS)
    except ValueError:  # the socket of a program has no client, and a lost one is unknown
        return False


def _row(entry: EndedEntry, service: str, boot_wall_ns: int) -> dict[str, Any]:
    """An end, as :data:`unpd.control.client_fields.ENDED` has it. ``boot_wall_ns``:
    when the clock since boot was 0.
    """
    return {
        "service": service,
        "peer": "unknown" if entry.lost else reports.shown(address_text(entry.peer)),
        "connections": entry.lost or 1,
        "cause": str(END_CAUSES[entry.cause]),
        "ended_at": _wall((boot_wall_ns + entry.ended_ns) / NS),
        "duration_s": None if entry.lost else round(entry.duration_ns / NS, 6),
        "received": entry.received,
        "sent": entry.sent,
        "rtt_s": entry.rtt_ns / NS if entry.rtt_ns else None,
        "retransmits": entry.retransmits if entry.rtt_ns else None,
    }


def _wall(wall_s: float) -> str:
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
