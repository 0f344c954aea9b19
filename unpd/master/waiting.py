"""Answers ``unpd wait``: when a condition holds, or when its time is over.

:mod:`unpd.master.orders` adds a request; the shell looks at them in each turn, when it
has taken every event: so a signal that came before the request is heeded. The
conditions are those of the status. Errors: VerbError, which is answered.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from unpd.control.server import PendingRequest
from unpd.control.spans import timeout_s
from unpd.control.verb import VerbError
from unpd.core.model import State
from unpd.core.reload import RELOADING
from unpd.loop import now
from unpd.master.runtime import Runtime, Wait
from unpd.master.status import faults_of, retired, unreachable
from unpd.names import MasterPhase

MAX_WAITS = 8
"""How many requests may wait at a time. The control socket has 32 places, and others
must find one.
"""


def _why_not_ready(runtime: Runtime, state: State) -> str:
    if state.phase is MasterPhase.STARTING:
        return "the daemon is starting"
    reasons = [found.text for found in faults_of(state)]
    reasons += [
        f"clients reach no listener of service {name}" for name in sorted(unreachable(runtime))
    ]
    return "; ".join(reasons)


def _why_not_reloaded(runtime: Runtime, state: State) -> str:
    """VerbError if the last reload was refused: it does not end otherwise later."""
    if state.phase in RELOADING or state.queued is not None:
        return "a reload is under way"
    last = runtime.last_reload
    if last is not None and last.refused:
        raise VerbError(f"the last reload was refused: {last.refused}")
    return ""


def _why_not_drained(runtime: Runtime, state: State) -> str:
    left = retired(runtime, state)
    children = sum(each["children"] for each in left)
    connections = sum(each["connections"] for each in left)
    if not children:
        return ""
    processes = "process is" if children == 1 else "processes are"
    plural = "s" * (connections != 1)
    return f"{children} retired {processes} left, with {connections} connection{plural}"


WHY_NOT: Mapping[str, Callable[[Runtime, State], str]] = MappingProxyType(
    {
        "ready": _why_not_ready,
        "reloaded": _why_not_reloaded,
        "drained": _why_not_drained,
    }
)
"""Why a condition does not hold, "" if it does. A test compares the names with
:data:`unpd.control.life_verbs.CONDITIONS`.
"""


def begin(runtime: Runtime, pending: PendingRequest) -> None:
    """Wait for the condition that the request names. VerbError if too many wait."""
    if len(runtime.waits) >= MAX_WAITS:
        raise VerbError(f"{MAX_WAITS} commands wait already: end one, or try again later")
    arguments = pending.request.arguments
    timeout = arguments["timeout"]
    late_at = now() + timeout_s(timeout) if timeout is not None else math.inf
    runtime.waits.append(Wait(pending.number, arguments["condition"], late_at))


def due_at(runtime: Runtime) -> float:
    """When the time of the next request is over; inf: never."""
    return min((wait.late_at for wait in runtime.waits), default=math.inf)


def look(runtime: Runtime, state: State, at: float) -> None:
    """Answer the requests whose condition holds at the time ``at``, whose time is over,
    or that wait in vain because the daemon stops. Forget those whose command has gone.
    """
    control = runtime.control
    if control is None or not runtime.waits:
        return
    for wait in list(runtime.waits):
        outcome = _outcome(runtime, state, wait, at)
        if outcome is not None:
            control.answer(wait.request, **outcome)
        if outcome is not None or not control.is_waited_for(wait.request):
            runtime.waits.remove(wait)


def _outcome(runtime: Runtime, state: State, wait: Wait, at: float) -> dict[str, Any] | None:
    """The answer to a request; None while it waits."""
    if state.phase is MasterPhase.STOPPING:
        return {"ok": True, "held": False, "why": "the daemon is stopping"}
    try:
        why = WHY_NOT[wait.condition](runtime, state)
    except VerbError as error:
        return {"ok": False, "reason": str(error)}
    if not why:
        return {"ok": True, "held": True, "why": None}
    return {"ok": True, "held": False, "why": why} if at >= wait.late_at else None
