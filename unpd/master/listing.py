"""Lists the open connections for ``unpd connections``, a page for each request.

A page is what one child has, or the first part of it. So a request holds up the master
for a few milliseconds, however many connections there are, and a child that does not
answer within ANSWER_S holds up one page: that page names it, and the next one goes on
behind it. A child without a heartbeat for so long is named at once. The sessions that
have no dispatcher are listed by the master itself.

A place in the list is the birth of a child and the number of its last connection,
``12:345``. The command asks for the page behind a place until there is none.

Called by :mod:`unpd.master.orders`, and by the shell once a second. Calls
:mod:`unpd.master.children.reports` and the lanes. What a child answers is checked,
because an intruder may have it. Errors: VerbError, which is answered.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from unpd.access.network import Network
from unpd.control.answer_fields import mismatch
from unpd.control.client_fields import CONNECTION
from unpd.control.explained import no_service
from unpd.control.server import PendingRequest
from unpd.control.spans import span_s
from unpd.control.verb import VerbError
from unpd.core.model import Slot
from unpd.core.policy import policy_of
from unpd.loop import now
from unpd.master.children import reports
from unpd.master.children.lanes import Lane
from unpd.master.rounds import ANSWER_S, child_words
from unpd.master.runtime import Listing, Question, Runtime
from unpd.master.status import beat_age_s
from unpd.worker.questions import HIGHEST, MAX_LIMIT, connections
from unpd.worker.selection import Selection

START = "0:-1"
"""The place before the first connection."""


def list_page(runtime: Runtime, pending: PendingRequest) -> None:
    """Answer a request for a page, at once or when the child has answered.
    VerbError.
    """
    arguments = pending.request.arguments
    selection = selection_of(runtime, arguments)
    birth, number, *_ = map(int, (arguments["after"] or START).split(":"))
    holders = _holders(runtime)
    holder = min((each for each in holders if each >= birth), default=None)
    after = number if holder == birth else -1
    listing = Listing(pending.number, holder or 0, after, now() + ANSWER_S)
    if holder is None:
        _answer(runtime, listing, [], None)
    elif (lane := holders[holder]) is not None:
        found = connections(_sessions(lane, after), selection, MAX_LIMIT, now())
        _show(runtime, listing, lane.slot, 0, found)
    else:
        _ask(runtime, listing, selection)


def selection_of(runtime: Runtime, arguments: Mapping[str, Any]) -> Selection:
    """The selection that a request names. VerbError for a service that there is not."""
    service, network, older = (arguments[name] for name in ("service", "peer", "older"))
    if service and service not in runtime.columns.services.by_name:
        raise VerbError(no_service(service, runtime.columns.services.by_name), usage=True)
    return Selection(
        service=service or "",
        network=Network.parse(network) if network else None,
        older_s=span_s(older) if older else 0,
    )


def _holders(runtime: Runtime) -> dict[int, Lane | None]:
    """Who has connections, by birth: the children that serve, and the lanes without a
    dispatcher, by that of their last one.
    """
    serving: dict[int, Lane | None] = {
        birth: None
        for birth, process in runtime.processes.items()
        if policy_of(process.child).serves
    }
    return serving | {lane.last: lane for lane in runtime.lanes.unkept()}


def _sessions(lane: Lane, after: int) -> Iterable[Any]:
    present = lane.roll.present() if lane.roll else ()
    return (one for one in present if one.number > after)


def _ask(runtime: Runtime, listing: Listing, selection: Selection) -> None:
    process = runtime.processes[listing.birth]
    if (beat_age_s(runtime, process.child, now()) or 0.0) > ANSWER_S:
        _answer(runtime, listing, [], child_words(process.child.slot, process.pid))
        return
    runtime.listings.append(listing)
    message = {"question": "connections", "after": listing.after, **selection.message}
    answered = partial(_answered, runtime, listing, process.child.slot, process.pid)
    reports.ask(runtime, listing.birth, Question(message, answered))


def _answered(
    runtime: Runtime, listing: Listing, slot: Slot, pid: int, answer: Mapping[str, Any] | None
) -> None:
    """Take the answer of a child, None if it has died or its channel is broken."""
    if listing not in runtime.listings:
        return  # it was too late
    runtime.listings.remove(listing)
    if answer is None:
        _answer(runtime, listing, [], child_words(slot, pid))
    else:
        _show(runtime, listing, slot, pid, answer)


def _show(
    runtime: Runtime, listing: Listing, slot: Slot, pid: int, answer: Mapping[str, Any]
) -> None:
    """Answer with what a child has found, if it makes sense. A next place that is not
    further on would have the command ask for ever.
    """
    child = {"kind": str(slot.kind), "pool": slot.pool, "index": slot.index}
    match answer:
        case {"connections": list(found), "next": int() | None as number} if number is None or (
            type(number) is int and listing.after < number <= HIGHEST
        ):
            rows = [_row(one, pid, {**child, "birth": listing.birth}) for one in found[:MAX_LIMIT]]
            if not any(mismatch(row, CONNECTION) for row in rows):
                _answer(runtime, listing, rows, None, number)
                return
    _answer(runtime, listing, [], child_words(slot, pid))


def _row(found: Any, pid: int, child: Mapping[str, Any]) -> dict[str, Any]:
    """A connection in an answer, as :data:`CONNECTION` has it."""
    known = found if isinstance(found, dict) else {}
    absent = {"rtt_s": None, "retransmits": None, "target": None, "pid": pid}
    values = {**absent, **known, **child}
    row = {field.name: values.get(field.name) for field in CONNECTION}
    texts = {key: reports.shown(value) for key, value in row.items() if isinstance(value, str)}
    return {**row, **texts}


def _answer(
    runtime: Runtime,
    listing: Listing,
    rows: list[dict[str, Any]],
    silent: str | None,
    number: int | None = None,
) -> None:
    """Send a page. ``number``: the last connection of it, if its child has more."""
    more = number is not None
    later = any(birth > listing.birth for birth in _holders(runtime))
    place = f"{listing.birth}:{number}" if more else f"{listing.birth + 1}:-1" if later else None
    if runtime.control is not None:
        runtime.control.answer(
            listing.request, ok=True, connections=rows, next=place, silent=silent
        )


def look_after(runtime: Runtime, at: float) -> None:
    """Answer the requests for which a child takes too long. Call it about once a
    second; ``at`` is the time.
    """
    for listing in [each for each in runtime.listings if each.late_at <= at]:
        runtime.listings.remove(listing)
        process = runtime.processes.get(listing.birth)
        silent = (
            child_words(process.child.slot, process.pid) if process else "a child that has died"
        )
        _answer(runtime, listing, [], silent)
