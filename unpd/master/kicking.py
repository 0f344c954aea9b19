"""Ends open connections: those of a denied network for ``unpd deny --kick``, and those
of a selection for ``unpd kick``.

The master asks every child that serves, and tells the sessions that have no dispatcher
itself. When all have answered, or after a while, it answers the request with the number
of connections. Connections of a denied network that are accepted later are
refused, because the denial was published before.

The sessions of a dispatcher outlive it. If it dies before its answer, the master ends
them itself, as soon as it has their lane.

Called by :mod:`unpd.master.orders`, :mod:`unpd.master.denying` and
:mod:`unpd.master.children.reap`. Calls :mod:`unpd.master.rounds` and the lanes. Errors:
VerbError, which is answered.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from unpd.board.layout import SANE_COUNT
from unpd.control.server import PendingRequest
from unpd.core.policy import policy_of
from unpd.master import rounds
from unpd.master.listing import selection_of
from unpd.master.rounds import child_words
from unpd.master.runtime import KickRequest, Round, Runtime
from unpd.names import EndCause
from unpd.worker.selection import Kick


def kick(runtime: Runtime, pending: PendingRequest) -> None:
    """Carry out ``unpd kick``. VerbError for a service that there is not."""
    arguments = pending.request.arguments
    selection = selection_of(runtime, arguments)
    order = Kick(selection, EndCause.KICKED, arguments["dry_run"])
    begin(runtime, KickRequest(pending.number, order, {}))


def begin(runtime: Runtime, kick: KickRequest) -> None:
    """End the connections, and answer the request when that is done."""
    kick.ended = runtime.lanes.kick(kick.kick)
    serving = {
        birth: child_words(process.child.slot, process.pid)
        for birth, process in runtime.processes.items()
        if policy_of(process.child).serves
    }
    kick.round = Round(
        take=partial(_take, kick),
        finish=partial(_finish, runtime, kick),
        waiting=serving,
        outlived=lambda birth: runtime.lanes.held_by(birth) is not None,
    )
    runtime.kicks.append(kick)
    message = {"question": "kick", **kick.kick.message}
    rounds.begin(runtime, message, tuple(serving), kick.round)


def _take(kick: KickRequest, birth: int, answer: Mapping[str, Any] | None) -> bool:
    """Take the answer of a child. A dispatcher without one is waited for: it dies
    (:func:`dispatcher_died`). The connections of another child die with it.
    """
    del birth
    match answer:
        case {"kicked": int(ended)} if 0 <= ended < SANE_COUNT:
            kick.ended += ended
            return True
    return False


def dispatcher_died(runtime: Runtime, birth: int) -> None:
    """End the sessions that a dispatcher has left to the master, if it has died before
    it answered.
    """
    for kick in [each for each in runtime.kicks if birth in each.round.waiting]:
        kick.ended += runtime.lanes.kick(kick.kick, birth)
        rounds.settle(runtime, kick.round, birth)


def _finish(runtime: Runtime, kick: KickRequest) -> None:
    runtime.kicks.remove(kick)
    _log(runtime, kick)
    if runtime.control is not None:
        told = {"kicked": kick.ended, "silent": len(kick.round.silent)}
        runtime.control.answer(kick.request, ok=True, **kick.fields, **told)


def _log(runtime: Runtime, request: KickRequest) -> None:
    selection = request.kick.selection
    network = str(selection.network or "")
    if request.kick.cause is EndCause.DENIED:
        runtime.log.event(
            "denial.kicked", network=network, ended=request.ended, silent=len(request.round.silent)
        )
    elif not request.kick.dry_run:
        runtime.log.event(
            "connections.kicked",
            service=selection.service,
            network=network,
            older_s=selection.older_s,
            ended=request.ended,
            silent=len(request.round.silent),
        )
