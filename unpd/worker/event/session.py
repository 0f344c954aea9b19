"""A session: one client of a service, from its accept to its end.

Owns the conversation, its deadlines and its stream, and decides the one
:class:`unpd.names.EndCause` for which it ends. The intake makes it and opens it; its
stream reports to it; the engine calls :meth:`Session.come_due` when the wheel finds it
due. Raises nothing of its own.
"""

import math
import select
import time
from typing import Any

from unpd.board.ended import RecentEnd
from unpd.kernel import connections as kernel
from unpd.names import EndCause
from unpd.services.base import HandOver, More, Piece, Reply, StreamService, same
from unpd.worker.admission import Hold
from unpd.worker.connection_lines import EndedConnection, log_end, log_start
from unpd.worker.event.ending import QUIET_SHARE, cause_of, report_failure, why_silent
from unpd.worker.event.shared import Shared
from unpd.worker.event.stage import Stage
from unpd.worker.event.stream import Stream
from unpd.worker.path_quality import path_fields
from unpd.worker.selection import Selection
from unpd.worker.terms import Terms

QUIET_S = 0.25
"""In a graceful stop, a client that was silent for this long has sent all that it
wanted to.
"""
LOOK_AHEAD_S = 60.0
"""The wheel never gets a time further ahead than this: it keeps a slot, even an empty
one, until the slot comes up, and a day has many slots.
"""

# To look up a member in its enum costs 0.1 us, because Python 3.11 does it through a
# property. Every session needs the members that are named here.
_SERVING, _PARTING = Stage.SERVING, Stage.PARTING
_LINGERING, _ENDED = Stage.LINGERING, Stage.ENDED
_CLIENT_FIN, _DONE, _IDLE = EndCause.CLIENT_FIN, EndCause.DONE, EndCause.IDLE


