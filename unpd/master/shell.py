"""The shell around the core: gathers events, passes them to the core, and performs the
effects. Its main loop is :meth:`Shell.run`.

The master blocks in one place, ``Loop.turn``. The wait ends when a signal has written
into the wake-up pipe, when a child's channel or the control socket is ready, or at a
deadline. The shell and its callbacks turn what happened into events. For each event
:func:`unpd.core.machine.step` returns effects, and :mod:`unpd.master.perform` performs
them.

At SIGTERM, ``SignalQueue`` queues the signal, ``Signalling.take`` makes StopAsked, and
``stop.begin`` orders the workers to finish. Each worker drains
(:mod:`unpd.worker.main`), each exit becomes ChildExited, and after the last exit the
core orders Leave. Sessions whose dispatcher was killed are no children of the core: the
shell waits for them, and kills them when the stop has no more time.

Made and run by boot.
"""

import select
import signal
from collections import deque

from setproctitle import setproctitle

from unpd.board import layout
from unpd.board.loop_lag import HEARTBEAT_S, LoopLag
from unpd.control.server import ControlServer, PendingRequest
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.draft import sooner
from unpd.core.machine import next_deadline, step
from unpd.core.model import State
from unpd.kernel import signals
from unpd.loop import now
from unpd.master import (
    ended,
    feeding,
    halting,
    levelling,
    listing,
    live_changes,
    mending,
    orders,
    recording,
    rotation,
    rounds,
    sampling,
    sensing,
    waiting,
)
from unpd.master.children.kinds import wanted_children
from unpd.master.children.reap import account_for
from unpd.master.fault_watch import FaultWatch
from unpd.master.log_watch import LogWatch
from unpd.master.perform import perform
from unpd.master.runtime import Runtime
from unpd.master.signalling import Signalling
from unpd.master.systemd.announcer import Announcer
from unpd.master.systemd.offers import Offers
from unpd.names import MASTER_TITLE, MasterPhase

SWEEP_S = 1.0
"""How often the master reads heartbeats, samples queues, and looks for children whose
SIGCHLD was lost.
"""


KILL_S = 1.0
"""How long the master waits for processes that it has killed. For a forged pid in a
table of sessions it would wait in vain.
"""


