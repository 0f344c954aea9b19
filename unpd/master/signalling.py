"""The signals of the master: installs the handlers of the table
:data:`unpd.names.MASTER_SIGNALS`, and turns each signal that came into an event.

Owns the queue of signals that came, the wake-up pipe, and the knowledge whether the
terminal of a foreground run was closed. Made by boot; the shell calls :meth:`take` when
its wait has ended, and :meth:`sweep` once a second. Raises OSError while it installs.

SIGHUP has two senders. An administrator means a reload. The kernel and the shell mean
that the terminal was closed (setsid(2), termios(3)): the process then has no
controlling terminal any more. A SIGHUP that comes within HANG_UP_S after that is a
stop. A later one is a reload again, for the daemon outlived its terminal as a
background job. So is any SIGHUP under nohup(1), which asks for a life without a
terminal.
"""

import signal
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from unpd.core import events as ev
from unpd.kernel import processes, signals, terminal
from unpd.loop import now
from unpd.master.line_limit import LineLimit
from unpd.master.runtime import Runtime
from unpd.names import MASTER_SIGNALS, SignalMeaning

HANG_UP_S = 10.0
"""How long after the end of the terminal a SIGHUP belongs to that end. The kernel sends
it at once; a shell that was busy passes it on later.
"""

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
        number: partial(_EVENTS[row.meaning], row.name)
        for row in MASTER_SIGNALS
        if row.meaning in _EVENTS
        for number in signals.numbers_of(row.name)
    }
)
"""By signal, the function that makes its event. The reaper handles SIGCHLD."""


def meaning(wanted: SignalMeaning) -> tuple[int, ...]:
    """Return the numbers of all signals with this meaning."""
    return tuple(
        number
        for row in MASTER_SIGNALS
        if row.meaning is wanted
        for number in signals.numbers_of(row.name)
    )


class Signalling:
    """The signals of one master. ``wakeup_fd`` is readable when some came."""

    def __init__(self, runtime: Runtime) -> None:
        """Install every handler, and unblock the signals, which the program blocked in
        its first line.
        """
        self._runtime = runtime
        # The handler that comes next hides whether nohup(1) had SIGHUP ignored.
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        watched = not nohup and terminal.controls_us()
        self._terminal = Terminal(watched=watched, has_gone=terminal.has_gone)
        self._notes = LineLimit()
        self.wakeup_fd, _ = signals.open_wakeup_pipe()
        runtime.signal_queue.install((*SIGNAL_EVENTS, *meaning(SignalMeaning.NOTED)))
        signals.ignore(meaning(SignalMeaning.IGNORED))
        runtime.reaper.install()
        signals.unblock_all()

    def take(self) -> None:
        """Queue an event for each signal that came, or note that it is ignored."""
        for signum in self._runtime.signal_queue.take():
            make_event = SIGNAL_EVENTS.get(signum)
            if make_event is None:
                self._note(signum)
            elif signum == signal.SIGHUP and self._terminal.was_closed(now()):
                by = "SIGHUP, because the terminal was closed"
                self._runtime.events.append(ev.StopAsked(quick=False, by=by))
            else:
                self._runtime.events.append(make_event())

    def sweep(self) -> None:
        """Look whether the terminal is still there."""
        self._terminal.look(now())

    def _note(self, signum: int) -> None:
        suppressed = self._notes.take(now())
        if suppressed is not None:
            name = processes.signal_name(signum)
            self._runtime.log.event("signal.ignored", signal=name, suppressed=suppressed)


class Terminal:
    """The terminal that controlled this process at its start, and when it was first
    missing. ``watched``: whether there was one, and whether its end matters.
    """

    def __init__(self, *, watched: bool, has_gone: Callable[[], bool]) -> None:
        self._watched = watched
        self._has_gone = has_gone
        self._gone_at: float | None = None

    def look(self, at: float) -> None:
        """Note the time ``at`` if the terminal is missing for the first time."""
        if self._watched and self._gone_at is None and self._has_gone():
            self._gone_at = at

    def was_closed(self, at: float) -> bool:
        """Whether a SIGHUP that came at ``at`` means that the terminal was closed."""
        self.look(at)
        return self._gone_at is not None and at - self._gone_at <= HANG_UP_S
