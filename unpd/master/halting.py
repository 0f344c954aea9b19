"""Carries out the verbs that keep new clients of a service out: pause, drain, resume.

The halts stand in memory that every worker, dispatcher and launcher reads at each
accept (:mod:`unpd.board.halted`). So a verb holds as soon as it is answered, also for
children that are born later, and no child is asked. Of a pause that has ended, the
processes in which clients wait notice within 0.1 s.

Called by :mod:`unpd.master.orders`, by the performers when a configuration is adopted,
and by the shell when a halt ends. Errors: VerbError, which is answered.

Known gaps: a program that has a listener itself (wait, keep) goes on taking clients
from it. A process that has no room takes no client out of the queue in order to refuse
it.
"""

from collections.abc import Mapping
from typing import Any

from unpd.board.active import count_active
from unpd.control.explained import no_service
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.core.model import State
from unpd.master.live_changes import ServiceHalt, Term
from unpd.master.runtime import Runtime
from unpd.names import Halt, MasterPhase
from unpd.services.program import ProcessOptions

Fields = Mapping[str, Any]


def pause(runtime: Runtime, state: State, pending: PendingRequest) -> Fields:
    """Let new clients of a service wait, or turn them away. VerbError."""
    arguments = pending.request.arguments
    halt = Halt.REFUSING if arguments["refuse"] else Halt.PAUSED
    return _halt(runtime, state, pending, ServiceHalt(halt, Term.of_span(arguments["for"])))


def drain(runtime: Runtime, state: State, pending: PendingRequest) -> Fields:
    """Turn new clients of a service away until it is resumed. VerbError."""
    return _halt(runtime, state, pending, ServiceHalt(Halt.DRAINING, Term()))


def resume(runtime: Runtime, state: State, pending: PendingRequest) -> Fields:
    """Let a service take clients again. VerbError."""
    service = _service_of(runtime, state, pending)
    before = runtime.live.halts.pop(service, None)
    if before is not None:
        runtime.live.show(runtime.columns.services.by_name)
        _log_end(runtime, service, before, reason="unpd resume", uid=pending.credentials.uid)
    return _fields(runtime, service, before)


def _halt(runtime: Runtime, state: State, pending: PendingRequest, order: ServiceHalt) -> Fields:
    service = _service_of(runtime, state, pending)
    before = runtime.live.halts.get(service)
    runtime.live.halts[service] = order
    runtime.live.show(runtime.columns.services.by_name)
    runtime.log.event(
        "service.halted",
        service=service,
        halted=str(order.halt),
        until=order.term.text,
        by_uid=pending.credentials.uid,
    )
    return _fields(runtime, service, before)


def _service_of(runtime: Runtime, state: State, pending: PendingRequest) -> str:
    if state.phase is MasterPhase.STOPPING:
        raise VerbError("the daemon is stopping, and takes no new clients")
    services, name = runtime.deployment.config.services, str(pending.request.arguments["service"])
    if name not in services:
        raise VerbError(no_service(name, services), usage=True)
    return name


def _fields(runtime: Runtime, service: str, before: ServiceHalt | None) -> Fields:
    """The answer, as :data:`unpd.control.change_fields.HALT` has it."""
    order = runtime.live.halts.get(service)
    rows = runtime.board.rows_held
    options = runtime.deployment.config.services[service].options
    return {
        "service": service,
        "halted": str(order.halt) if order else None,
        "until": (order.term.text or None) if order else None,
        "was": str(before.halt) if before else None,
        "connections": count_active(runtime.board, runtime.columns.services.column(service), rows),
        "program_has_socket": isinstance(options, ProcessOptions) and options.takes_socket,
    }


def look(runtime: Runtime, at: float) -> None:
    """Resume the services whose halts have ended at the time ``at``, of
    :func:`unpd.master.live_changes.clock`.
    """
    ended = {name: order for name, order in runtime.live.halts.items() if order.term.until <= at}
    _end(runtime, ended, "its time is over")


def adopted(runtime: Runtime) -> None:
    """Forget the halts of services that a new configuration has no more. Show the
    others again: a service may have another column.
    """
    services = runtime.deployment.config.services
    gone = {name: order for name, order in runtime.live.halts.items() if name not in services}
    _end(runtime, gone, "the configuration has no such service")
    runtime.live.show(runtime.columns.services.by_name)


def _end(runtime: Runtime, ended: Mapping[str, ServiceHalt], reason: str) -> None:
    for name, order in ended.items():
        del runtime.live.halts[name]
        _log_end(runtime, name, order, reason)
    if ended:
        runtime.live.show(runtime.columns.services.by_name)


def _log_end(
    runtime: Runtime, service: str, before: ServiceHalt, reason: str, uid: int | None = None
) -> None:
    by = {} if uid is None else {"by_uid": uid}
    runtime.log.event("service.resumed", service=service, was=str(before.halt), reason=reason, **by)
