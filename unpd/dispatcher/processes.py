"""The session processes of a dispatcher: forks them, takes their ends, passes orders
on.

Its own children are reaped by the SIGCHLD handler. Those of an earlier dispatcher,
whose table it has got, became children of the master, which writes their status into
the table when it has reaped them.

Owns the pidfds of the latter: their pids could be used again. The pid of a child is its
own until it is reaped. Called by the dispatcher. Raises OSError if the kernel refuses a
fork, and nothing else.

:class:`SessionProcesses` has sessions that an engine of ours serves. A kind of sessions
of its own derives from it, such as :class:`unpd.dispatcher.programs.Programs`, and
says what the forked process does, how it is told to end, and what its end means.
"""

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Container
from functools import partial
from typing import Any, NoReturn

from unpd.board.layout import NS
from unpd.dispatcher.roll import ProcessEnd, Roll
from unpd.dispatcher.session import SessionSetup, live
from unpd.kernel import processes, signals
from unpd.kernel.signals import Reaper
from unpd.logs import Log
from unpd.loop import Loop
from unpd.names import ChildOrder
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

    @property
    def due_at(self) -> float:
        """When to call :meth:`look` next."""
        return math.inf

    @property
    def has_trials(self) -> bool:
        """Whether a program is tried: sessions of ours are no programs."""
        return False

    def look(self) -> None:
        """Do what is due: nothing, because a session of ours keeps its own times."""

    def watch(self, loop: Loop) -> None:
        """Watch what the sessions have besides their connections: nothing."""

    def fork(self, index: int, setup: SessionSetup) -> None:
        """Fork the process of the session in an entry. OSError if the kernel
        refuses.
        """
        pid = self._begin(index, setup)
        self._own[pid] = index
        self._roll.forked(index, pid)
        self._forked(index, setup)

    def _begin(self, index: int, setup: SessionSetup) -> int:
        """Begin the process; return its pid. A greeting that depends on the one before
        is chosen here, because no session knows the others. OSError.
        """
        service = setup.terms.service
        if isinstance(service, Choosing):
            service.choose(time.time())
        return fork_into(partial(live, setup))

    def _forked(self, index: int, setup: SessionSetup) -> None:
        """Note that the process exists. The dispatcher still has the connection."""
        service = setup.terms.service
        if isinstance(service, Choosing):
            service.sent()

    def take_ends(self) -> None:
        """Account for the children that have ended."""
        for _ in range(self._heard_out()):
            reaped = self._reaper.reaped.popleft()
            index = self._own.pop(reaped.pid, None)
            if index is not None:
                self._ended(index, ProcessEnd.of(reaped))
            else:
                self._ended_other(reaped.pid, ProcessEnd.of(reaped))

    def _heard_out(self) -> int:
        """How many of the children that were reaped may be accounted for. The SIGCHLD
        handler may add more meanwhile.
        """
        return len(self._reaper.reaped)

    def _ended_other(self, pid: int, end: ProcessEnd) -> None:
        """Account for a child that is no session: sessions of ours have none beside
        them.
        """

    def try_out(self, service: str, fd: int) -> dict[str, Any]:
        """Try a program; return the answer to the master. Sessions of ours are no
        programs.
        """
        os.close(fd)
        return {"error": f"this process has no program of {service}"}

    def take_inherited_ends(self) -> None:
        """Account for the sessions of an earlier dispatcher that the master has
        reaped. No signal tells their end.
        """
        for index in list(self._inherited):
            if (end := self._roll.end_of(index)) is not None:
                pidfd = self._inherited.pop(index)
                if pidfd is not None:
                    os.close(pidfd)
                self._ended(index, end)

    def _ended(self, index: int, end: ProcessEnd) -> None:
        ended = self._roll.reaped(index, end, int(self._clock() * NS))
        ended.log_death(self._log, end.reason, str(end.report))
        ended.log_connection(self._log)

    def tell(self, order: ChildOrder, indexes: Container[int] | None = None) -> None:
        """Give an order to the sessions in these entries; None: all."""
        signum = signal.Signals[order.value]
        with signals.blocked():  # no child is reaped meanwhile
            gone = {reaped.pid for reaped in self._reaper.reaped}
            for pid, index in self._own.items():
                if pid not in gone and (indexes is None or index in indexes):
                    with contextlib.suppress(ProcessLookupError):
                        self._roll.signal(index, signum)
        for index, pidfd in self._inherited.items():
            if pidfd is not None and (indexes is None or index in indexes):
                processes.send_signal(pidfd, signum)


def fork_into(live: Callable[[], NoReturn]) -> int:
    """Fork a process whose whole life is ``live``; return its pid. OSError.

    Signals are blocked meanwhile, so that the child runs no handler of the dispatcher,
    and loses no signal.
    """
    with signals.blocked():
        pid = os.fork()
        if pid == 0:
            live()
    return pid
