"""Carries out the verbs of the control socket: one function for each verb.

Called by the shell with each request. A function reads the status, changes the deny
list (:mod:`unpd.master.denying`), or queues events for the core; :func:`carry_out`
answers. A test compares the names of :data:`ORDERS` with
:data:`unpd.control.verbs.VERBS`. A verb that has no function here is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from unpd.access.denials import DenialError
from unpd.control.protocol import Request
from unpd.control.server import ControlServer, PendingRequest
from unpd.control.verb import VerbError
from unpd.control.verbs import VERBS
from unpd.core import events as ev
from unpd.core.model import State
from unpd.master import (
    denying,
    ended,
    explaining,
    following,
    halting,
    kicking,
    levelling,
    listing,
    scaling,
    trying,
    waiting,
)
from unpd.master.reload_preview import preview
from unpd.master.runtime import Runtime
from unpd.master.status import children, listeners, status


@dataclass(frozen=True, slots=True)
class Order:
    """A request, with the runtime and the state of the core that its function reads."""

    runtime: Runtime
    state: State
    pending: PendingRequest


Fields = Mapping[str, Any] | None
"""The fields of an answer; None if it comes later, with the outcome, or in parts."""


def _stop(order: Order) -> Fields:
    caller = order.pending.credentials
    order.runtime.events.append(
        ev.StopAsked(
            quick=order.pending.request.arguments["quick"],
            by=f"the control socket (uid {caller.uid}, pid {caller.pid})",
        )
    )
    return {}


def _reload(order: Order) -> Fields:
    arguments = order.pending.request.arguments
    every_pool = arguments["all"]
    if arguments["dry_run"]:
        return {"preview": preview(order.runtime, order.state, every_pool=every_pool)}
    order.runtime.events.append(ev.ReloadAsked(order.pending.number, every_pool))
    return None


def _status(order: Order) -> Fields:
    history = order.pending.request.arguments["history"]
    return {"status": status(order.runtime, order.state, history=history)}


def _workers(order: Order) -> Fields:
    return {"children": children(order.runtime, order.state)}


def _listeners(order: Order) -> Fields:
    return {"listeners": listeners(order.runtime)}


def _events(order: Order) -> Fields:
    following.follow(order.runtime, order.pending)
    return None


def _wait(order: Order) -> Fields:
    waiting.begin(order.runtime, order.pending)
    return None


def _deny(order: Order) -> Fields:
    return denying.deny(order.runtime, order.pending)


def _undeny(order: Order) -> Fields:
    return denying.undeny(order.runtime, order.pending)


def _denied(order: Order) -> Fields:
    return denying.denied(order.runtime, order.pending)


def _explain(order: Order) -> Fields:
    return explaining.explained(order.runtime, order.pending.request.arguments)


def _try(order: Order) -> Fields:
    trying.try_program(order.runtime, order.state, order.pending)
    return None


def _connections(order: Order) -> Fields:
    if order.pending.request.arguments["ended"]:
        return ended.list_page(order.runtime, order.pending.request.arguments)
    listing.list_page(order.runtime, order.pending)
    return None


def _kick(order: Order) -> Fields:
    kicking.kick(order.runtime, order.pending)
    return None


def _pause(order: Order) -> Fields:
    return halting.pause(order.runtime, order.state, order.pending)


def _resume(order: Order) -> Fields:
    return halting.resume(order.runtime, order.state, order.pending)


def _drain(order: Order) -> Fields:
    return halting.drain(order.runtime, order.state, order.pending)


def _log_level(order: Order) -> Fields:
    levelling.change(order.runtime, order.pending)
    return None


def _scale(order: Order) -> Fields:
    scaling.scale(order.runtime, order.state, order.pending)
    return None


ORDERS: Mapping[str, Callable[[Order], Fields]] = MappingProxyType(
    {
        "stop": _stop,
        "reload": _reload,
        "status": _status,
        "workers": _workers,
        "listeners": _listeners,
        "events": _events,
        "wait": _wait,
        "deny": _deny,
        "undeny": _undeny,
        "denied": _denied,
        "explain": _explain,
        "connections": _connections,
        "kick": _kick,
        "pause": _pause,
        "resume": _resume,
        "drain": _drain,
        "log-level": _log_level,
        "scale": _scale,
        "try": _try,
    }
)
"""The function of each verb."""


LONG = frozenset({"status", "workers", "listeners", "denied", "explain", "connections"})
"""The verbs that may take milliseconds."""


def takes_long(request: Request) -> bool:
    """Whether a request may take milliseconds."""
    return request.verb in LONG or bool(request.arguments.get("dry_run"))


def carry_out(order: Order, control: ControlServer) -> None:
    """Call the function of the verb; answer, unless the answer comes later. A request
    for a daemon with another configuration file is refused.
    """
    number, verb = order.pending.number, VERBS[order.pending.request.verb]
    function = ORDERS.get(verb.name)
    if function is None:
        control.answer(number, ok=False, reason=f"this daemon cannot carry out {verb.name}")
        return
    if reason := _other_daemon(order, control.path):
        control.answer(number, ok=False, reason=reason)
        return
    if verb.changes and not order.pending.request.arguments.get("dry_run"):
        caller = order.pending.credentials
        order.runtime.log.event(
            "control.asked", verb=verb.name, by_uid=caller.uid, by_pid=caller.pid
        )
    try:
        fields = function(order)
    except VerbError as error:
        control.answer(number, ok=False, reason=str(error), **error.fields)
        return
    except DenialError as error:
        control.answer(number, ok=False, reason=str(error))
        return
    if fields is not None:
        control.answer(number, ok=True, **fields)


def _other_daemon(order: Order, path: str) -> str:
    """Say why the request is for another daemon than the one whose control socket is at
    ``path``; "" if it may be for this one.
    """
    asked, ours = order.pending.request.config, order.runtime.config_names
    if not asked or set(asked) & set(ours):
        return ""
    own = f"the configuration {ours[0]}" if ours else "the built-in default configuration"
    return (
        f"the daemon on this control socket runs with {own}, not with {asked[0]}: name the other"
        f" daemon with --config FILE, or this one with --control {path}"
    )
