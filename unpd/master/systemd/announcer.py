"""Announces the daemon's state to the service manager: sends all messages of
sd_notify(3), in the order of the events.

READY comes once every service has a ready worker. RELOADING and READY come around a
reload, with READY before the answer to the control request. STOPPING comes when the
daemon becomes lame, and at the stop. While any of these lasts, the daemon asks for more
time. STATUS comes whenever it changes, and WATCHDOG while
:class:`unpd.master.systemd.watchdog.Watchdog` has no complaint.

Called by the shell; calls :class:`unpd.master.systemd.offers.Offers`.
"""

from collections import deque

from unpd.core.model import State
from unpd.kernel import notify
from unpd.loop import now
from unpd.master.runtime import Runtime
from unpd.master.status import summary
from unpd.master.systemd.offers import Offers
from unpd.master.systemd.watchdog import Watchdog
from unpd.names import ENDING_PHASES, MasterPhase

MORE_TIME_S = 10
"""How much more time, from now on, each sweep of a start, reload or stop asks for. The
core bounds each of these, so no daemon asks for ever.
"""


class Announcer:
    """Sends the messages. Without a service manager it sends nothing."""

    def __init__(self, offers: Offers, runtime: Runtime) -> None:
        self._offers = offers
        self._runtime = runtime
        self._watchdog = Watchdog(offers.watchdog_s)
        self._phase = MasterPhase.STARTING
        self._status = ""
        self._unsent: deque[tuple[str, ...]] = deque()
        self._complaint = ""

    @property
    def sweep_within_s(self) -> float:
        """The longest time between two calls of :meth:`sweep`, in seconds: half of the
        watchdog's interval (sd_watchdog_enabled(3)).
        """
        return self._offers.watchdog_s / 2 or float("inf")

    def phase(self, state: State) -> None:
        """Announce the master's phase if it changed."""
        before, self._phase = self._phase, state.phase
        if self._offers.notify is None or before is state.phase:
            return
        # A reload that was requested during the start begins in the step that ends it.
        if state.phase in ENDING_PHASES:
            self._announce(state, "STOPPING=1", _more_time())
        elif state.phase is MasterPhase.RUNNING or before is MasterPhase.STARTING:
            self._announce(state, "READY=1")
        if state.phase is MasterPhase.LOADING:
            began = f"MONOTONIC_USEC={notify.monotonic_usec()}"
            self._announce(state, "RELOADING=1", began, _more_time())

    def sweep(self, state: State) -> None:
        """Send the messages that are due about once a second: a request for more time,
        a sign of life, and a changed status.
        """
        if self._offers.notify is None:
            return
        self._send_unsent()
        due = [_more_time()] if state.phase is not MasterPhase.RUNNING else []
        if self._offers.watchdog_s and self._is_well(state):
            due.append("WATCHDOG=1")
        status = summary(self._runtime, state)
        if status != self._status:
            due.append(f"STATUS={status}")
        if due and self._offers.send(*due):
            self._status = status

    def _announce(self, state: State, *assignments: str) -> None:
        """Send a change of phase. Messages that cannot be sent now follow in order."""
        self._status = summary(self._runtime, state)
        self._unsent.append((*assignments, f"STATUS={self._status}"))
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent and self._offers.send(*self._unsent[0], once=True):
            self._unsent.popleft()

    def _is_well(self, state: State) -> bool:
        complaint = self._watchdog.complaint(self._runtime, state, now())
        if complaint != self._complaint:
            if complaint:
                self._runtime.log.event("watchdog.withheld", reason=complaint)
            else:
                self._runtime.log.event("watchdog.resumed")
        self._complaint = complaint
        return not complaint


def _more_time() -> str:
    return f"EXTEND_TIMEOUT_USEC={MORE_TIME_S * 1_000_000}"
