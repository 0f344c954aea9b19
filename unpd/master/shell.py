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

from unpd.board import memory as sb
from unpd.control.server import ControlServer, PendingRequest
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import next_deadline, step
from unpd.core.model import State
from unpd.kernel import signals
from unpd.loop import now
from unpd.master import orders, sampling
from unpd.master.children.reap import account_for
from unpd.master.perform import perform
from unpd.master.runtime import Runtime, wanted
from unpd.master.systemd.announcer import Announcer
from unpd.master.systemd.offers import Offers
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

    def __init__(self, runtime: Runtime, wakeup_fd: int, offers: Offers) -> None:
        self._runtime = runtime
        self._announcer = Announcer(offers, runtime)
        self._state = State(wanted(runtime.deployment.config))
        self._leave: fx.Leave | None = None
        self._sweep_at = 0.0
        self._title = ""
        runtime.wait.watch(wakeup_fd, select.EPOLLIN, lambda _: signals.drain(wakeup_fd))

    def run(self) -> fx.Leave:
        """Turn until no child is left and the core says so."""
        self._take(ev.Booted())
        while self._leave is None:
            self._runtime.wait.turn(self._timeout_s())
            self._gather()
            while self._runtime.events:
                self._take(self._runtime.events.popleft())
        return self._leave

    def _take(self, event: ev.Event) -> None:
        self._state, effects = step(self._state, event, now())
        self._show()
        for effect in effects:
            if isinstance(effect, fx.Leave):
                self._leave = effect
            else:
                perform(self._runtime, effect)

    def _show(self) -> None:
        """Phase on the scoreboard, phase and generation in the process title and for
        the service manager, whenever they change.
        """
        title = f"unpd: master {self._state.phase}, generation {self._state.generation}"
        if title != self._title:
            self._title = title
            setproctitle(title)
            self._runtime.board.words[sb.PHASE_AT] = sb.MASTER_PHASES.index(self._state.phase)
            self._announcer.phase(self._state)

    def _timeout_s(self) -> float:
        if self._runtime.events or self._runtime.reaper.reaped:
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
        runtime = self._runtime
        for signum in runtime.signal_queue.take():
            runtime.events.append(SIGNAL_EVENTS[signum]())
        if now() >= self._sweep_at:
            self._sweep()
        while runtime.reaper.reaped:
            account_for(runtime, runtime.reaper.reaped.popleft())
        deadline_at = next_deadline(self._state)
        if deadline_at is not None and deadline_at <= now():
            runtime.events.append(ev.TimePassed())

    def _sweep(self) -> None:
        runtime = self._runtime
        self._sweep_at = now() + min(SWEEP_S, self._announcer.sweep_within_s)
        with signals.blocked():  # the handler reaps into the same deque
            runtime.reaper.sweep()
        sampling.sample(runtime)
        if runtime.control is not None:
            runtime.control.expire()
        runtime.events.append(sampling.beats(runtime))
        runtime.deployment.listeners.keep()
        self._mend_listeners()
        self._announcer.sweep(self._state)

    def _mend_listeners(self) -> None:
        log = self._runtime.log
        for listener, reason in self._runtime.deployment.listeners.mend():
            if reason:
                log.error(
                    "listener.broken",
                    service=listener.wanted.service,
                    address=listener.text,
                    reason=reason,
                )
            else:
                log.warning(
                    "listener.mended", service=listener.wanted.service, address=listener.text
                )

    def asked(self, control: ControlServer, pending: PendingRequest) -> None:
        """Carry out a request of the control socket."""
        orders.carry_out(orders.Order(self._runtime, self._state, pending), control)
