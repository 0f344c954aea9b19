"""The connections of a dispatcher that have no process yet, in their order.

Mostly there is none: a connection that is let in gets its process at once. If the
kernel refuses the fork, the connection is kept, and the fork is tried again after a
pause. The dispatcher accepts nothing meanwhile. But connections whose load balancer had
not told the client before may be let in, and wait behind the first.

Owns the descriptors of these connections. Kept by the dispatcher. Calls the roll, in
which each has its entry, and raises nothing.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass

from unpd.board import layout
from unpd.dispatcher.roll import Roll
from unpd.kernel.connections import peek
from unpd.logs import Log
from unpd.loop import now
from unpd.names import EndCause
from unpd.services.base import Answering
from unpd.worker.accepting import FIRST_PAUSE_S, LONGEST_PAUSE_S
from unpd.worker.terms import Terms


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection that was let in. ``index``: its entry in the table."""

    terms: Terms
    fd: int
    peer: bytes
    index: int


def ended_unserved(terms: Terms, fd: int) -> EndCause | None:
    """Why a connection needs no process: its client has ended it, and the service says
    nothing to one that has sent nothing. A fork takes longer than a client needs to
    connect and close, so that one such client would keep all others out.
    """
    if terms.banner or not isinstance(terms.service, Answering):
        return None
    try:
        return None if peek(fd, 1) else EndCause.CLIENT_FIN
    except BlockingIOError:
        return None
    except OSError:  # ECONNRESET
        return EndCause.CLIENT_RST


class Unforked:
    """``fork`` forks the session of a connection; OSError if the kernel refuses.
    ``retry_at``: when to call :meth:`retry` next; inf while no connection waits.
    """

    def __init__(self, fork: Callable[[Accepted], None], roll: Roll, log: Log) -> None:
        self.retry_at = math.inf
        self._fork = fork
        self._roll = roll
        self._log = log
        self._queue: deque[Accepted] = deque()
        self._pause_s = FIRST_PAUSE_S

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, accepted: Accepted, ended: EndCause | None = None) -> None:
        """Take a connection, and fork its session, unless others wait. ``ended``: why
        it needs none.
        """
        self._queue.append(accepted)
        if ended is not None:
            self.drop(ended, {accepted.index})
        elif len(self._queue) == 1:
            self.retry()

    def retry(self) -> None:
        """Fork the sessions, until the kernel refuses one. Close our descriptor of
        each: the connection ends when no process has one.
        """
        while self._queue:
            try:
                self._fork(self._queue[0])
            except OSError as error:
                self._refused(self._queue[0], error)
                return
            os.close(self._queue.popleft().fd)
            self._pause_s = FIRST_PAUSE_S
        self.retry_at = math.inf

    def _refused(self, accepted: Accepted, error: OSError) -> None:
        self._roll.fork_failed(accepted.index)
        self.retry_at = now() + self._pause_s
        self._log.event(
            "session.fork_failed",
            service=accepted.terms.name,
            reason=error.strerror or str(error),
            retry_in_s=self._pause_s,
        )
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def drop(self, cause: EndCause, indexes: Container[int] | None = None) -> None:
        """End the connections in these entries; None: all. None of them has logged a
        start.
        """
        for accepted in list(self._queue):
            if indexes is None or accepted.index in indexes:
                self._queue.remove(accepted)
                os.close(accepted.fd)
                ended = self._roll.ended(accepted.index, None, int(now() * layout.NS), cause)
                ended.log_unserved(self._log)
        if not self._queue:
            self.retry_at = math.inf
