"""Tells the service manager how the daemon stands: the whole of sd_notify(3), in the
order in which it happens.

READY once every service has a ready worker, RELOADING and READY around a reload (READY
before whoever asked for it is answered), STOPPING, more time while one of these lasts,
a status line whenever it changes, and WATCHDOG while
:class:`unpd.master.systemd.watchdog.Watchdog` has no complaint.
"""

from collections import deque

from unpd.core.model import State
from unpd.kernel import notify
from unpd.loop import now
from unpd.master.runtime import Runtime
from unpd.master.status import summary
from unpd.master.systemd.offers import Offers
from unpd.master.systemd.watchdog import Watchdog
from unpd.names import MasterPhase

MORE_TIME_S = 10
"""What each sweep of a start, reload or stop asks for, counted from then; the core
bounds each of them, so that the asking ends.
"""


class Announcer:
    """Speaks to the service manager on behalf of the master; without one it says
    nothing.
    """

    def __init__(self, offers: Offers, runtime: Runtime) -> None:
        self._offers = offers
        self._runtime = runtime
        self._health = Watchdog(offers.watchdog_s)
        self._phase = MasterPhase.STARTING
        self._status = ""
        self._unsaid: deque[tuple[str, ...]] = deque()
        self._complaint = ""

    @property
    def sweep_within_s(self) -> float:
        """The longest that :meth:`sweep` may be put off, in seconds: a sign of life is
        due twice an interval (sd_watchdog_enabled(3)).
        """
        return self._offers.watchdog_s / 2 or float("inf")

    def phase(self, state: State) -> None:
        """The master may be in another phase."""
        before, self._phase = self._phase, state.phase
        if self._offers.notify is None or before is state.phase:
            return
        if state.phase is MasterPhase.STOPPING:
            self._change(state, "STOPPING=1", _more_time())
        elif (
            state.phase is MasterPhase.RUNNING or before is MasterPhase.STARTING
        ):  # a reload that was asked for meanwhile begins in the same step
            self._change(state, "READY=1")
        if state.phase is MasterPhase.LOADING:
            self._change(
                state, "RELOADING=1", f"MONOTONIC_USEC={notify.monotonic_usec()}", _more_time()
            )

    def sweep(self, state: State) -> None:
        """About once a second."""
        if self._offers.notify is None:
            return
        self._say_unsaid()
        due = [_more_time()] if state.phase is not MasterPhase.RUNNING else []
        if self._offers.watchdog_s and not self._ill(state):
            due.append("WATCHDOG=1")
        status = summary(self._runtime, state)
        if status != self._status:
            due.append(f"STATUS={status}")
        if due and self._offers.say(*due):
            self._status = status

    def _change(self, state: State, *assignments: str) -> None:
        """Tell a change of phase, in the order in which they come; what cannot be told
        now is told later.
        """
        self._status = summary(self._runtime, state)
        self._unsaid.append((*assignments, f"STATUS={self._status}"))
        self._say_unsaid()

    def _say_unsaid(self) -> None:
        while self._unsaid and self._offers.say(*self._unsaid[0], once=True):
            self._unsaid.popleft()

    def _ill(self, state: State) -> bool:
        complaint = self._health.complaint(self._runtime, state, now())
        if complaint != self._complaint:
            if complaint:
                self._runtime.log.error("watchdog.withheld", reason=complaint)
            else:
                self._runtime.log.info("watchdog.resumed")
        self._complaint = complaint
        return bool(complaint)


def _more_time() -> str:
    return f"EXTEND_TIMEOUT_USEC={MORE_TIME_S * 1_000_000}"
