"""Accepting from one listener, and what each failure of accept(2) means.

A process that shares the listener can clear O_NONBLOCK, and an accept on an empty queue
would then wait without end; accept4(2) has no flag against that. So the flag is set
again where the length of the queue is not known, and the timer of
:func:`unpd.kernel.signals.interrupt_waits` ends a wait that began nevertheless.

Owns the listener's socket in this process, which it shares with others, and its pauses
after failures. Called by :mod:`unpd.worker.event.intake`, which has all listeners of a
worker, and by a dispatcher. Raises OSError if the listener itself is broken; every
other failure is an :class:`AcceptFailure`.
"""

import errno
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from unpd.board import layout
from unpd.kernel.connections import Acceptor, treat_urgent_as_data
from unpd.kernel.tcp_info import tcp_accept_queue
from unpd.logs import Log
from unpd.worker.ledger import Ledger
from unpd.worker.terms import Terms

BATCH = 16
"""How many connections of one listener are accepted in one turn: enough to empty a
burst, few enough that the other descriptors get their turn.
"""
LONGEST_WAIT_S = 2.0
"""How long an accept waits at most if another process has cleared O_NONBLOCK."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
LIMIT_PAUSE_S = 0.05
"""How long a listener rests at a limit of its service that another process may relieve
at any moment.
"""
PATIENCE = 16
"""After so many failures in a row the listener pauses, whatever they were: if a
security module refuses each accept, the connection stays in the queue and wakes us
again.
"""

# Errors of the process or the machine: no accept succeeds until something is released.
_OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# Errors of the listener itself: the worker cannot go on with it.
_BROKEN = frozenset((errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT))

Accepted = tuple[int, bytes]
"""A connection: its descriptor, and its peer's address."""


@dataclass(frozen=True, slots=True)
class AcceptFailure:
    """An accept that failed: its errno, and whether the listener pauses now."""

    number: int
    paused: bool


@dataclass(frozen=True, slots=True)
class ListenerSetup:
    """A listener as a worker gets it: its address for the log, its socket, the limit of
    its accept queue, its ``column`` on the scoreboard.
    """

    text: str
    sock: socket.socket
    backlog: int
    column: int


