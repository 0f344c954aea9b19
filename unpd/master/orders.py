"""What the master does for each verb of the control socket: one function a verb.

Called by the shell with each request; reads the status or queues events for the core,
and answers. ``ORDERS`` has the names of :data:`unpd.control.verbs.VERBS`, which a test
compares. A verb that was forgotten here is refused, and does nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from unpd.control.server import ControlServer, PendingRequest
from unpd.control.verbs import VERBS, Answered
from unpd.core import events as ev
from unpd.core.model import State
from unpd.master.runtime import Runtime
from unpd.master.status import status


@dataclass(frozen=True, slots=True)
class Order:
    """A request, with what its function needs of the master."""

    runtime: Runtime
    state: State
    pending: PendingRequest


Fields = Mapping[str, Any]
"""The fields of an answer. Those of a verb that is answered later come with its
outcome: its function returns an empty one.
"""


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
    order.runtime.events.append(ev.ReloadAsked(order.pending.number))
    return {}


def _status(order: Order) -> Fields:
    return {"status": status(order.runtime, order.state)}


ORDERS: Mapping[str, Callable[[Order], Fields]] = MappingProxyType(
    {"stop": _stop, "reload": _reload, "status": _status}
)
"""The function of each verb."""


def carry_out(order: Order, control: ControlServer) -> None:
    """Call the function of the verb, and answer the request unless its answer comes
    later.
    """
    number, verb = order.pending.number, VERBS[order.pending.request.verb]
    function = ORDERS.get(verb.name)
    if function is None:
        control.answer(number, ok=False, reason=f"this daemon cannot carry out {verb.name}")
        return
    if verb.changes:
        caller = order.pending.credentials
        order.runtime.log.event(
            "control.asked", verb=verb.name, by_uid=caller.uid, by_pid=caller.pid
        )
    fields = function(order)
    if verb.answered is Answered.AT_ONCE:
        control.answer(number, ok=True, **fields)
