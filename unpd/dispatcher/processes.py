"""The session processes of a dispatcher: forks them, takes their ends, passes orders
on.

Its own children are reaped by the SIGCHLD handler. Those of an earlier dispatcher,
whose table it has got, became children of the master, which writes their status into
the table when it has reaped them.

Owns the pidfds of the latter: their pids could be used again. The pid of a child is its
own until it is reaped. Called by the dispatcher. Raises OSError if the kernel refuses a
fork, and nothing else.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Container

from unpd.board.layout import NS
from unpd.dispatcher.roll import Roll
from unpd.dispatcher.session import SessionSetup, live
from unpd.kernel import processes, signals
from unpd.kernel.signals import Reaper
from unpd.logs import Log
from unpd.names import ChildOrder, reap_reason
from unpd.services.base import Choosing


class SessionProcesses:
    """The processes of the sessions in ``roll``; those that are there already are of an
    earlier dispatcher.
    """

    def __init__(self, roll: Roll, reaper: Reaper, log: Log, clock: Callable[[], float]) -> None:
        self._roll = roll
        self._reaper = reaper
        self._log = log
        self._clock = clock
        self._own: dict[int, int] = {}  # entries by pid
        self._inherited = {
            index: self._pidfd_of(index, session.pid) for index, session in roll.enrolled.items()
        }

    def _pidfd_of(self, index: int, pid: int) -> int | None:
        """A pidfd of an inherited session. None if it has ended, or without a free
        descriptor: then it gets no orders.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        if self._roll.status(index) is None:
            return pidfd
        os.close(pidfd)  # it was reaped before: the pid may be another process
        return None

    @property
    def inherited(self) -> int:
        """How many sessions of an earlier dispatcher are left."""
        return len(self._inherited)

    def fork(self, index: int, setup: SessionSetup) -> None:
        """Fork the process of the session in an entry. OSError if the kernel refuses.

        Signals are blocked meanwhile, so that the child runs no handler of the
        dispatcher, and loses no signal. A greeting that depends on the one before is
        chosen here, because no session knows the others.
        """
        service = setup.terms.service
        if isinstance(service, Choosing):
            service.choose(time.time())
        with signals.blocked():
            pid = os.fork()
            if pid == 0:
                live(setup)
        self._own[pid] = index
        self._roll.forked(index, pid)
        if isinstance(service, Choosing):
            service.sent()

    def take_ends(self) -> None:
        """Account for the children that have ended."""
        for _ in range(len(self._reaper.reaped)):
            reaped = self._reaper.reaped.popleft()
            index = self._own.pop(reaped.pid, None)
            if index is not None:
                self._ended(index, reaped.status)

    def take_inherited_ends(self) -> None:
        """Account for the sessions of an earlier dispatcher that the master has
        reaped. No signal tells their end.
        """
        for index in list(self._inherited):
            if (status := self._roll.status(index)) is not None:
                pidfd = self._inherited.pop(index)
                if pidfd is not None:
                    os.close(pidfd)
                self._ended(index, status)

    def _ended(self, index: int, status: int) -> None:
        report = processes.decode_wait_status(status)
        reason = reap_reason(report.code, report.signal)
        ended = self._roll.ended(index, reason, int(self._clock() * NS))
        ended.log_death(self._log, reason, str(report))

    def tell(self, order: ChildOrder, indexes: Container[int] | None = None) -> None:
        """Send the signal of an order to the sessions in these entries; None: all."""
        signum = signal.Signals[order.value]
        with signals.blocked():  # no child is reaped meanwhile
            gone = {reaped.pid for reaped in self._reaper.reaped}
            for pid, index in self._own.items():
                if pid not in gone and (indexes is None or index in indexes):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signum)
        for index, pidfd in self._inherited.items():
            if pidfd is not None and (indexes is None or index in indexes):
                processes.send_signal(pidfd, signum)
