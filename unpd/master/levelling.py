"""Carries out ``unpd log-level``: another level of the log, in the master and in every
child, until a time, or until the configured one is wanted again.

The master takes the level at once, and so does each child that is born later. The other
children are asked over their channels, and none is waited for: a child that has not
answered after ANSWER_S is named in the answer and in the log. Sessions of dispatchers
that run already have no channel, and keep their level.

Called by :mod:`unpd.master.orders`, and by the shell. Calls
:mod:`unpd.master.children.reports`. Errors: VerbError, which is answered.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from unpd.control.change_verbs import CONFIGURED
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.log_events.row import LEVELS, Level
from unpd.loop import now
from unpd.master.children import reports
from unpd.master.live_changes import LiveLevel, Term
from unpd.master.runtime import ChildProcess, LevelRequest, Question, Runtime
from unpd.names import kind_words

ANSWER_S = 3.0
"""How long a child may take to answer: one that serves takes milliseconds."""


def change(runtime: Runtime, pending: PendingRequest) -> None:
    """Carry out the verb; its answer comes when the children have answered.
    VerbError.
    """
    arguments = pending.request.arguments
    name, term = arguments["level"], Term.of_span(arguments["for"])
    if name == CONFIGURED and term.text:
        raise VerbError(f"{CONFIGURED} holds for good: leave --for out, or name a level")
    wanted = next((level for level in LEVELS if level == name), None)
    runtime.live.level = LiveLevel(wanted, term) if wanted else None
    _spread(runtime, pending, reason="unpd log-level")


def look(runtime: Runtime, at: float) -> None:
    """Go back to the configured level if the time of the other one is over."""
    if runtime.live.level is not None and runtime.live.level.term.until <= at:
        runtime.live.level = None
        _spread(runtime, None, reason="its time is over")


def look_after(runtime: Runtime, at: float) -> None:
    """Answer the requests for which children take too long. Call it about once a
    second; ``at`` is the time.
    """
    for request in [each for each in runtime.levels if each.late_at <= at]:
        request.silent.extend(request.waiting.values())
        _finish(runtime, request)


def _spread(runtime: Runtime, pending: PendingRequest | None, reason: str) -> None:
    """Bring the level to the log of the master, and to those of all children."""
    order = runtime.live.level
    level, until = (order.level, order.term.text) if order else (None, "")
    uid = pending.credentials.uid if pending else None
    _change_own(runtime, level, until=until, reason=reason, uid=uid)
    request = LevelRequest(
        request=pending.number if pending else None,
        level=level,
        fields={"level": runtime.log.level, "live": level is not None, "until": until or None},
        late_at=now() + ANSWER_S,
        # A child that is starting takes the question after its report.
        waiting={
            birth: _words(process)
            for birth, process in runtime.processes.items()
            if process.reported
        },
    )
    runtime.levels.append(request)
    message = {"question": "level", "level": level}
    for birth in tuple(runtime.processes):
        request.asking = birth
        reports.ask(runtime, birth, Question(message, partial(_answered, runtime, request, birth)))
    request.asking = 0
    if not request.waiting:
        _finish(runtime, request)


def _change_own(
    runtime: Runtime, level: Level | None, *, until: str, reason: str, uid: int | None
) -> None:
    """Change the level of the master's own log. The line about it is of the wordier of
    the two levels, so that it is written unless both keep warnings out.
    """
    log, before = runtime.log, runtime.log.level
    log.override(level)
    after = log.level
    log.override(min(before, after, key=LEVELS.index))
    by = {} if uid is None else {"by_uid": uid}
    log.event("log.level_changed", threshold=after, before=before, until=until, reason=reason, **by)
    log.override(level)


def _words(process: ChildProcess) -> str:
    slot = process.child.slot
    return f"{kind_words(slot.kind)} {slot} (pid {process.pid})"


def _answered(
    runtime: Runtime, request: LevelRequest, birth: int, answer: Mapping[str, Any] | None
) -> None:
    """Take the answer of a child. None for one that was asked means that it has died.
    None at once means that its channel is broken or full.
    """
    name = request.waiting.pop(birth, None)
    died = answer is None and request.asking != birth
    if name is not None and not died and answer != {}:
        request.silent.append(name)
    if not request.waiting and not request.asking:
        _finish(runtime, request)


def _finish(runtime: Runtime, request: LevelRequest) -> None:
    if request not in runtime.levels:
        return  # a late answer
    runtime.levels.remove(request)
    for name in request.silent:
        runtime.log.event("log.level_not_taken", child=name, threshold=runtime.log.level)
    if runtime.control is not None and request.request is not None:
        silent = request.silent
        runtime.control.answer(request.request, ok=True, **request.fields, silent=silent)
