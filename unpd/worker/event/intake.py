"""The intake: which listeners of a worker are watched, and what comes in through them.

Listeners are shared with other workers and watched with EPOLLEXCLUSIVE, which the
kernel only lets be added and deleted (EPOLL_CTL_MOD is EINVAL). Adding a listener looks
at its queue, so that a client that came meanwhile is not missed.

The kernel wakes one worker for a client and no other. If that worker deletes its
listener without accepting, cannot accept, is stopped or hangs, the client waits until
the next one comes. So the limit of connections is looked at between turns, every
listener that woke the worker gets its accept, and each worker with room looks every
PATROL_S into the queues for which it was not woken.

The kernel wakes the first idle worker in the order in which they added the listener,
again and again the same one. So a worker that holds clearly more connections than its
siblings deletes and adds its listener after an accept, which puts it last (nginx does
so too, in ngx_reorder_accept_events); and before the accept it lets the siblings run
that have been woken and wait for its processor (sched_yield(2)). No client waits for
that if this worker alone is awake: sched_yield then returns at once, and adding the
listener looks at the queue. Of 2,000 connections on 16 workers and two processors, one
worker had 666 and the median 0 without this, 591 without sched_yield, 181 with both.

The kernel shows a worker its listeners in the order in which they were added. So the
last listener that accepted is added last: otherwise the first one, if its queue is
never empty, would get every place that becomes free.

A service may have a limit at which clients wait in the accept queue
(:meth:`unpd.worker.admission.Admission.reserve`). A worker takes no more at once than
its share of the room, and no more than BATCH. At the limit its listeners rest for a
moment: any process may free a place. So do those of a service that an operator has
paused: within the same moment each worker notices that it was resumed.

Owns which listeners are watched. The engine calls it at each turn, listeners wake it;
it opens a session for each connection that the reception lets in, and counts in the
ledger. Those of load balancers go to the arrivals first. A listener that is broken for
good raises OSError; other failures are counted and logged.
"""

import functools
import math
import os
import select
from collections.abc import Iterable, Sequence

from unpd.worker.accepting import BATCH, AcceptFailure, Listener, report_failure
from unpd.worker.event.poller import Watcher
from unpd.worker.event.session import Session
from unpd.worker.event.shared import Shared
from unpd.worker.reception import Entered
from unpd.worker.redirect.session import RelaySession
from unpd.worker.siblings import Siblings

PATROL_S = 1.0
"""A client whose wake-up went to a worker that did not take it waits for about twice
this time at most.
"""


