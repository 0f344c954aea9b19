"""Tells the service manager how the daemon stands: the whole of sd_notify(3), in the order in which it happens.

READY once every service has a ready worker, RELOADING and READY around a reload (READY before whoever asked for it is answered), STOPPING, more time while one of these
lasts, a status line whenever it changes, and WATCHDOG while :class:`unpd.master.health.Health` has no complaint.
"""

from unpd.core.model import State
from unpd.kernel import notify
from unpd.loop import now
from unpd.master.health import Health
from unpd.master.holdings import Holdings
from unpd.master.status import summary
from unpd.master.supervision import Supervision
from unpd.names import MasterPhase

MORE_TIME_S = 10
"""What each sweep of a start, reload or stop asks for, counted from then; the core bounds each of them, so that the asking ends."""


class Supervisor:
    """Speaks to the service manager on behalf of the master; without one it says nothing."""

    def __init__(self, supervision: Supervision, holdings: Holdings) -> None:
        self._supervision = supervision
        self._holdings = holdings
        self._health = Health(supervision.watchdog_s)
        self._phase = MasterPhase.STARTING
        self._status = ""
        self._complaint = ""

    @property
    def sweep_within_s(self) -> float:
        """The longest that :meth:`sweep` may be put off, in seconds: a sign of life is due twice an interval (sd_watchdog_enabled(3))."""
        return self._supervision.watchdog_s / 2 or float("inf")

    def phase(self, state: State) -> None:
        """The master is in another phase."""
        before, self._phase = self._phase, state.phase
        if self._supervision.notify is None:
            return
        match state.phase:
            case MasterPhase.RUNNING:
                self._say(state, "READY=1", once=True)
            case MasterPhase.LOADING if before is MasterPhase.RUNNING:
                self._say(state, "RELOADING=1", f"MONOTONIC_USEC={notify.monotonic_usec()}", _more_time(), once=True)
            case MasterPhase.STOPPING:
                self._say(state, "STOPPING=1", _more_time(), once=True)

    def sweep(self, state: State) -> None:
        """About once a second."""
        if self._supervision.notify is None:
            return
        due = [_more_time()] if state.phase is not MasterPhase.RUNNING else []
        if self._supervision.watchdog_s and not self._ill(state):
            due.append("WATCHDOG=1")
        self._say(state, *due)

    def _say(self, state: State, *assignments: str, once: bool = False) -> None:
        status = summary(self._holdings, state)
        if status != self._status:
            assignments = (*assignments, f"STATUS={status}")
        if assignments and self._supervision.say(*assignments, once=once):
            self._status = status

    def _ill(self, state: State) -> bool:
        complaint = self._health.complaint(self._holdings, state, now())
        if complaint != self._complaint:
            if complaint:
                self._holdings.log.error("watchdog.withheld", reason=complaint)
            else:
                self._holdings.log.info("watchdog.resumed")
        self._complaint = complaint
        return bool(complaint)


def _more_time() -> str:
    return f"EXTEND_TIMEOUT_USEC={MORE_TIME_S * 1_000_000}"
