"""Ends open connections: those of a denied network for ``unpd deny --kick``, and those
of a selection for ``unpd kick``.

The master asks every child that serves, and tells the sessions that have no dispatcher
itself. When all have answered, or after ANSWER_S, it answers the request with the
number of connections. Connections of a denied network that are accepted later are
refused, because the denial was published before.

The sessions of a dispatcher outlive it. If it dies before its answer, the master ends
them itself, as soon as it has their lane.

Called by :mod:`unpd.master.orders`, :mod:`unpd.master.denying` and
:mod:`unpd.master.children.reap`, and by the shell once a second. Calls
:mod:`unpd.master.children.reports` and the lanes. Errors: VerbError, which is answered.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from unpd.board.layout import SANE_COUNT
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.core.policy import policy_of
from unpd.loop import now
from unpd.master.children import reports
from unpd.master.listing import selection_of
from unpd.master.runtime import KickRequest, Question, Runtime
from unpd.names import EndCause
from unpd.worker.selection import Kick, Selection

ANSWER_S = 3.0
"""How long a child may take to answer: one that serves takes milliseconds."""


def kick(runtime: Runtime, pending: PendingRequest) -> None:
    """Carry out ``unpd kick``. VerbError if it names no connections."""
    arguments = pending.request.arguments
    selection = selection_of(runtime, arguments)
    if selection == Selection() and not arguments["all"]:
        raise VerbError(
            "name what to end, by --service, --peer or --older; --all ends every connection"
        )
    order = Kick(selection, EndCause.KICKED, arguments["dry_run"])
    begin(runtime, KickRequest(pending.number, order, {}, now() + ANSWER_S))


def begin(runtime: Runtime, kick: KickRequest) -> None:
    """End the connections, and answer the request when that is done."""
    message = {"question": "kick", **kick.kick.message}
    kick.ended = runtime.lanes.kick(kick.kick)
    kick.waiting = {
        birth for birth, process in runtime.processes.items() if policy_of(process.child).serves
    }
    runtime.kicks.append(kick)
    for birth in tuple(kick.waiting):
        kick.asking = birth
        reports.ask(runtime, birth, Question(message, partial(_answered, runtime, kick, birth)))
    kick.asking = 0
    if not kick.waiting:
        _finish(runtime, kick)


def _answered(
    runtime: Runtime, kick: KickRequest, birth: int, answer: Mapping[str, Any] | None
) -> None:
    """Take the answer of a child. None for one that was asked means that it has died,
    and its connections with it. None at once means that its channel is broken or full.
    A dispatcher without an answer is waited for: it dies (:func:`dispatcher_died`).
    """
    if answer is None and runtime.lanes.held_by(birth) is not None:
        return
    kick.waiting.discard(birth)
    match answer:
        case {"kicked": int(ended)} if 0 <= ended < SANE_COUNT:
            kick.ended += ended
        case None if kick.asking != birth:
            pass
        case _:
            kick.silent += 1
    if not kick.waiting and not kick.asking:
        _finish(runtime, kick)


def dispatcher_died(runtime: Runtime, birth: int) -> None:
    """End the sessions that a dispatcher has left to the master, if it has died before
    it answered.
    """
    for kick in [each for each in runtime.kicks if birth in each.waiting]:
        kick.waiting.discard(birth)
        kick.ended += runtime.lanes.kick(kick.kick, birth)
        if not kick.waiting:
            _finish(runtime, kick)


def look_after(runtime: Runtime, at: float) -> None:
    """Answer the requests for which children take too long. Call it about once a
    second; ``at`` is the time.
    """
    for kick in [each for each in runtime.kicks if each.late_at <= at]:
        kick.silent += len(kick.waiting)
        _finish(runtime, kick)


def _finish(runtime: Runtime, kick: KickRequest) -> None:
    if kick not in runtime.kicks:
        return  # a late answer
    runtime.kicks.remove(kick)
    _log(runtime, kick)
    if runtime.control is not None:
        told = {"kicked": kick.ended, "silent": kick.silent}
        runtime.control.answer(kick.request, ok=True, **kick.fields, **told)


def _log(runtime: Runtime, request: KickRequest) -> None:
    selection = request.kick.selection
    network = str(selection.network or "")
    if request.kick.cause is EndCause.DENIED:
        runtime.log.event(
            "denial.kicked", network=network, ended=request.ended, silent=request.silent
        )
    elif not request.kick.dry_run:
        runtime.log.event(
            "connections.kicked",
            service=selection.service,
            network=network,
            older_s=selection.older_s,
            ended=request.ended,
            silent=request.silent,
        )
