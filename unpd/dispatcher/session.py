"""The life of a session process: one client, from the fork to the end.

The dispatcher calls :func:`live` in the child that it has just forked, with all signals
blocked. The child closes the listeners first, as UNP's concurrent server does: while a
listener is open in any process, the kernel completes handshakes for it. Then it serves
its connection with the engine of a worker, and exits. It never returns into the frames
of the dispatcher.

It belongs to its client: it does not die with its dispatcher. It takes the orders of a
worker. If its client is denied, the order to leave comes with a word in its entry. It
enters its pid into its entry of the table of sessions, counts there, and writes nothing
else there.

Known gaps: a session writes to the log file that was open when it was forked, also
after a rotation; and it shares the file's description with its dispatcher.
"""

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NoReturn

from setproctitle import setproctitle

from unpd.board.layout import Session
from unpd.board.memory import wrapped
from unpd.board.sessions import kicked_for
from unpd.errors import error_text
from unpd.kernel import processes, signals
from unpd.kernel.connections import address_text
from unpd.logs import Log, trace_of
from unpd.names import ExitCode
from unpd.worker.event.engine import Engine, EngineSetup
from unpd.worker.orders import Orders, Signals
from unpd.worker.selection import Kick, Selection
from unpd.worker.terms import Terms, Totals

LONGEST_TURN_S = 3600.0
"""A session sleeps until its client or a deadline wakes it: nobody reads its
heartbeat.
"""


@dataclass(frozen=True, slots=True)
class SessionSetup:
    """Everything a session gets. ``terms``: of its service in the dispatcher. ``fd``
    and ``peer``: its connection. ``entry``: its words of the table. ``listeners``: what
    it closes first. ``retired``: the dispatcher was ordered to retire.
    ``dispatcher_pid``: its own.
    """

    terms: Terms
    fd: int
    peer: bytes
    entry: memoryview
    listeners: Iterable[Callable[[], None]]
    signals: Signals
    grace_s: float
    log: Log
    retired: bool
    dispatcher_pid: int


def live(setup: SessionSetup) -> NoReturn:
    """Serve the connection, and exit."""
    code = ExitCode.FAILED
    try:
        if enter_pid(setup.entry, setup.dispatcher_pid):
            _live(setup)
        code = ExitCode.DONE
    except BaseException as error:  # noqa: BLE001 - the top of a process
        setup.log.event("session.crashed", error=error_text(error), trace=trace_of(error))
    finally:
        os._exit(code)


def enter_pid(entry: memoryview, dispatcher_pid: int) -> bool:
    """Enter our pid, as the dispatcher does: it may die before it can. False if it died
    before we could: then the master has booked the connection as lost.
    """
    if os.getppid() != dispatcher_pid:
        return False  # the entry may be another session's by now
    entry[Session.PID] = os.getpid()
    return os.getppid() == dispatcher_pid


def _live(setup: SessionSetup) -> None:
    for close_listener in setup.listeners:
        close_listener()
    log = _settle_in(setup)
    terms = replace(setup.terms, words=Session.COUNTS, totals=Totals(), admission=None)
    engine = Engine(
        EngineSetup(
            listeners=(),
            handed=(terms,),
            max_connections=1,
            row=setup.entry,
            log=log,
            alone=True,
            counts_turns=False,
        )
    )
    # The handlers of the dispatcher do for a session too.
    list(setup.signals.queue.take())
    wakeup_fd, _ = signals.open_wakeup_pipe()
    orders = Orders(
        engine, replace(setup.signals, wakeup_fd=wakeup_fd), setup.grace_s, drain=_nothing_to_drain
    )
    orders.retired = setup.retired
    orders.watch()
    signals.unblock_all()
    engine.take_over(terms, setup.fd, setup.peer)
    while engine.open and not orders.leaving:
        engine.turn(LONGEST_TURN_S)
    if cause := kicked_for(setup.entry):
        engine.kick(Kick(Selection(), cause))
    engine.leave()


def _settle_in(setup: SessionSetup) -> Log:
    """Give up what is the dispatcher's: its wake-up pipe, its reaper, its descriptors.
    Take a title.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sink, entry, name = setup.log.sink, setup.entry, setup.terms.name
    processes.close_all_but((0, 1, 2, *sink.fds, setup.fd))
    sink.forget_rest()
    sink.on_drop = lambda: _count_dropped(entry)
    setproctitle(f"unpd: session {name} {address_text(setup.peer)}")
    return setup.log.child(role="session", pid=os.getpid())


def _count_dropped(entry: memoryview) -> None:
    entry[Session.LOG_DROPPED] = wrapped(entry[Session.LOG_DROPPED] + 1)


def _nothing_to_drain() -> None:
    """A session takes no new connections anyway."""
