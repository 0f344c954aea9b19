"""Ends the open connections of a denied network, for ``unpd deny --kick``.

The master asks every child that serves, and tells the sessions that have no dispatcher
itself. When all have answered, or after ANSWER_S, it answers the request with the
number of connections. Connections that are accepted later are refused, because the
denial was published before.

The sessions of a dispatcher outlive it. If it dies before its answer, the master ends
them itself, as soon as it has their lane.

Called by :mod:`unpd.master.denying`, by :mod:`unpd.master.children.reap`, and by the
shell once a second. Calls :mod:`unpd.master.children.reports` and the lanes. Raises
nothing.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from unpd.board.layout import SANE_COUNT
from unpd.core.policy import policy_of
from unpd.master.children import reports
from unpd.master.runtime import Kick, Question, Runtime

ANSWER_S = 3.0
"""How long a child may take to answer: one that serves takes milliseconds."""


def begin(runtime: Runtime, kick: Kick) -> None:
    """End the connections, and answer the request when that is done."""
    message = {"question": "kick", "network": str(kick.network)}
    kick.ended = runtime.lanes.kick(kick.network)
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


def _answered(runtime: Runtime, kick: Kick, birth: int, answer: Mapping[str, Any] | None) -> None:
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
        kick.ended += runtime.lanes.kick(kick.network, birth)
        if not kick.waiting:
            _finish(runtime, kick)


def look_after(runtime: Runtime, at: float) -> None:
    """Answer the requests for which children take too long. Call it about once a
    second; ``at`` is the time.
    """
    for kick in [each for each in runtime.kicks if each.late_at <= at]:
        kick.silent += len(kick.waiting)
        _finish(runtime, kick)


def _finish(runtime: Runtime, kick: Kick) -> None:
    if kick not in runtime.kicks:
        return  # a late answer
    runtime.kicks.remove(kick)
    runtime.log.event(
        "denial.kicked", network=str(kick.network), ended=kick.ended, silent=kick.silent
    )
    if runtime.control is not None:
        told = {"kicked": kick.ended, "silent": kick.silent}
        runtime.control.answer(kick.request, ok=True, **kick.fields, **told)
