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
from unpd.config.addresses import takes_datagrams
from unpd.core.model import Child, State, credible_beat
from unpd.core.policy import policy_of
from unpd.kernel import datagrams, sockets
from unpd.master.listening.listener import METRICS, OpenListener
from unpd.master.runtime import Runtime
from unpd.names import ChildPhase, MasterPhase

SHORTEST_INTERVAL_S = 3.0
"""A worker beats once a second, and a little later on a busy machine."""

RowsByPool = dict[str, list[int]]
"""The rows of workers on the scoreboard, by pool."""


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
        for name, service in runtime.deployment.config.services.items():
            if not beating.get(service.pool):
                return f"service {name} has no ready worker that beats"
        return self._neglect_complaint(runtime, beating, now)

    def _beating_rows(self, runtime: Runtime, state: State, now: float) -> RowsByPool:
        """The rows of the ready workers whose last heartbeat is not older than the
        interval.
        """
        found: RowsByPool = {}
        for child in state.children.values():
            process = runtime.processes.get(child.birth)
            if process is None or not _serves(state, child):
                continue
            beat_ns = runtime.board.row(process.row)[layout.Row.BEAT_NS]
            beat_at = credible_beat(beat_ns / layout.NS, now)
            if now - max(beat_at, child.ready_at or 0.0) < self._interval_s:
                found.setdefault(child.slot.pool, []).append(process.row)
        return found

    def _neglect_complaint(self, runtime: Runtime, beating: RowsByPool, now: float) -> str:
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


def _is_neglected(runtime: Runtime, listener: OpenListener, beating: RowsByPool) -> bool:
    """Whether a client waits in the queue although a worker has room for it, or a
    datagram, for which there is always room.
    """
    service = listener.wanted.service
    if takes_datagrams(listener.address):
        return datagrams.has_queued(listener.sock)
    return (
        service != METRICS
        and sockets.has_queued_connection(listener.sock)
        and _has_room(runtime, service, beating)
    )


def _accepted(runtime: Runtime, key: str) -> int:
    """How many connections, or datagrams, all workers together have taken from a
    listener.
    """
    word = layout.Row.LISTENER_ACCEPTED + runtime.columns.listeners.column(key)
    return sum(runtime.board.row(row)[word] for row in range(runtime.board.rows_given))


def _has_room(runtime: Runtime, service: str, beating: RowsByPool) -> bool:
    """Whether a worker of the service's pool may accept one more connection. The limit
    is for all services of the pool together.
    """
    pool = runtime.deployment.config.services[service].pool
    limit = runtime.deployment.config.pools[pool].max_connections_per_worker
    rows = map(runtime.board.row, beating.get(pool, ()))
    return any(row[layout.Row.OPEN] < limit for row in rows)