class Listener:
    """A listening socket in this worker. ``word``: where the row counts what it
    accepts. ``resume_at``: when its pause ends (None: no pause), after a failure or at
    a limit of its service.
    """

    def __init__(
        self,
        setup: ListenerSetup,
        terms: Terms,
        accept_one: Callable[[], Accepted] | None = None,
    ) -> None:
        """``accept_one`` accepts one connection, or raises as accept(2) does; by
        default it is the kernel's.
        """
        self.sock = setup.sock
        self.fd = setup.sock.fileno()
        self.terms = terms
        self.text = setup.text
        self.word = layout.Row.LISTENER_ACCEPTED + setup.column
        self.resume_at: float | None = None
        self.watched = False
        self._is_at_limit = False
        self._backlog = setup.backlog
        self._is_unix = setup.sock.family == socket.AF_UNIX
        self._accept_bare = accept_one or Acceptor(self.fd, setup.sock.family).accept
        self._accept_one = self._accept_unix if self._is_unix else self._accept_bare
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._reported_ended = False

    def rest(self, now: float) -> None:
        """Pause for a moment, because the service is at a limit."""
        self.resume_at = now + LIMIT_PAUSE_S
        self._is_at_limit = True

    def resume(self, now: float) -> None:
        """End the pause if its time is over, or if the service is no longer at its
        limit.
        """
        if self.resume_at is None:
            return
        admission = self.terms.admission
        relieved = self._is_at_limit and admission is not None and admission.has_room(now)
        if relieved or self.resume_at <= now:
            self.resume_at, self._is_at_limit = None, False

    def watch(self, epoll: select.epoll) -> None:
        """Let new connections wake this worker. If the queue holds one already, epoll
        says so at once.
        """
        if not self.watched:
            epoll.register(self.fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            self.watched = True

    def ignore(self, epoll: select.epoll) -> None:
        """Leave new connections to the kernel's queue and to the other workers."""
        if self.watched:
            epoll.unregister(self.fd)
            self.watched = False

    def accept(self, limit: int, now: float) -> tuple[list[Accepted], AcceptFailure | None]:
        """Accept up to ``limit`` connections; return them, and the failure that ended
        the batch, if one did.

        An error of one connection (accept(2): a network error of the peer that came
        before our accept) costs only that connection. OSError if the listener itself is
        broken.
        """
        # An accept on an empty queue costs 3.5 us (accept4(2) makes the socket before
        # it looks), the length of the queue costs 0.5 us.
        return self.accept_queued(min(limit, self.queued()), now)

    def accept_queued(self, count: int, now: float) -> tuple[list[Accepted], AcceptFailure | None]:
        """The same for ``count`` connections, which the queue has just had."""
        accepted: list[Accepted] = []
        if self._is_unix:
            os.set_blocking(self.fd, False)
        for _ in range(count):
            try:
                accepted.append(self._accept_one())
            except BlockingIOError:
                break
            except InterruptedError as error:
                return accepted, self._interrupted(error, now)
            except OSError as error:
                if accepted and error.errno in _BROKEN:
                    break  # serve these first: the next event reports the error again
                return accepted, self._failed(error, now, after=len(accepted))
        if accepted:
            self._reported_ended = False
            self._failures = 0
            self._pause_s = FIRST_PAUSE_S
        return accepted, None

    def _accept_unix(self) -> Accepted:
        """Accept one UNIX connection, which inherits no option from its listener. A
        refused option costs only this connection.
        """
        fd, peer = self._accept_bare()
        try:
            treat_urgent_as_data(fd)
        except OSError as error:
            os.close(fd)
            if error.errno in _BROKEN:  # the connection is broken, not the listener
                raise ConnectionAbortedError(errno.ECONNABORTED, str(error)) from error
            raise
        return fd, peer

    def ended(self, now: float) -> AcceptFailure | None:
        """Another process shut this shared listener down. Stop watching it for
        LONGEST_PAUSE_S; the master may repair it meanwhile. Return the failure, the
        first time.
        """
        self.resume_at = now + LONGEST_PAUSE_S
        reported, self._reported_ended = self._reported_ended, True
        return None if reported else AcceptFailure(errno.EINVAL, paused=True)

    def _interrupted(self, error: InterruptedError, now: float) -> AcceptFailure:
        """The accept waited, because another process cleared O_NONBLOCK. It may do so
        again at once: leave the listener alone for a while, so that the others get
        their turns. ``now``: when the accept began.
        """
        os.set_blocking(self.fd, False)
        self.resume_at = now + LONGEST_WAIT_S + LONGEST_PAUSE_S
        return AcceptFailure(error.errno or 0, paused=True)

    def queued(self) -> int:
        """Return how many connections wait in the accept queue. A UNIX listener cannot
        tell: the most that it can hold, one more than its backlog.
        """
        return self._backlog + 1 if self._is_unix else tcp_accept_queue(self.sock)[0]

    def waiting(self) -> int:
        """Return how many connections wait at least: of a UNIX listener, 1 if any
        does.
        """
        if not self._is_unix:
            return self.queued()
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return len(poll.poll(0))

    def _failed(self, error: OSError, now: float, after: int) -> AcceptFailure:
        number = error.errno or 0
        if number in _BROKEN:
            raise error
        self._failures = 1 if after else self._failures + 1
        if number not in _OUT_OF_RESOURCES and self._failures < PATIENCE:
            return AcceptFailure(number, paused=False)
        self.resume_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return AcceptFailure(number, paused=True)


class Source(Protocol):
    """A listener, as far as its failures are reported."""

    terms: Terms
    text: str


def report_failure(source: Source, failure: AcceptFailure, ledger: Ledger, log: Log) -> None:
    """Count and log an accept that failed."""
    ledger.accept_failed(source.terms, failure.number)
    # One line for each pause, and pauses grow: an attacker who holds all descriptors
    # causes one line a second.
    log.event(
        "accept.failed",
        service=source.terms.name,
        address=source.text,
        errno=errno.errorcode.get(failure.number, str(failure.number)),
        paused=failure.paused,
    )
