"""Answers ``unpd wait``: when a condition holds, or when its time is over.

:mod:`unpd.master.orders` adds a request; the shell looks at them in each turn, when it
has taken every event: so a signal that came before the request is heeded. A look asks
whether the condition holds, which is cheap; why it does not is found out for an answer
only. No event tells the master that a client of a worker has gone: the drain of a
service is looked at every LOOK_S.

``ready`` is more than the field of the status that is called so: no slot may be in a
crash loop. It is less than ``unpd status --check`` asks for, which heeds every fault.

Errors: VerbError, which is answered.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from unpd.board.active import count_active
from unpd.control.explained import no_service
from unpd.control.server import PendingRequest
from unpd.control.spans import timeout_s
from unpd.control.verb import VerbError
from unpd.core.model import State
from unpd.core.reload import RELOADING
from unpd.loop import now
from unpd.master.retired import all_left, is_any_left, moment_of
from unpd.master.runtime import Runtime, Wait
from unpd.master.status import faults_of, unreachable
from unpd.names import ENDING_PHASES, Halt, MasterPhase
from unpd.wording import counted

MAX_WAITS = 16
"""How many requests may wait at a time. The control socket has 32 places, and others
must find one.
"""
LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a condition does not hold, as the end of a sentence. ``connections``: how
    many are left, None where that is not the matter. ``until``: when they have to end,
    in UTC. ``stopping``: it is that the daemon stops.
    """

    why: str
    connections: int | None = None
    until: str | None = None
    stopping: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """The answer about it, as :data:`unpd.control.view_fields.WAIT` has it."""
        return {"ok": True, "held": False, **asdict(self)}


HELD: Mapping[str, Any] = MappingProxyType(
    {
        "ok": True,
        "held": True,
        "why": None,
        "connections": None,
        "until": None,
        "stopping": False,
    }
)
"""The answer about a condition that holds."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something to wait for. ``holds`` and ``obstacle`` get the service that a request
    names, "" for none, and raise VerbError if it can hold no more.
    """

    holds: Callable[[Runtime, State, str], bool]
    obstacle: Callable[[Runtime, State, str], Obstacle]


def _why_not_ready(runtime: Runtime, state: State) -> str:
    if state.phase is MasterPhase.STARTING:
        return "the daemon is starting"
    reasons = [found.text for found in faults_of(state)]
    reasons += [
        f"clients reach no listener of service {name}" for name in sorted(unreachable(runtime))
    ]
    return "; ".join(reasons)


def _is_ready(runtime: Runtime, state: State, service: str) -> bool:
    del service
    return not _why_not_ready(runtime, state)


def _not_ready(runtime: Runtime, state: State, service: str) -> Obstacle:
    del service
    return Obstacle(_why_not_ready(runtime, state))


def _is_reloaded(runtime: Runtime, state: State, service: str) -> bool:
    """VerbError if the last reload was refused: it does not end otherwise later."""
    del service
    if state.phase in RELOADING or state.queued is not None:
        return False
    last = runtime.last_reload
    if last is not None and last.refused:
        raise VerbError(f"the last reload was refused: {last.refused}")
    return True


def _not_reloaded(runtime: Runtime, state: State, service: str) -> Obstacle:
    del runtime, state, service
    return Obstacle("a reload is under way")


def _is_drained(runtime: Runtime, state: State, service: str) -> bool:
    return not _active(runtime, service) if service else not is_any_left(runtime, state)


def _not_drained(runtime: Runtime, state: State, service: str) -> Obstacle:
    if service:
        active = _active(runtime, service)
        verb = "is" if active == 1 else "are"
        return Obstacle(f"{counted(active, 'connection')} of {service} {verb} left", active)
    left = all_left(runtime, state)
    until, connections = moment_of(left.ends_at), counted(left.connections, "connection")
    if not left.children:
        why = f"retired processes have ended and left {connections}"
    else:
        verb = "is" if left.children == 1 else "are"
        why = f"{counted(left.children, 'retired process')} {verb} left, with {connections}"
    return Obstacle(why, left.connections, until)


def _active(runtime: Runtime, service: str) -> int:
    """How many connections of a service are open. VerbError if it does not drain."""
    if service not in runtime.deployment.config.services:
        raise VerbError(f"{service} is not draining: the daemon has no such service any more")
    order = runtime.live.halts.get(service)
    if order is None or order.halt is not Halt.DRAINING:
        raise VerbError(
            f"{service} is not draining: it {f'is {order.halt}' if order else 'takes new clients'};"
            f" unpd drain {service} begins a drain"
        )
    return _open(runtime, service)


def _open(runtime: Runtime, service: str) -> int:
    """How many connections of a service are open: not a shared count, for a drain must
    not seem to be over too early.
    """
    column = runtime.columns.services.column(service)
    return count_active(runtime.board, column, runtime.board.rows_held)


CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        "ready": Condition(_is_ready, _not_ready),
        "reloaded": Condition(_is_reloaded, _not_reloaded),
        "drained": Condition(_is_drained, _not_drained),
    }
)
"""The conditions. A test compares the names with
:data:`unpd.control.life_verbs.CONDITIONS`.
"""


def begin(runtime: Runtime, pending: PendingRequest) -> None:
    """Wait for the condition that the request names. VerbError if too many wait."""
    arguments = pending.request.arguments
    service = arguments["service"] or ""
    services = runtime.deployment.config.services
    if service and service not in services:
        raise VerbError(no_service(service, services), usage=True)
    if len(runtime.waits) >= MAX_WAITS:
        reason = f"{MAX_WAITS} commands wait already: end one, or try again later"
        raise VerbError(reason, full=True)
    timeout = arguments["timeout"]
    runtime.waits.append(
        Wait(
            request=pending.number,
            condition=arguments["condition"],
            service=service,
            late_at=now() + timeout_s(timeout) if timeout is not None else math.inf,
            look_at=-math.inf if service else math.inf,
        )
    )


def due_at(runtime: Runtime) -> float:
    """When the next request has to be looked at; inf: at the next event."""
    return min((min(wait.late_at, wait.look_at) for wait in runtime.waits), default=math.inf)


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


def _outcome(runtime: Runtime, state: State, wait: Wait, at: float) -> Mapping[str, Any] | None:
    """The answer to a request; None while it waits."""
    if state.phase in ENDING_PHASES:
        return Obstacle("the daemon is stopping", stopping=True).fields
    if wait.service:
        if at < min(wait.look_at, wait.late_at):
            return None
        wait.look_at = at + LOOK_S
    condition = CONDITIONS[wait.condition]
    try:
        if condition.holds(runtime, state, wait.service):
            return HELD
        if at >= wait.late_at:
            return condition.obstacle(runtime, state, wait.service).fields
    except VerbError as error:
        return {"ok": False, "reason": str(error), **error.fields}
    return None
