"""The shell around the core: gathers events, asks the core, performs effects. The whole
of the main loop is :meth:`Shell.run`.

Theory of operation. The process blocks in one place, ``Wait.turn``. What wakes it: the
wake-up pipe (a signal came; the handlers have noted it), a readiness pipe, the control
socket, or the time. Each becomes an event; :func:`unpd.core.machine.step` answers with
effects; :mod:`unpd.master.perform` carries them out. At SIGTERM: ``Arrivals`` notes it,
``_gather`` makes it StopAsked, ``machine._stop`` tells the workers to finish,
``worker.main`` drains, their deaths become ChildExited, and the last one makes the core
say Leave.
"""

import select
import signal
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from setproctitle import setproctitle

from unpd import scoreboard as sb
from unpd.control.protocol import Request
from unpd.control.server import ControlServer
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import next_deadline, step
from unpd.core.model import State
from unpd.kernel import signals
from unpd.loop import now
from unpd.master import accounts
from unpd.master.holdings import Holdings, wanted
from unpd.master.perform import perform
from unpd.master.status import status
from unpd.master.supervision import Supervision
from unpd.master.supervisor import Supervisor
from unpd.names import MASTER_SIGNALS, SignalMeaning

SWEEP_S = 1.0
"""How often heartbeats are read, queues sampled, and lost signals made good."""

_EVENTS: Mapping[SignalMeaning, Callable[[str], ev.Event]] = MappingProxyType(
    {
        SignalMeaning.STOP: lambda name: ev.StopAsked(quick=False, by=name),
        SignalMeaning.QUICK_STOP: lambda name: ev.StopAsked(quick=True, by=name),
        SignalMeaning.RELOAD: lambda _: ev.ReloadAsked(request=None),
        SignalMeaning.REOPEN_LOG: lambda _: ev.LogReopenAsked(),
        SignalMeaning.MORE_WORKERS: lambda _: ev.PoolResized("default", 1),
        SignalMeaning.FEWER_WORKERS: lambda _: ev.PoolResized("default", -1),
    }
)
SIGNAL_EVENTS: Mapping[int, Callable[[], ev.Event]] = MappingProxyType(
    {
        int(signal.Signals[row.name]): partial(_EVENTS[row.meaning], row.name)
        for row in MASTER_SIGNALS
        if row.meaning is not SignalMeaning.REAP
    }
)
"""Every signal that the master takes, with the event that it becomes. SIGCHLD is the
reaper's.
"""


class Shell:
    """The master's loop over its holdings."""

    def __init__(self, holdings: Holdings, wakeup_fd: int, supervision: Supervision) -> None:
        self._holdings = holdings
        self._supervisor = Supervisor(supervision, holdings)
        self._state = State(wanted(holdings.deployment.config))
        self._leave: fx.Leave | None = None
        self._sweep_at = 0.0
        self._title = ""
        holdings.wait.watch(wakeup_fd, select.EPOLLIN, lambda _: signals.drain(wakeup_fd))

    def run(self) -> fx.Leave:
        """Turn until no child is left and the core says so."""
        self._take(ev.Booted())
        while self._leave is None:
            self._holdings.wait.turn(self._timeout_s())
            self._gather()
            while self._holdings.events:
                self._take(self._holdings.events.popleft())
        return self._leave

    def _take(self, event: ev.Event) -> None:
        self._state, effects = step(self._state, event, now())
        self._show()
        for effect in effects:
            if isinstance(effect, fx.Leave):
                self._leave = effect
            else:
                perform(self._holdings, effect)

    def _show(self) -> None:
        """Phase on the scoreboard, phase and generation in the process title and for
        the service manager, whenever they change.
        """
        title = f"unpd: master {self._state.phase}, generation {self._state.generation}"
        if title != self._title:
            self._title = title
            setproctitle(title)
            self._holdings.board.words[sb.PHASE_AT] = sb.MASTER_PHASES.index(self._state.phase)
            self._supervisor.phase(self._state)

    def _timeout_s(self) -> float:
        if self._holdings.events or self._holdings.reaper.reaped:
            return 0.0
        deadline_at = next_deadline(self._state)
        return max(
            0.0,
            min(self._sweep_at, deadline_at if deadline_at is not None else self._sweep_at) - now(),
        )

    def _gather(self) -> None:
        """What the wait's own calls have not made events of yet: signals, deaths, the
        time.
        """
        holdings = self._holdings
        for signum in holdings.arrivals.take():
            holdings.events.append(SIGNAL_EVENTS[signum]())
        if now() >= self._sweep_at:
            self._sweep()
        while holdings.reaper.reaped:
            accounts.account_for(holdings, holdings.reaper.reaped.popleft())
        deadline_at = next_deadline(self._state)
        if deadline_at is not None and deadline_at <= now():
            holdings.events.append(ev.TimePassed())

    def _sweep(self) -> None:
        holdings = self._holdings
        self._sweep_at = now() + min(SWEEP_S, self._supervisor.sweep_within_s)
        with signals.blocked():  # the handler reaps into the same deque
            holdings.reaper.sweep()
        accounts.sample(holdings)
        if holdings.control is not None:
            holdings.control.expire()
        holdings.events.append(accounts.beats(holdings))
        holdings.deployment.listeners.keep()
        self._mend_listeners()
        self._supervisor.sweep(self._state)

    def _mend_listeners(self) -> None:
        log = self._holdings.log
        for listener, reason in self._holdings.deployment.listeners.mend():
            if reason:
                log.error(
                    "listener.broken",
                    service=listener.wish.service,
                    address=listener.text,
                    reason=reason,
                )
            else:
                log.warning("listener.mended", service=listener.wish.service, address=listener.text)

    def asked(self, control: ControlServer, number: int, request: Request) -> None:
        """Take a request of the control socket."""
        holdings = self._holdings
        peer = control.peer(number)
        if request.verb == "status":
            control.answer(number, ok=True, status=status(holdings, self._state))
            return
        holdings.log.info("control.asked", verb=request.verb, by_uid=peer.uid, by_pid=peer.pid)
        if request.verb == "reload":
            holdings.events.append(ev.ReloadAsked(number))
        else:
            control.answer(number, ok=True)
            holdings.events.append(
                ev.StopAsked(request.quick, f"the control socket (uid {peer.uid}, pid {peer.pid})")
            )