class Session:
    """The state of a session. ``reply``: the function that answers received bytes;
    None: they are thrown away. ``more``: the function that speaks unasked, or None.
    ``peer``: the client's address, for :func:`unpd.kernel.connections.address_text`.
    ``active_at``: when bytes last moved. ``taken_at``: while output waits, when the
    socket last took some. ``began_at``: since when ``times`` hold. ``cause``: why we
    are ending the session, None while we are not. ``hold``: what it holds of the limit
    for its source. ``stream``: absent once ENDED.
    """

    __slots__ = (
        "active_at",
        "began_at",
        "cause",
        "hold",
        "linger_at",
        "more",
        "opened_at",
        "peer",
        "reply",
        "shared",
        "stage",
        "stream",
        "taken_at",
        "terms",
        "times",
        "wheel_slot",
    )

    def __init__(
        self, shared: Shared, terms: Terms, fd: int, peer: bytes, hold: Hold | None = None
    ) -> None:
        self.shared = shared
        self.terms = terms
        self.times = terms.times
        self.peer = peer
        self.hold = hold
        self.stream = Stream(fd, self, terms.totals)
        self.reply: Reply | None = None
        self.more: More | None = None
        self.stage = _SERVING
        self.cause: EndCause | None = None
        self.opened_at = self.began_at = self.active_at = self.taken_at = shared.now
        self.linger_at = math.inf
        self.wheel_slot: set[Any] | None = None

    def open(self) -> None:
        """Begin: greet the client. End in good order if the service only greets."""
        if self.shared.logs_connections:
            log_start(
                self.shared.log, self.terms.name, self.peer, self.terms.user_fd(self.stream.fd)
            )
        try:
            self.stream.open()
            if self.terms.banner:
                self.stream.send(self.terms.banner)
            if self.stage is not _ENDED:
                self._begin(self.terms.service)
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            self.fail(error)

    def _begin(self, service: StreamService) -> None:
        conversation = service.converse()
        self.reply = None if conversation is None else conversation.received
        self.more = None if conversation is None else conversation.more
        if (greeting := service.greet(time.time())) and self.reply is None:
            # Greeting and FIN in one segment cost 0.86 to 0.96 of two, depending on the
            # machine. (Before a conversation, the kernel would hold it for 200 ms.)
            self.stream.send(greeting, kernel.send_before_fin)
        elif greeting:
            self.stream.send(greeting)
        if self.stage is _ENDED:
            return
        if self.reply is None:
            self.part(_DONE)
            return
        if self.more is not None:
            self._await_room()
        self.schedule()

    def _hand_over(self, over: HandOver) -> None:
        """Let another service go on with the client, or end."""
        if over.first:
            self.stream.send(over.first)
        if self.stage is _ENDED:
            return
        if over.service is None:
            self.part(_DONE)
            return
        if (times := self.terms.offered.get(over.name)) is not None:
            self.times, self.began_at = times, self.shared.now
            kernel.set_user_timeout(self.stream.fd, times.user_timeout_s)
        self._begin(over.service)
        if over.rest and self.stage is _SERVING:
            self.answer(over.rest)

    @property
    def number(self) -> int:
        """The descriptor of the client's stream: no other session of this process has
        it.
        """
        return self.stream.fd

    def belongs(self, selection: Selection, now: float) -> bool:
        """Whether it belongs to a selection of an operator."""
        return selection.takes(self.terms.name, self.peer, now - self.opened_at)

    def describe(self, now: float) -> dict[str, Any]:
        """Return the facts about the session that an operator may see (see
        worker/questions.py). ``now``: monotonic seconds.
        """
        return {
            "service": self.terms.name,
            "peer": kernel.address_text(self.peer),
            "local": kernel.local_text(self.stream.fd),
            "age_s": round(now - self.opened_at, 3),
            "received": self.stream.received,
            "sent": self.stream.sent,
            "state": self.stage.name.lower(),
            **path_fields(self.stream.fd),
        }

    # --- reports of the stream --------------------------------------------------------

    @property
    def serving(self) -> bool:
        """Whether input is still wanted."""
        return self.stage is _SERVING

    @property
    def relays(self) -> bool:
        """Whether an echo may go back within the kernel."""
        return self.reply is same and self.terms.relays

    def answer(self, piece: Piece) -> bool:
        """Answer received bytes, or throw them away if there is no ``reply``. Return
        whether the answer is these bytes themselves.
        """
        reply = self.reply
        if reply is None:
            return False
        self.active_at = self.shared.now
        if reply is same:
            self.stream.send(piece)
            return True
        answer = reply(piece)
        if isinstance(answer, HandOver):
            self._hand_over(answer)
            return False
        if answer:
            self.stream.send(answer)
        if self.more is not None:
            self._await_room()
        return False

    def room(self) -> None:
        """Let the service speak unasked: no output is pending, and the socket has room.
        In a graceful stop it no longer does, so that its client falls quiet.
        """
        more = self.more
        if more is None or self.shared.finish_at < math.inf:
            self.stream.watch(select.EPOLLIN)
            self.schedule()
            return
        if (piece := more()) is None:
            self.part(_DONE)
        elif piece:
            self.active_at = self.taken_at = self.shared.now
            self.stream.send(piece)
        else:
            self.stream.watch(select.EPOLLIN)

    def _await_room(self) -> None:
        """Have the stream call :meth:`room` when the socket has room. While output is
        pending, :meth:`output_flushed` does so later.
        """
        if self.stage is _SERVING and not self._waits_for_room():
            self.stream.watch(select.EPOLLIN | select.EPOLLOUT)
            self.schedule()

    def _waits_for_room(self) -> bool:
        """Whether output is pending, or would be if the service had been asked for it:
        the last piece may have filled the socket exactly.
        """
        return bool(self.stream.out) or bool(self.stream.mask & select.EPOLLOUT)

    def peer_finished(self) -> None:
        """Take the peer's FIN: send what is pending, then end."""
        if self.stream.out:
            self.stage = Stage.HALF_CLOSED
            self.stream.watch(select.EPOLLOUT)
            self.schedule()
        else:
            self.end(self.cause or _CLIENT_FIN)

    def output_flushed(self) -> None:
        """After the last pending byte was sent, go on: end, send our FIN, or serve."""
        if self.stage is Stage.HALF_CLOSED:
            self.end(_CLIENT_FIN)
            return
        speaks = self.more is not None and self.stage is _SERVING
        self.stream.watch(select.EPOLLIN | select.EPOLLOUT if speaks else select.EPOLLIN)
        if self.stage is _PARTING:
            self._linger()
        elif self.shared.finish_at < math.inf:
            self.schedule()

    def lose(self, error: OSError) -> None:
        """End because the socket failed. If we were ending the session already, the
        cause stays as it was.
        """
        cause = self.cause or cause_of(error, self.stream.silence, self.times.user_timeout_s)
        self.end(cause, error.errno or 0)

    def fail(self, error: BaseException) -> None:
        """End because the service or the engine raised an exception."""
        report_failure(error, self.terms, self.shared.log, self.shared.now)
        if self.stage is not _ENDED:
            self.end(EndCause.ERROR)

    # --- deadlines --------------------------------------------------------------------

    def schedule(self) -> None:
        """Enter the wheel at the next deadline, or move there."""
        shared = self.shared
        at, _ = self.due_at(shared.finish_at)
        shared.wheel.put(self, min(at, shared.now + LOOK_AHEAD_S))

    def due_at(self, finish_at: float) -> tuple[float, EndCause]:
        """Return when and why the session ends if nothing happens until then.
        ``finish_at``: when a graceful stop ends the last session; inf if no stop is
        under way.
        """
        if self.stage >= _PARTING:
            return self.linger_at, self.cause or _DONE
        times, pending = self.times, self._waits_for_room()
        at, cause = math.inf, _IDLE
        if times.idle_timeout_s:
            at = self.active_at + times.idle_timeout_s
        if times.session_timeout_s and self.began_at + times.session_timeout_s < at:
            at, cause = self.began_at + times.session_timeout_s, EndCause.SESSION_LIMIT
        if pending and times.user_timeout_s and self.taken_at + times.user_timeout_s <= at:
            at, cause = self.taken_at + times.user_timeout_s, EndCause.STALLED
        if finish_at < math.inf:
            stop_at = finish_at if pending else min(finish_at, self.active_at + QUIET_S)
            if stop_at < at:
                at, cause = stop_at, EndCause.SHUTDOWN
        return at, cause

    def come_due(self) -> None:
        """Act on the nearest deadline; if activity put it off, move on in the wheel."""
        try:
            self._act_on_deadline()
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            self.fail(error)

    def _act_on_deadline(self) -> None:
        at, cause = self.due_at(self.shared.finish_at)
        if at > self.shared.now:
            self.schedule()
        elif self.stage >= _PARTING:
            self._end_lingering(cause)
        elif cause in (EndCause.STALLED, _IDLE) and self._waits_for_room():
            self._end_if_silent(cause)
        elif self.stage is Stage.HALF_CLOSED:
            self.reset(cause)
        elif cause not in (EndCause.SHUTDOWN, _IDLE) or not self._heard_more():
            self.part(cause)

    def finish_soon(self) -> None:
        """In a graceful stop: linger no longer than the stop allows, and end once the
        client is quiet.
        """
        self.linger_at = min(self.linger_at, self.shared.now + self.shared.linger_s)
        self.schedule()

    def _heard_more(self) -> bool:
        """Read once more before calling a peer quiet: its data may have waited for a
        long turn. True if this read left the caller nothing to do: the session goes on,
        or no longer serves.
        """
        if not self.stream.mask & select.EPOLLIN:
            return False
        before = self.active_at
        self.stream.ready(select.EPOLLIN)
        if self.stage is not _SERVING:
            return True
        if self.active_at == before or self.shared.now >= self.shared.finish_at:
            return False
        self.schedule()
        return True

    def _end_if_silent(self, cause: EndCause) -> None:
        """End if the peer has really taken nothing from us. We may have missed that it
        did: a socket is writable only when a part of its buffer is free, and a slow
        reader may still be emptying that part.
        """
        times, before, known = self.times, self.taken_at, self.stream.silence()
        if known.sent_s == math.inf:  # only a write tells whether a UNIX peer reads
            self.stream.flush()
        if self.stage is _ENDED:
            return
        stalled = cause is EndCause.STALLED
        limit_s = QUIET_SHARE * times.user_timeout_s if stalled else times.idle_timeout_s
        if self.taken_at != before:
            self.schedule()
        elif known.sent_s < limit_s and (known.acknowledged_s < limit_s or not stalled):
            self.taken_at = self.shared.now - known.sent_s
            self.active_at = max(self.active_at, self.taken_at)
            self.schedule()
        elif stalled:
            self.reset(why_silent(known, times.user_timeout_s))
        elif self.stage is _SERVING:
            self.part(cause)
        else:
            self.reset(cause)

    # --- ending -----------------------------------------------------------------------

    def part(self, cause: EndCause) -> None:
        """End in good order: send the pending output, then our FIN, then wait for the
        peer's FIN.
        """
        shared = self.shared
        self.cause = cause
        self.stage = _PARTING
        self.linger_at = shared.now + shared.linger_s
        shared.wheel.put(self, self.linger_at)
        if self.more is not None:  # it may have waited for room
            self.more = None
            self.stream.watch(select.EPOLLIN)
        if self.reply is not None:
            self.reply = None
            self.stream.expect_fin()
        if self.stream.out:
            self.stream.watch(select.EPOLLOUT)
        else:
            self._linger()

    def _linger(self) -> None:
        self.stage = _LINGERING
        self.stream.send_fin()

    def _end_lingering(self, cause: EndCause) -> None:
        if self.stream.out:
            self.reset(cause)
        else:
            self.end(cause)

    def reset(self, cause: EndCause) -> None:
        """End now, and drop the pending output. OSError."""
        self.stream.reset_on_close()
        self.end(cause)

    def end(self, cause: EndCause, error: int = 0) -> None:
        """End now: log the end if that is wanted, count it, close the stream.
        ``error``: the errno of a socket that failed.
        """
        shared = self.shared
        duration_s = shared.now - self.opened_at
        if shared.logs_connections:
            log_end(shared.log, self._ended(cause, duration_s, error))
        self.stage = _ENDED
        shared.wheel.remove(self)
        if self.terms.admission is not None:  # the place is free before the end is counted
            self.terms.admission.left(self.hold)
        terms, stream, ledger, now = self.terms, self.stream, shared.ledger, shared.now
        path = shared.paths.ask(terms, stream.fd, duration_s, now)
        ledger.ended(terms, cause, duration_s)
        # Without names: 0.2 us less for each connection.
        ledger.ends.append(
            RecentEnd(
                terms.words, self.peer, cause, now, duration_s, stream.received, stream.sent, path
            )
        )
        self.stream.close()
        # The two refer to each other: without this, they would stay in memory until the
        # next garbage collection.
        del self.stream

    def _ended(self, cause: EndCause, duration_s: float, error: int) -> EndedConnection:
        return EndedConnection(
            service=self.terms.name,
            peer=self.peer,
            fd=self.terms.user_fd(self.stream.fd),
            cause=cause,
            duration_s=duration_s,
            received=self.stream.received,
            sent=self.stream.sent,
            error=error,
        )
