"""The listeners of a worker: which of them are watched, and what comes in through them.

A listener is shared with other workers and watched with EPOLLEXCLUSIVE, which the
kernel lets only be added and deleted (EPOLL_CTL_MOD is EINVAL). Adding it looks at the
queue, so that a resumed listener misses nobody. The kernel wakes one worker for a
client and no other: if that one deletes its listener without accepting, cannot accept,
or is stopped or hung, the client waits until the next one comes. So the limit of
connections is looked at between turns, every listener that woke the worker gets its
accept, and once in PATROL_S each worker with room looks into the queues that nobody
woke it for.
"""

import errno
import math
import select
from collections.abc import Callable, Iterable

from unpd.board import layout
from unpd.logs import Log
from unpd.worker.accepting import BATCH, AcceptFailure, Listener, errno_cell
from unpd.worker.event.connection import Terms

PATROL_S = 1.0
"""A client whose wake-up went to a worker that did not take it waits for about twice
that at most.
"""


class Listeners:
    """``open_connection`` is given each new connection: its descriptor and its terms.
    ``cells`` is the worker's row of the scoreboard.
    """

    def __init__(
        self,
        listeners: Iterable[Listener],
        epoll: select.epoll,
        cells: memoryview,
        log: Log,
        open_connection: Callable[[int, Terms], None],
    ) -> None:
        self.resting = False
        """Whether one rests after a failure: then :meth:`watch` is to be called at each
        turn.
        """
        self.taking: bool | None = None
        """Whether there was room when :meth:`watch` was called last."""
        self.patrol_at = 0.0
        self._by_fd = {listener.fd: listener for listener in listeners}
        self._epoll = epoll
        self._cells = cells
        self._log = log
        self._open = open_connection

    def __contains__(self, fd: int) -> bool:
        return fd in self._by_fd

    def terms(self) -> tuple[Terms, ...]:
        """Those of each service, once."""
        return tuple(
            {listener.terms.cells: listener.terms for listener in self._by_fd.values()}.values()
        )

    def highest_fd(self) -> int:
        """-1 if there are none."""
        return max(self._by_fd, default=-1)

    def watch(self, room: bool, now: float) -> None:
        """Watch those that may be watched: there is room for a connection, and they do
        not rest after a failure.
        """
        self.taking = room
        self.resting = False
        for listener in self._by_fd.values():
            if listener.resume_at is not None and listener.resume_at <= now:
                listener.resume_at = None
            if listener.resume_at is not None:
                self.resting = True
            if room and listener.resume_at is None:
                listener.watch(self._epoll)
            else:
                listener.rest(self._epoll)

    def resume_at(self) -> float:
        """When the first of those that rest is to be watched again; inf if none
        rests.
        """
        return min(
            (
                listener.resume_at
                for listener in self._by_fd.values()
                if listener.resume_at is not None
            ),
            default=math.inf,
        )

    def accept_from(self, fd: int, mask: int, room: int, now: float) -> None:
        """Accept what woke us on the listener ``fd`` with the events ``mask``. OSError
        if its descriptor is none of a listener.
        """
        listener = self._by_fd[fd]
        if (
            mask & select.EPOLLHUP
        ):  # which neither its queue tells nor, of a UNIX listener, accept(2)
            self.resting = True
            if (failure := listener.ended(now)) is not None:
                self._count(listener, failure)
            return
        # At least one, even when another listener of this turn took the last place: the
        # kernel woke nobody else for it.
        self._accept(listener, min(BATCH, max(1, room)), now)

    def patrol(self, room: int, now: float) -> None:
        """Accept, as far as there is ``room``, what waits in the queues of those that
        are watched.
        """
        self.patrol_at = now + PATROL_S
        for listener in self._by_fd.values():
            if listener.watched and listener.resume_at is None and room > 0:
                room -= self._accept(listener, min(BATCH, room), now)

    def drain(self, now: float) -> None:
        """Watch none any more; accept what their queues hold at this moment, also above
        the limit of connections, for nobody else may be there to do it; close them.
        """
        for listener in self._by_fd.values():
            listener.rest(self._epoll)
            try:
                self._empty(listener, now)
            except OSError as error:
                self._count(
                    listener, AcceptFailure(error.errno or 0, paused=False)
                )  # it is broken, and its connections live on
            listener.sock.close()
        self._by_fd.clear()

    def _empty(self, listener: Listener, now: float) -> None:
        """As many as there are now, for others may come as fast as we accept; until it
        would have to rest.
        """
        listener.resume_at = None
        left = taken = listener.queued()
        while left > 0 and taken > 0 and listener.resume_at is None:
            taken = self._accept(listener, left, now)
            left -= taken

    def _accept(self, listener: Listener, limit: int, now: float) -> int:
        """A batch; how many were taken out of the queue, those included that failed."""
        accepted, failure = listener.accept(limit, now)
        self._cells[listener.cell] += len(accepted)
        self._cells[listener.terms.cells + layout.Service.ACCEPTED] += len(accepted)
        for fd in accepted:
            self._open(fd, listener.terms)
        if failure is None:
            return len(accepted)
        self.resting = self.resting or failure.paused
        self._count(listener, failure)
        return len(accepted) + 1

    def _count(self, listener: Listener, failure: AcceptFailure) -> None:
        self._cells[
            listener.terms.cells + layout.Service.ACCEPT_ERRORS + errno_cell(failure.number)
        ] += 1
        # One line a pause, and pauses grow: an attacker who holds all descriptors
        # writes one line a second.
        name = errno.errorcode.get(failure.number, str(failure.number))
        self._log.event(
            "accept.failed",
            service=listener.terms.name,
            address=listener.text,
            errno=name,
            paused=failure.paused,
        )
