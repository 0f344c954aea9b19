"""Carries out ``unpd log-level``: another level of the log, in the master and in every
child, until a time, or until the configured one is wanted again.

The master takes the level at once, and so does each child that is born later. The other
children are asked over their channels, and none is waited for: a child that has not
answered after a while is named in the answer and in the log. One that could not be
asked is asked again until it answers. Sessions of dispatchers that run already have no
channel, and keep their level.

Called by :mod:`unpd.master.orders`, and by the shell. Calls :mod:`unpd.master.rounds`
and :mod:`unpd.master.children.reports`. Raises nothing.

Known gap: a child whose channel is broken never takes the level.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from unpd.control.server import PendingRequest
from unpd.log_events.row import LEVELS
from unpd.master import rounds
from unpd.master.children import reports
from unpd.master.live_changes import LiveLevel, Term
from unpd.master.rounds import child_words
from unpd.master.runtime import ChildProcess, Question, Round, Runtime


def change(runtime: Runtime, pending: PendingRequest) -> None:
    """Carry out the verb; its answer comes when the children have answered."""
    arguments = pending.request.arguments
    name, term = arguments["level"], Term.of_span(arguments["for"])
    wanted = next((level for level in LEVELS if level == name), None)
    before, runtime.live.level = runtime.live.level, LiveLevel(wanted, term) if wanted else None
    if before is not None or wanted is not None:
        _change_own(runtime, reason="unpd log-level", by={"by_uid": pending.credentials.uid})
    _spread(runtime, pending.number)


def look(runtime: Runtime, at: float) -> None:
    """Go back to the configured level if the time of the other one is over at ``at``,
    of :func:`unpd.master.live_changes.clock`.
    """
    if runtime.live.level is not None and runtime.live.level.term.until <= at:
        runtime.live.level = None
        _change_own(runtime, reason="its time is over", by={})
        _spread(runtime, None)


def look_after(runtime: Runtime) -> None:
    """Ask the children again that could not be asked: too many questions waited there,
    or the answer made no sense. Call it about once a second.
    """
    for birth, process in tuple(runtime.processes.items()):
        if process.level_owed and not process.channel.ended:
            process.level_owed = False
            reports.ask(runtime, birth, Question(_question(runtime), partial(_answered, process)))


def _answered(process: ChildProcess, answer: Mapping[str, Any] | None) -> None:
    """Take the answer of a child that has taken the level, or has not."""
    process.level_owed = answer != {}


def _take(
    processes: Mapping[int, ChildProcess], birth: int, answer: Mapping[str, Any] | None
) -> bool:
    _answered(processes[birth], answer)
    return answer == {}


def _question(runtime: Runtime) -> dict[str, Any]:
    order = runtime.live.level
    return {"question": "level", "level": order.level if order else None}


def _change_own(runtime: Runtime, *, reason: str, by: Mapping[str, int]) -> None:
    """Change the level of the master's own log. The line about it is of the wordier of
    the two levels, so that it is written unless both keep warnings out.
    """
    log, order, before = runtime.log, runtime.live.level, runtime.log.level
    level, until = (order.level, order.term.text) if order else (None, "")
    log.override(level)
    after = log.level
    log.override(min(before, after, key=LEVELS.index))
    log.event("log.level_changed", threshold=after, before=before, until=until, reason=reason, **by)
    log.override(level)


def _spread(runtime: Runtime, request: int | None) -> None:
    """Bring the level to the logs of all children, and answer the request; None: the
    time of a level is over, and nobody waits.
    """
    order = runtime.live.level
    fields = {
        "level": runtime.log.level,
        "live": order is not None,
        "until": (order.term.text or None) if order else None,
    }
    # A child that is starting takes the question after its report.
    reported = {
        birth: child_words(process.child.slot, process.pid)
        for birth, process in runtime.processes.items()
        if process.reported
    }
    asked = dict(runtime.processes)
    of: Round = Round(
        take=partial(_take, asked),
        finish=lambda: _finish(runtime, request, {**fields, "silent": of.silent}),
        waiting=reported,
    )
    rounds.begin(runtime, _question(runtime), tuple(asked), of)


def _finish(runtime: Runtime, request: int | None, fields: Mapping[str, Any]) -> None:
    for name in fields["silent"]:
        runtime.log.event("log.level_not_taken", child=name, threshold=runtime.log.level)
    if runtime.control is not None and request is not None:
        runtime.control.answer(request, ok=True, **fields)
