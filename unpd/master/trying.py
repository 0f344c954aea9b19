"""Carries out ``unpd try``: passes the command's end of a socket pair on to the
launcher of the service, which does the rest (:mod:`unpd.dispatcher.trials`).

Called by :mod:`unpd.master.orders`. Errors: VerbError, which is answered.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from unpd.control.explained import no_service
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.core.model import State
from unpd.errors import quoted
from unpd.master.children import reports
from unpd.master.children.serving import served_by
from unpd.master.runtime import Question, Runtime
from unpd.names import ChildKind, ChildPhase
from unpd.services.program import why_not_tried


def try_program(runtime: Runtime, state: State, pending: PendingRequest) -> None:
    """Ask the launcher to start the program; the answer to the request comes with its
    own.
    """
    name: str = pending.request.arguments["service"]
    service = runtime.deployment.config.services.get(name)
    if service is None:
        raise VerbError(no_service(name, runtime.deployment.config.services), usage=True)
    if reason := why_not_tried(service.options):
        raise VerbError(f"{quoted(name)} {reason}", usage=True)
    if pending.descriptor is None:
        raise VerbError("no descriptor came with the request")
    launchers = [
        child.birth
        for child in state.children.values()
        if child.slot.kind is ChildKind.LAUNCHER
        and child.phase is ChildPhase.READY
        and state.is_current(child)
        and name in served_by(runtime.deployment, child.slot)
    ]
    if not launchers:
        raise VerbError(f"the launcher of {quoted(name)} is not ready")
    message = {"question": "try", "service": name}
    answer = partial(_answered, runtime, pending.number)
    reports.ask(runtime, launchers[0], Question(message, answer, os.dup(pending.descriptor)))


def _answered(runtime: Runtime, number: int, answer: Mapping[str, Any] | None) -> None:
    if runtime.control is None:
        return
    reason = "its launcher does not answer" if answer is None else answer.get("error", "")
    if reason:
        runtime.control.answer(number, ok=False, reason=reports.shown(str(reason)))
    else:
        runtime.control.answer(number, ok=True)
