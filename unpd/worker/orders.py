"""The master's orders to an engine, and the time that its sessions then have.

On RETIRE (a newer generation serves) the engine drains: no new connections; the old
ones go on until the next order. On FINISH (the daemon stops) it drains too, and each
session is brought to its end. On LEAVE it ends at once.

Called by the engine when a signal has come. A worker and a session process use it
alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unpd.kernel.signals import SignalQueue, empty_wakeup_pipe
from unpd.loop import now
from unpd.names import ChildOrder
from unpd.worker.event.deadlines import SLOTS_PER_S
from unpd.worker.event.engine import Engine
from unpd.worker.event.poller import Watcher
from unpd.worker.event.shared import LINGER_S

PATIENCE_SHARE = 0.75
"""The share of ``grace_s`` after which the last session is over: a little before the
master kills what is left (at 0.8).
"""
LINGER_SHARE = 0.2
"""The share of ``grace_s`` that a session lingers at most."""
TWO_SLOTS_S = 2 / SLOTS_PER_S
"""How late the wheel may be, once with our FIN and once with the end of the lingering:
with a short ``grace_s`` more than lies between 0.75 and 0.8.
"""


@dataclass(frozen=True, slots=True)
class Signals:
    """Where a child finds its orders. ``wakeup_fd`` becomes readable when ``queue`` has
    signals; ``meanings`` has the order that each signal carries.
    """

    queue: SignalQueue
    meanings: Mapping[int, ChildOrder]
    wakeup_fd: int

    def take(self) -> list[ChildOrder]:
        """Take the orders that have come."""
        empty_wakeup_pipe(self.wakeup_fd)
        orders = [self.meanings.get(signum) for signum in self.queue.take()]
        return [order for order in orders if order is not None]


class Orders:
    """The orders to ``engine``. ``drain`` is called once, at the first order to take no
    new connections. ``retired``: it was ordered to retire. ``leaving``: to leave.
    """

    def __init__(
        self, engine: Engine, signals: Signals, grace_s: float, drain: Callable[[], None]
    ) -> None:
        self.draining = False
        self.retired = False
        self.leaving = False
        self._engine = engine
        self._signals = signals
        self._grace_s = grace_s
        self._begin_drain = drain
        self._finishing = False

    def watch(self) -> None:
        """Have the engine take orders as they come."""
        self._engine.watch(self._signals.wakeup_fd, Watcher(self._take))

    def _take(self, _mask: int) -> None:
        for order in self._signals.take():
            match order:
                case ChildOrder.RETIRE:
                    self.retired = True
                    self._drain()
                case ChildOrder.FINISH:
                    self._finish()
                case ChildOrder.LEAVE:
                    self.leaving = True

    def _drain(self) -> None:
        if not self.draining:
            self.draining = True
            self._begin_drain()

    def _finish(self) -> None:
        """At a stop, sessions end as their clients fall quiet. A worker that was
        retired before has waited enough: its sessions end now.

        A second FINISH means no more than the first: a SIGTERM for the whole process
        group or cgroup comes once from there and once from the master.
        """
        if self._finishing and not self.retired:
            return
        self._finishing = True
        linger_s = min(LINGER_S, LINGER_SHARE * self._grace_s)
        patience_s = max(0.0, PATIENCE_SHARE * self._grace_s - linger_s - TWO_SLOTS_S)
        self._drain()
        self._engine.finish(now() + (0.0 if self.retired else patience_s), linger_s)
