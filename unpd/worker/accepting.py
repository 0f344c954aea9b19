"""Accepting from one listener, and what each failure of accept(2) means;
:mod:`unpd.worker.event.intake` has all of a worker's.
"""

import errno
import select
import socket
from dataclasses import dataclass

from unpd.kernel import connections
from unpd.kernel.sockets import tcp_accept_queue
from unpd.names import ACCEPT_ERRNOS
from unpd.worker.event.connection import Terms

BATCH = 16
"""Connections of one listener in one turn: enough to empty a burst, few enough that the
others' turn comes.
"""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
PATIENCE = 16
"""After so many failures in a row the listener rests, whatever they were: where a
security module refuses each accept the connection stays in the queue, and wakes us
again.
"""

# Errors of the process or the machine: no connection can be had until something is
# given back.
_OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# Errors of the listener itself: the worker cannot go on with it.
_BROKEN = frozenset((errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT))
_ERRNO_INDEX = {
    getattr(errno, name): index for index, name in enumerate(ACCEPT_ERRNOS) if name != "other"
}


def errno_cell(number: int) -> int:
    """The place of an errno among the labels of unpd_accept_errors_total; the last one
    stands for all others.
    """
    return _ERRNO_INDEX.get(number, len(ACCEPT_ERRNOS) - 1)


@dataclass(frozen=True, slots=True)
class AcceptFailure:
    """An accept that failed: which error, and whether the listener rests now."""

    number: int
    paused: bool


class Listener:
    """A listening socket in this worker. ``backlog``: the longest its queue can be.
    ``cell``: of the row, for what it accepts. ``resume_at``: when it is watched again
    after a failure (None: it does not rest).
    """

    def __init__(
        self, sock: socket.socket, terms: Terms, text: str, backlog: int, cell: int
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.terms = terms
        self.text = text
        self.cell = cell
        self.resume_at: float | None = None
        self.watched = False
        self._backlog = backlog
        self._is_unix = sock.family == socket.AF_UNIX
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._told_ended = False

    def watch(self, epoll: select.epoll) -> None:
        """Take connections."""
        if not self.watched:
            epoll.register(self.fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            self.watched = True

    def rest(self, epoll: select.epoll) -> None:
        """Leave connections to the kernel's queue and to the other workers."""
        if self.watched:
            epoll.unregister(self.fd)
            self.watched = False

    def accept(self, limit: int, now: float) -> tuple[list[int], AcceptFailure | None]:
        """Accept up to ``limit`` connections: the descriptors of those there are, and
        the failure that ended the batch if one did.

        An error of one connection (accept(2): the peer's network error that came before
        we looked) costs that one only. OSError if the listener itself is broken.
        """
        accepted: list[int] = []
        # To be told that nobody is left costs 3.5 us (accept4(2) makes the socket
        # before it looks), to ask for the number 0.5 us.
        for _ in range(min(limit, self.queued())):
            try:
                accepted.append(self._accept_one())
            except BlockingIOError:
                break
            except OSError as error:
                if accepted and error.errno in _BROKEN:
                    break  # those are served first: its next event says it again
                return accepted, self._failed(error, now, after=len(accepted))
        if accepted:
            self._told_ended = False
            self._failures = 0
            self._pause_s = FIRST_PAUSE_S
        return accepted, None

    def _accept_one(self) -> int:
        fd = connections.accept(self.fd)
        if self._is_unix:
            # An urgent byte is a byte like any other. TCP connections have this from
            # their listener; UNIX ones inherit nothing.
            with connections.borrowed(fd) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        return fd

    def ended(self, now: float) -> AcceptFailure | None:
        """Somebody has ended the listener for all who share it: it rests, until its
        master may have mended it. The failure, the first time.
        """
        self.resume_at = now + LONGEST_PAUSE_S
        told, self._told_ended = self._told_ended, True
        return None if told else AcceptFailure(errno.EINVAL, paused=True)

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

    def queued(self) -> int:
        """How many connections wait in the accept queue now; for a UNIX listener, which
        cannot tell, how many it can hold: one more than its backlog.
        """
        return self._backlog + 1 if self._is_unix else tcp_accept_queue(self.sock)[0]