class Shell:
    """The master's main loop."""

    def __init__(self, runtime: Runtime, signalling: Signalling, offers: Offers) -> None:
        self._runtime = runtime
        self._signalling = signalling
        self._announcer = Announcer(offers, runtime)
        self._log_watch = LogWatch(runtime)
        self._fault_watch = FaultWatch(runtime)
        self._state = State(wanted_children(runtime.deployment))
        self._leave: fx.Leave | None = None
        self._killed_until: float | None = None
        self._sweep_at = 0.0
        lag = slice(layout.Master.LAG_BUCKETS, layout.Master.LAG_SUM_NS + 1)
        self._lag = LoopLag(runtime.board.words[lag])
        self._book_lag_at = self._longest_s = 0.0
        self._title = ""
        self._requests: deque[PendingRequest] = deque()
        self._has_answered = False
        wakeup_fd = signalling.wakeup_fd
        runtime.loop.watch(
            wakeup_fd, select.EPOLLIN, lambda _: signals.empty_wakeup_pipe(wakeup_fd)
        )

    def run(self) -> fx.Leave:
        """Run the loop until the core orders Leave, once no child is left, and no
        session either. Return that effect, which has the exit code.
        """
        self._take(ev.Booted())
        while self._leave is None or self._sessions_last():
            self._has_answered = False
            self._runtime.loop.turn(self._timeout_s())
            self._answer_next()
            self._gather()
            while self._runtime.events:
                self._take(self._runtime.events.popleft())
            waiting.look(self._runtime, self._state, now())
            if self._runtime.control is not None:
                self._runtime.control.go_on()
            self._turned()
        sensing.carry_out(self._runtime, sensing.MAX_WAITING)
        self._runtime.sensor_lines.flush()
        self._log_watch.finish()
        return self._leave

    def _turned(self) -> None:
        """Take note of how long this turn was, and book the longest ones."""
        at = now()
        self._longest_s = max(self._longest_s, at - self._runtime.loop.woken_at)
        if at >= self._book_lag_at:
            self._book_lag_at = at + HEARTBEAT_S
            self._lag.book(self._longest_s)
            self._longest_s = 0.0

    def _sessions_last(self) -> bool:
        """Whether sessions without a dispatcher are left, and the master waits for
        them. When their time is over, it kills them, once, and waits until
        ``_killed_until``.
        """
        if not self._runtime.lanes.rows:
            return False
        if self._killed_until is None and now() >= self._state.sessions_end_at:
            self._runtime.lanes.end_unkept(signal.SIGKILL)
            self._killed_until = now() + KILL_S
        return self._killed_until is None or now() < self._killed_until

    def _take(self, event: ev.Event) -> None:
        self._state, effects = step(self._state, event, now())
        if self._state.phase is not MasterPhase.LOADING:
            self._runtime.postponed = None
        self._show()
        for effect in effects:
            if isinstance(effect, fx.Leave):
                self._leave = effect
            else:
                perform(self._runtime, effect)

    def _show(self) -> None:
        """After a change of phase or generation, update the process title and the phase
        on the scoreboard, and inform the service manager.
        """
        title = f"{MASTER_TITLE} {self._state.phase}, generation {self._state.generation}"
        if title != self._title:
            self._title = title
            setproctitle(title)
            phase = layout.MASTER_PHASES.index(self._state.phase)
            self._runtime.board.words[layout.Master.PHASE] = phase
            self._announcer.phase(self._state)

    def _timeout_s(self) -> float:
        if self._runtime.events or self._runtime.reaper.reaped or self._runtime.sensed:
            return 0.0
        if self._requests:
            return 0.0
        deadline_at = sooner(next_deadline(self._state), self._sweep_at)
        if (due_at := self._runtime.deny_list.due_at) is not None:
            deadline_at = sooner(deadline_at, due_at)
        deadline_at = sooner(deadline_at, waiting.due_at(self._runtime))
        deadline_at = sooner(deadline_at, self._runtime.live.due_at)
        if self._leave is not None:
            sessions_end_at = self._killed_until or self._state.sessions_end_at
            return max(0.0, min(sessions_end_at, self._sweep_at) - now())
        if self._runtime.postponed is not None:
            deadline_at = sooner(deadline_at, self._runtime.postponed.again_at)
        return max(0.0, deadline_at - now())

    def _gather(self) -> None:
        """Queue the events that the loop's callbacks do not queue: those of signals,
        deaths and deadlines. Load and sweep when it is time.
        """
        runtime = self._runtime
        self._signalling.take()
        if runtime.postponed is not None and runtime.postponed.again_at <= now():
            perform(runtime, fx.LoadConfig())
        sensing.carry_out(runtime)
        runtime.deny_list.look(now())
        if runtime.live.due_at <= now():
            halting.look(runtime, live_changes.clock())
            levelling.look(runtime, live_changes.clock())
        if now() >= self._sweep_at:
            self._sweep()
        for _ in range(len(runtime.reaper.reaped)):
            account_for(runtime, self._state, runtime.reaper.reaped.popleft())
        deadline_at = next_deadline(self._state)
        if deadline_at is not None and deadline_at <= now():
            runtime.events.append(ev.TimePassed())

    def _sweep(self) -> None:
        runtime = self._runtime
        self._sweep_at = now() + min(SWEEP_S, self._announcer.sweep_within_s)
        with signals.blocked():  # the SIGCHLD handler appends to the same deque
            runtime.reaper.sweep()
        mending.look_after(runtime, self._state)
        if runtime.candidate is None:
            runtime.columns.give_back(runtime.processes.keys() | runtime.lanes.births)
        self._signalling.sweep()
        rotation.look_after(runtime, now())
        ended.keep_own(runtime)
        rounds.look_after(runtime, now())
        listing.look_after(runtime, now())
        levelling.look_after(runtime)
        runtime.lanes.retire(self._state, now())
        runtime.lanes.expire(now())
        runtime.sensor_lines.flush()
        self._log_watch.look(now())
        self._fault_watch.look(self._state)
        sampling.sample(runtime)
        sampling.show_state(runtime, self._state)
        recording.record(runtime)
        feeding.sweep(runtime, self._state)
        if runtime.control is not None:
            for peer in runtime.control.expire():
                runtime.log.event("control.cut_off", by_uid=peer.uid, by_pid=peer.pid)
        runtime.events.append(sampling.beats(runtime))
        self._announcer.sweep(self._state)

    def carry_out(self, control: ControlServer, pending: PendingRequest) -> None:
        """Carry out a request of the control socket. One that takes milliseconds waits
        for its turn: of these, a turn of the loop has one.
        """
        if orders.takes_long(pending.request):
            if self._has_answered or self._requests:
                self._requests.append(pending)
                return
            self._has_answered = True
        orders.carry_out(orders.Order(self._runtime, self._state, pending), control)

    def _answer_next(self) -> None:
        """Carry out the next request that waits for its turn, if there is one. A peer
        that has gone takes no turn.
        """
        control = self._runtime.control
        while self._requests and control is not None and not self._has_answered:
            pending = self._requests.popleft()
            if control.is_waited_for(pending.number):
                self._has_answered = True
                orders.carry_out(orders.Order(self._runtime, self._state, pending), control)
