"""Whether the daemon does what it is for, as far as its master can see: the question
behind the watchdog's sign of life.

That the loop turned is shown by the asking. Beyond that: a ready worker of each service
beats, and no listener has had clients in its queue, none of them accepted, for the
whole of an interval while a worker had room. A mad worker can hide its own neglect or
have the daemon restarted, both of which it could have by other means.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unpd.board import memory as sb
from unpd.core.model import State, believed
from unpd.kernel import sockets
from unpd.master.listening.listener import METRICS
from unpd.master.runtime import Runtime
from unpd.names import ChildKind, ChildPhase, MasterPhase


@dataclass(frozen=True, slots=True)
class Neglect:
    """Clients of one listener that nobody accepts: since when (monotonic seconds), and
    how many had been accepted by then.
    """

    since: float
    accepted: int


LEAST_PATIENCE_S = 3.0
"""A worker beats once a second, and on a busy machine a little later."""


class Watchdog:
    """Judges once a sweep; ``interval_s`` is the patience, in seconds, of which it
    takes :data:`LEAST_PATIENCE_S` at least.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = max(interval_s, LEAST_PATIENCE_S)
        self._waiting: dict[str, Neglect] = {}

    def complaint(self, runtime: Runtime, state: State, now: float) -> str:
        """What is wrong, in words; "" if nothing is. A start and a stop have bounds of
        their own.
        """
        if state.phase in (MasterPhase.STARTING, MasterPhase.STOPPING):
            self._waiting.clear()
            return ""
        beating = self._beating_rows(runtime, state, now)
        for name, service in runtime.deployment.config.services.items():
            if not beating.get(service.pool):
                return f"service {name} has no ready worker that beats"
        return self._neglect(runtime, beating, now)

    def _beating_rows(self, runtime: Runtime, state: State, now: float) -> dict[str, list[int]]:
        """The scoreboard rows of the ready workers that beat within the interval, by
        pool.
        """
        found: dict[str, list[int]] = {}
        for child in state.children.values():
            living = runtime.living.get(child.birth)
            if (
                living is None
                or child.slot.kind is not ChildKind.WORKER
                or child.phase is not ChildPhase.READY
                or child.generation != state.generation
            ):
                continue
            beat_at = believed(runtime.board.row(living.row)[sb.BEAT_NS] / sb.NS, now)
            if now - max(beat_at, child.ready_at or 0.0) < self._interval_s:
                found.setdefault(child.slot.pool, []).append(living.row)
        return found

    def _neglect(self, runtime: Runtime, beating: dict[str, list[int]], now: float) -> str:
        waiting: dict[str, Neglect] = {}
        complaint = ""
        for key, listener in runtime.deployment.listeners.opened.items():
            if (
                listener.wanted.service == METRICS
                or not sockets.has_queued_connection(listener.sock)
                or not _has_room(runtime, listener.wanted.service, beating)
            ):
                continue
            accepted = _accepted(runtime, key)
            before = self._waiting.get(key)
            waiting[key] = (
                before
                if before is not None and before.accepted == accepted
                else Neglect(now, accepted)
            )
            if now - waiting[key].since >= self._interval_s:
                complaint = (
                    f"clients wait on {listener.text} of service {listener.wanted.service}"
                    " and nobody accepts them"
                )
        self._waiting = waiting
        return complaint


def _accepted(runtime: Runtime, key: str) -> int:
    at = sb.LISTENER_ACCEPTED + runtime.columns.listeners.column(key)
    return sum(runtime.board.row(row)[at] for row in range(runtime.board.rows_used()))


def _has_room(runtime: Runtime, service: str, beating: dict[str, list[int]]) -> bool:
    """Whether a worker of the service's pool may accept one more. Its connections are
    those of all services of the pool.
    """
    config = runtime.deployment.config
    pool = config.services[service].pool
    columns = [
        runtime.columns.services.column(name)
        for name, other in config.services.items()
        if other.pool == pool
    ]
    return any(
        _open_connections(runtime.board.row(row), columns) < config.pools[pool].max_connections
        for row in beating.get(pool, ())
    )


def _open_connections(cells: memoryview, columns: Sequence[int]) -> int:
    ended = range(sb.ENDED, sb.ENDED + len(sb.END_CAUSES))
    return sum(
        cells[at + sb.ACCEPTED] - sum(cells[at + cause] for cause in ended)
        for at in map(sb.service_cells, columns)
    )
