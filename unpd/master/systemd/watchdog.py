"""Judges whether the daemon serves, as far as its master can see. The service manager
gets its sign of life (WATCHDOG=1) only while the daemon does.

A daemon serves if its master's loop turns (otherwise nothing calls this module), if
each service has a ready worker that beats, and if no listener is neglected. A listener
is neglected if clients wait in its queue for a whole interval and no worker accepts
them, although one has room; or if datagrams wait and no worker receives any.

Called by the announcer once a sweep; reads the scoreboard and the accept queues.

Known gap: a faulty worker can hide its own neglect, or have the daemon restarted. It
can do both by other means as well.
"""

from dataclasses import dataclass

from unpd.board import layout
from unpd.board.active import count_active
from unpd.config.addresses import takes_datagrams
from unpd.core.model import Child, Slot, State, credible_beat
from unpd.core.policy import policy_of
from unpd.kernel import datagrams, sockets
from unpd.master.children.serving import kind_of, served_by
from unpd.master.listening.listener import OpenListener
from unpd.master.runtime import Deployment, Runtime
from unpd.names import METRICS, ChildKind, ChildPhase, MasterPhase

SHORTEST_INTERVAL_S = 3.0
"""A worker beats once a second, and a little later on a busy machine."""

RowsBySlot = dict[Slot, int]
"""The rows of children on the scoreboard."""


@dataclass(frozen=True, slots=True)
class Neglect:
    """The neglect of one listener: when it began (monotonic seconds), and how many
    clients the workers had accepted by then.
    """

    began_at: float
    accepted: int


class Watchdog:
    """The judge, which keeps the neglected listeners from one sweep to the next.

    ``interval_s``: how long neglect may last, in seconds; at least SHORTEST_INTERVAL_S.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = max(interval_s, SHORTEST_INTERVAL_S)
        self._neglected: dict[str, Neglect] = {}

    def complaint(self, runtime: Runtime, state: State, now: float) -> str:
        """Return the daemon's fault in a sentence, "" if it has none. A start and a
        stop have their own deadlines, so they are no reason to complain.
        """
        if state.phase in (MasterPhase.STARTING, MasterPhase.STOPPING):
            self._neglected.clear()
            return ""
        beating = self._beating_rows(runtime, state, now)
        for listener in runtime.deployment.listeners.opened.values():
            service = listener.wanted.service
            if service != METRICS and not _rows_of(runtime.deployment, listener, beating):
                return f"service {service} has no ready worker that beats"
        return self._neglect_complaint(runtime, beating, now)

    def _beating_rows(self, runtime: Runtime, state: State, now: float) -> RowsBySlot:
        """The rows of the ready children that serve whose last heartbeat is not older
        than the interval.
        """
        found: RowsBySlot = {}
        for child in state.children.values():
            process = runtime.processes.get(child.birth)
            if process is None or not _serves(state, child):
                continue
            beat_ns = runtime.board.row(process.row)[layout.Row.BEAT_NS]
            beat_at = credible_beat(beat_ns / layout.NS, now)
            if now - max(beat_at, child.ready_at or 0.0) < self._interval_s:
                found[child.slot] = process.row
        return found

    def _neglect_complaint(self, runtime: Runtime, beating: RowsBySlot, now: float) -> str:
        neglected: dict[str, Neglect] = {}
        complaint = ""
        for key, listener in runtime.deployment.listeners.opened.items():
            if not _is_neglected(runtime, listener, beating):
                continue
            accepted = _accepted(runtime, key)
            neglect = self._neglected.get(key)
            if neglect is None or neglect.accepted != accepted:
                neglect = Neglect(now, accepted)
            neglected[key] = neglect
            if now - neglect.began_at >= self._interval_s:
                what = "datagrams" if takes_datagrams(listener.address) else "clients"
                complaint = (
                    f"{what} wait on {listener.text} of service {listener.wanted.service}"
                    " and no worker accepts them"
                )
        self._neglected = neglected
        return complaint


def _serves(state: State, child: Child) -> bool:
    return policy_of(child).serves and child.phase is ChildPhase.READY and state.is_current(child)


def _is_neglected(runtime: Runtime, listener: OpenListener, beating: RowsBySlot) -> bool:
    """Whether a client waits in the queue although a worker has room for it, or a
    datagram, for which there is always room. What programs leave in a socket that they
    got whole is their own business, and clients of a service that an operator has
    halted wait because of that.
    """
    service = listener.wanted.service
    if listener.wanted.is_lent or service in runtime.live.halts:
        return False
    if takes_datagrams(listener.address):
        return datagrams.has_queued(listener.sock)
    return (
        service != METRICS
        and sockets.has_queued_connection(listener.sock)
        and _has_room(runtime, listener, beating)
    )


def _accepted(runtime: Runtime, key: str) -> int:
    """How many connections, or datagrams, all workers together have taken from a
    listener.
    """
    word = layout.Row.LISTENER_ACCEPTED + runtime.columns.listeners.column(key)
    return sum(runtime.board.row(row)[word] for row in range(runtime.board.rows_given))


def _rows_of(deployment: Deployment, listener: OpenListener, beating: RowsBySlot) -> list[int]:
    """The rows of the children that accept from a listener."""
    kind = kind_of(deployment, listener)
    return [
        row
        for slot, row in beating.items()
        if slot.kind is kind and listener.wanted.service in served_by(deployment, slot)
    ]


def _has_room(runtime: Runtime, listener: OpenListener, beating: RowsBySlot) -> bool:
    """Whether a child may accept one more connection from a listener. The limit of a
    worker is for all its services together, that of a dispatcher for each service.
    """
    deployment, name = runtime.deployment, listener.wanted.service
    service = deployment.config.services[name]
    rows = _rows_of(deployment, listener, beating)
    match kind_of(deployment, listener):
        case ChildKind.DISPATCHER | ChildKind.LAUNCHER | ChildKind.PYTHON:
            column = runtime.columns.services.column(name)
            every = range(runtime.board.rows_given)
            return count_active(runtime.board, column, every) < service.max_connections
        case ChildKind.ITERATIVE:
            limit = 1
        case _:
            limit = deployment.config.pools[service.pool].max_connections_per_worker
    return any(runtime.board.row(row)[layout.Row.OPEN] < limit for row in rows)