class Intake:
    """The listeners of one worker.

    ``has_room``: whether there was room for a connection at the last call of
    :meth:`watch`; None if the next one has to come. ``pausing``: a listener pauses
    after a failure. The engine calls ``watch`` when the room changes, and at each turn
    while a listener pauses.
    """

    def __init__(
        self,
        listeners: Iterable[Listener],
        siblings: Siblings | None,
        max_connections: int,
        shared: Shared,
        *,
        alone: bool = False,
    ) -> None:
        """``alone``: no other worker shares the listeners."""
        self.has_room: bool | None = None
        self.pausing = False
        self.patrol_at = 0.0
        self._listeners = list(listeners)
        self._begin = 0  # where a round of the listeners begins
        self._siblings = siblings
        self._max_connections = max_connections
        self._alone = alone
        self._shared = shared
        for listener in self._listeners:
            woken = functools.partial(self._woken, listener)
            shared.poller.place(listener.fd, Watcher(woken))

    def watch(self) -> None:
        """Watch every listener that does not pause, if there is room for a connection;
        else none.
        """
        now, epoll = self._shared.now, self._shared.poller.epoll
        self.has_room = self._room() > 0
        self.pausing = False
        for listener in self._round():
            listener.resume(now)
            if listener.resume_at is not None:
                self.pausing = True
            if self.has_room and listener.resume_at is None:
                listener.watch(epoll)
            else:
                listener.ignore(epoll)

    def resume_at(self) -> float:
        """Return when the first pause ends; inf if no listener pauses."""
        pauses = (listener.resume_at for listener in self._listeners)
        return min((at for at in pauses if at is not None), default=math.inf)

    def patrol(self) -> None:
        """Accept what waits in the queues of the watched listeners, as far as there is
        room.
        """
        self.patrol_at = self._shared.now + PATROL_S
        for listener in self._round():
            room = self._room()
            if listener.watched and listener.resume_at is None and room > 0:
                self._accept(listener, min(BATCH, room))

    def drain(self) -> None:
        """Stop watching; accept what the queues hold at this moment, also above the
        limit of connections, because no other worker may be left to do it; close the
        listeners. A worker that has its listeners alone keeps its limit: the queue
        belongs to its successor.
        """
        for listener in self._listeners:
            listener.ignore(self._shared.poller.epoll)
            try:
                self._empty(listener)
            except OSError as error:
                # The listener is broken, and its connections live on.
                self._report(listener, AcceptFailure(error.errno or 0, paused=False))
            self._shared.poller.forget(listener.fd)
            listener.sock.close()
        self._listeners.clear()

    def _round(self) -> list[Listener]:
        """The listeners, from the one behind the last that accepted."""
        return self._listeners[self._begin :] + self._listeners[: self._begin]

    def _room(self) -> int:
        return self._max_connections - self._shared.ledger.open

    def _woken(self, listener: Listener, mask: int) -> None:
        if mask & select.EPOLLHUP:
            # Neither the queue's length nor, of a UNIX listener, accept(2) tells this.
            self.pausing = True
            if (failure := listener.ended(self._shared.now)) is not None:
                self._report(listener, failure)
            return
        crowded = self._siblings is not None and self._siblings.have_clearly_fewer(
            self._shared.ledger.open, self._shared.now
        )
        if crowded:
            os.sched_yield()
        # At least one, even if another listener of this turn took the last place: the
        # kernel woke no other worker for it.
        self._accept(listener, self._bounded(min(BATCH, max(1, self._room()))))
        if crowded and listener.resume_at is None:
            listener.ignore(self._shared.poller.epoll)
            listener.watch(self._shared.poller.epoll)
        if self._alone and self._room() <= 0:
            # A place may become free before the next call of watch(), which has to add
            # the listeners in their order again.
            listener.ignore(self._shared.poller.epoll)
            self.has_room = None

    def _empty(self, listener: Listener) -> None:
        """Accept as many connections as wait now (more may come as fast as we accept),
        until the listener would have to pause.
        """
        listener.resume_at = None
        left = taken = self._bounded(listener.queued())
        while left > 0 and taken > 0 and listener.resume_at is None:
            taken = self._accept(listener, left)
            left -= taken

    def _bounded(self, count: int) -> int:
        """``count``, but no more than there is room for if no other worker shares the
        listeners.
        """
        return min(count, max(0, self._room())) if self._alone else count

    def _accept(self, listener: Listener, limit: int) -> int:
        """Accept a batch; return how many left the queue, failed ones included."""
        admission = listener.terms.admission
        if admission is None or not admission.queues:
            return self._accept_batch(listener, min(limit, listener.queued()))
        taken, limit = 0, min(limit, listener.queued())
        while taken < limit:
            room = admission.reserve(min(limit - taken, BATCH), self._shared.now)
            if not room:
                listener.rest(self._shared.now)
                self.pausing = True
                self._shared.reception.held_back(
                    listener.terms, listener.waiting(), self._shared.now
                )
                break
            try:
                batch = self._accept_batch(listener, room)
            finally:
                admission.release()
            taken += batch
            if batch < room or listener.resume_at is not None:
                break
        return taken

    def _accept_batch(self, listener: Listener, count: int) -> int:
        """Accept ``count`` connections, which the queue has just had: its length is
        asked once, not for each of them.
        """
        shared, terms = self._shared, listener.terms
        accepted, failure = listener.accept_queued(count, shared.now)
        taken = len(accepted)
        if taken:
            self._begin = self._listeners.index(listener) + 1
        if terms.admission is not None and terms.admission.has_proxies:
            enter = functools.partial(self._enter, listener)
            accepted = shared.arrivals.take(terms, accepted, enter)
        self._enter(listener, shared.reception.admit(terms, accepted, shared.now))
        if failure is None:
            return taken
        self.pausing = self.pausing or failure.paused
        self._report(listener, failure)
        return taken + 1

    def _enter(self, listener: Listener, entered: Sequence[Entered]) -> None:
        """Open the sessions of connections that were let in."""
        shared, terms = self._shared, listener.terms
        if entered:
            shared.ledger.accepted(listener.word, terms, len(entered))
        for one in entered:
            if terms.targets is None:
                fd, peer, hold, _ = one
                Session(shared, terms, fd, peer, hold).open()
            else:
                RelaySession(shared, terms, one).open()

    def _report(self, listener: Listener, failure: AcceptFailure) -> None:
        report_failure(listener, failure, self._shared.ledger, self._shared.log)
