"""A session of a redirect: one client and its target, from the accept to the end.

A dial finds the target (:mod:`unpd.worker.redirect.dial`). Nothing is read from the
client before that, so that a target which cannot be reached costs the client nothing
but time. A target that breaks before any byte of either side was passed on was closing
down: the dial goes on behind it.

Then two flows relay (:mod:`unpd.worker.redirect.flow`). The session ends when both have
passed on the FIN of their sources. If one side breaks, the other gets the bytes that
came before, also those that our kernel still has, and then a reset, so that it does not
take a part for the whole. A side that had sent its FIN, or only does not read any more,
has not broken: what it sends goes on. A session that is cut off by a limit resets both
sides; one that is merely idle sends both a FIN.

In a graceful stop a client that waits for an answer is not quiet: its session goes on
for as long as the stop allows, the others end after a moment of silence.

Owns both descriptors and the deadlines, and decides the one
:class:`unpd.names.EndCause`. The intake makes and opens it; the engine calls
:meth:`RelaySession.come_due`. Raises nothing of its own.
"""

import contextlib
import errno
import math
import os
from typing import Any

from unpd.board.ended import RecentEnd
from unpd.kernel import connections as kernel
from unpd.kernel.tcp_info import PathQuality
from unpd.names import EndCause
from unpd.worker.connection_lines import EndedConnection, log_end, log_start
from unpd.worker.event.ending import QUIET_SHARE, cause_of, report_failure, silence_of, why_silent
from unpd.worker.event.session import LOOK_AHEAD_S, QUIET_S
from unpd.worker.event.shared import Shared
from unpd.worker.path_quality import path_fields
from unpd.worker.reception import Entered
from unpd.worker.redirect.dial import Dial
from unpd.worker.redirect.flow import End, Flow
from unpd.worker.redirect.stage import RelayStage
from unpd.worker.redirect.targets import Targets
from unpd.worker.selection import Selection
from unpd.worker.terms import Terms

DELIVERY_S = 0.125
"""How often a session that is being cut off asks whether all bytes have arrived."""
LONGEST_DELIVERY_S = 60.0
"""How long it does so at most after the last byte was acknowledged."""

_IDLE, _STALLED, _SHUTDOWN = EndCause.IDLE, EndCause.STALLED, EndCause.SHUTDOWN


class RelaySession:
    """The state of a session. ``peer``: the client's address, as in
    :class:`unpd.worker.event.session.Session`. ``active_at``: when bytes last moved.
    ``cause``: why the session ends, None while nothing says that it does. ``hold``:
    what it holds of the limit for its source. ``up`` leads from the client to the
    target, ``down`` back.
    """

    __slots__ = (
        "_asks_path",
        "_awaits_answer",
        "_banner_bytes",
        "_broken",
        "_client_was_first",
        "_dial",
        "_errno",
        "_path",
        "_place",
        "_targets",
        "_told_local",
        "_unacknowledged",
        "active_at",
        "cause",
        "client",
        "down",
        "hold",
        "opened_at",
        "peer",
        "shared",
        "stage",
        "target",
        "terms",
        "up",
        "wheel_slot",
    )

    def __init__(self, shared: Shared, terms: Terms, entered: Entered) -> None:
        if terms.targets is None:
            raise AssertionError(f"{terms.name} is no redirect")
        fd, self.peer, self.hold, self._told_local = entered
        self.shared = shared
        self.terms = terms
        self.stage = RelayStage.CONNECTING
        self.cause: EndCause | None = None
        self.opened_at = self.active_at = shared.now
        self.wheel_slot: set[Any] | None = None
        self.client = End(fd, self, splices=terms.relays)
        self.target = End(-1, self)
        self.up = Flow(self.client, self.target, self._moved_up)
        self.down = Flow(self.target, self.client, self._moved_down)
        self._asks_path = True
        self._path: PathQuality | None = None
        self._awaits_answer = False
        self._client_was_first = False
        self._banner_bytes = 0
        self._broken: End | None = None  # the end that was cut off
        self._errno = 0  # of the socket that failed
        self._unacknowledged = 0  # bytes on the way to the other end
        self._targets: Targets = terms.targets
        self._place = -1  # of the target that was reached
        self._dial = Dial(self._targets, self)

    def open(self) -> None:
        """Begin: look for a target."""
        if self.shared.logs_connections:
            fd = self.terms.user_fd(self.client.fd)
            log_start(self.shared.log, self.terms.name, self.peer, fd)
        try:
            self.client.open()
            if self.terms.banner:
                self.down.put(self.terms.banner)
                if self.stage is RelayStage.ENDED:  # the client has gone
                    return
                self._banner_bytes = self.down.read
            self._dial.go_on()
            self.schedule()
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            self.fail(error)

    @property
    def number(self) -> int:
        """The descriptor of the client, or of the target when the client is gone: no
        other session of this process has it.
        """
        return self.client.fd if self.client.fd >= 0 else self.target.fd

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
            "local": kernel.local_text(self.client.fd),
            "age_s": round(now - self.opened_at, 3),
            "received": self.up.read,
            "sent": self.down.written,
            "state": "half_closed" if self._is_half_closed() else self.stage.name.lower(),
            "target": self._target_text(),
            **path_fields(self.client.fd),
        }

    def _is_half_closed(self) -> bool:
        return self.stage is RelayStage.SERVING and (self.up.ended or self.down.ended)

    def _target_text(self) -> str:
        """The target that was reached; "" before that."""
        return self._targets.text(self._place) if self._place >= 0 else ""

    # --- reports of the dial ----------------------------------------------------------

    def reached(self, fd: int, target: int) -> None:
        """Relay between the client and a target."""
        self._place = target
        # Until now nobody could be idle, and nothing could wait for this target.
        self.active_at = self.up.taken_at = self.shared.now
        self.target.fd = fd
        self.target.splices = self._targets.takes_splices(target)
        self.target.open()
        self.stage = RelayStage.SERVING
        try:
            if header := self._targets.header(self.peer, self._told_local, self.client.fd):
                os.write(fd, header)  # a new connection has room for it
        except OSError as error:
            self.lose(self.target, error)
            return
        self.watch()
        self.schedule()

    def unreached(self) -> None:
        """End without a target: reset the client."""
        self._place = -1
        self._targets.unreached(self.peer, self.shared)
        self.reset(EndCause.NO_TARGET)

    # --- reports of the flows ---------------------------------------------------------

    def _moved_up(self, read: int, _written: int) -> None:
        self.active_at = self.shared.now
        self.terms.totals.received += read
        self._awaits_answer = True

    def _moved_down(self, _read: int, written: int) -> None:
        self.active_at = self.shared.now
        self.terms.totals.sent += written
        self._awaits_answer = False
        if self.shared.finish_at < math.inf:
            self.schedule()

    def watch(self) -> None:
        """Have epoll watch for what the flows wait for now."""
        if self.stage is RelayStage.CUT_OFF:
            self._reset_when_delivered()
        elif self.stage is not RelayStage.ENDED:
            self.client.watch()
            self.target.watch()
            if self.up.waits or self.down.waits:
                self.schedule()  # bytes that wait have a deadline of their own

    def flow_ended(self) -> None:
        """End if both directions are over. The cause tells whose FIN came first."""
        if self.up.ended and self.down.ended:
            by_fin = EndCause.CLIENT_FIN if self._client_was_first else EndCause.DONE
            self.end(self.cause or by_fin)
        else:
            self._client_was_first = self.up.ended

    def lose(self, end: End, error: OSError) -> None:
        """Go on without one end, whose socket failed."""
        if end is self._broken:  # and what it sent before has been read
            end.close()
            self._reset_when_delivered()
        elif self.stage >= RelayStage.CUT_OFF:
            self.end(self.cause or EndCause.ERROR)
        elif end is self.target and self._is_untouched():
            self.stage = RelayStage.CONNECTING
            self.target.close()
            self.client.watch()
            self._dial.lost(error.errno or errno.ECONNRESET)
        elif error.errno == errno.EPIPE and self._relays_from(end):
            # It takes no more bytes. Those that it sends are whole: a reset behind a
            # FIN is this error, too, and that before a FIN is another.
            self.cause = self._cause_of(end, error)
            end.incoming.drop()
            self.watch()
        else:
            self._cut_off(end, error)

    def _relays_from(self, end: End) -> bool:
        return self.stage is RelayStage.SERVING and not end.outgoing.ended

    def _is_untouched(self) -> bool:
        """Whether no byte and no FIN of either side was passed on."""
        nothing_sent = not self.up.written and not self.up.ended
        return nothing_sent and self.down.read == self._banner_bytes and not self.down.ended

    def _cause_of(self, end: End, error: OSError) -> EndCause:
        self._errno = error.errno or 0
        if end is self.target:
            return EndCause.TARGET_LOST
        fd, limit_s = end.fd, self.terms.times.user_timeout_s
        return cause_of(error, lambda: silence_of(fd), limit_s)

    def fail(self, error: BaseException) -> None:
        """End because of a fault of ours."""
        report_failure(error, self.terms, self.shared.log, self.shared.now)
        if self.stage is not RelayStage.ENDED:
            self.end(EndCause.ERROR)

    # --- deadlines --------------------------------------------------------------------

    def schedule(self) -> None:
        """Enter the wheel at the next deadline, or move there."""
        now = self.shared.now
        if self.stage is RelayStage.CUT_OFF:
            self.shared.wheel.put(self, now + DELIVERY_S)
        elif self.stage is not RelayStage.ENDED:
            at = min(self.due_at()[0], self._dial.due_at)
            self.shared.wheel.put(self, min(at, now + LOOK_AHEAD_S))

    def due_at(self) -> tuple[float, EndCause]:
        """Return when and why the session ends if nothing happens until then."""
        times, finish_at = self.terms.times, self.shared.finish_at
        at, cause = math.inf, _IDLE
        if times.idle_timeout_s and self.stage is not RelayStage.CONNECTING:
            at = self.active_at + times.idle_timeout_s
        if times.session_timeout_s and self.opened_at + times.session_timeout_s < at:
            at, cause = self.opened_at + times.session_timeout_s, EndCause.SESSION_LIMIT
        taken_at = min((flow.taken_at for flow in self._waiting()), default=math.inf)
        if times.user_timeout_s and taken_at + times.user_timeout_s <= at:
            at, cause = taken_at + times.user_timeout_s, _STALLED
        if finish_at < math.inf:
            stop_at = finish_at if self._is_busy() else min(finish_at, self.active_at + QUIET_S)
            if stop_at < at:
                at, cause = stop_at, _SHUTDOWN
        return at, cause

    def _waiting(self) -> list[Flow]:
        """The flows whose bytes wait for room in a socket. What waits for a target that
        is being looked for has the deadline of the dial.
        """
        return [flow for flow in (self.up, self.down) if flow.waits and flow.sink.fd >= 0]

    def _is_busy(self) -> bool:
        """Whether bytes, a target or an answer are being waited for."""
        waits = self._awaits_answer or self.up.waits or self.down.waits
        return waits or self.stage is RelayStage.CONNECTING

    def _is_quiet(self) -> bool:
        """Whether nothing is being waited for, and nothing has moved for a moment."""
        return not self._is_busy() and self.active_at + QUIET_S <= self.shared.now

    def come_due(self) -> None:
        """Act on the nearest deadline; if activity put it off, move on in the wheel."""
        try:
            if self.stage is RelayStage.CUT_OFF:
                self._reset_when_delivered()
            elif self._dial.due_at <= self.shared.now:
                self._dial.come_due()
            else:
                self._act_on_deadline()
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            self.fail(error)

    def _act_on_deadline(self) -> None:
        at, cause = self.due_at()
        if at > self.shared.now:
            self.schedule()
        elif cause in (_STALLED, _IDLE) and self._waiting():
            self._end_if_silent(cause)
        elif cause is _IDLE or (cause is _SHUTDOWN and self._is_quiet()):
            if not self._heard_more():
                self.end(cause)
        else:
            self.reset(cause)

    def _heard_more(self) -> bool:
        """Read once more before calling a session quiet: bytes may have waited for a
        long turn. True if the session goes on, or has ended.
        """
        before = self.active_at
        for flow in (self.up, self.down):
            if self.stage is RelayStage.SERVING and flow.reads:
                flow.move()
        if self.stage is RelayStage.SERVING and self.active_at == before:
            return False
        self.schedule()
        return True

    def _end_if_silent(self, cause: EndCause) -> None:
        """End if a side has really taken nothing from us."""
        times, stalled = self.terms.times, cause is _STALLED
        limit_s = QUIET_SHARE * times.user_timeout_s if stalled else times.idle_timeout_s
        for flow in self._waiting():
            is_stuck = flow.is_stuck(limit_s, stalled=stalled)
            if self.stage >= RelayStage.CUT_OFF:
                return
            if is_stuck and flow.sink.fd >= 0:  # else the look has lost the target
                self.reset(self._why_silent(flow.sink, cause))
                return
            self.active_at = max(self.active_at, flow.taken_at)
        self.schedule()

    def _why_silent(self, end: End, cause: EndCause) -> EndCause:
        if cause is _IDLE:
            return cause
        if end is self.target:
            return EndCause.TARGET_LOST
        return why_silent(silence_of(end.fd), self.terms.times.user_timeout_s)

    def finish_soon(self) -> None:
        """In a graceful stop: end once the client is quiet."""
        self.schedule()

    # --- ending -----------------------------------------------------------------------

    def _cut_off(self, broken: End, error: OSError) -> None:
        """Go on without what was meant for one end, which failed. The other gets what
        came before, then a reset.
        """
        self.cause = self._cause_of(broken, error)
        self.stage = RelayStage.CUT_OFF
        self.active_at = self.shared.now
        self._broken = broken
        if broken is self.client:
            self._ask_path()
        self._dial.close()
        broken.incoming.drop()
        if broken.outgoing.ended:
            broken.close()
        else:
            broken.outgoing.move_rest(error)
        if self.stage is RelayStage.CUT_OFF:
            self._reset_when_delivered()

    def _reset_when_delivered(self) -> None:
        """Reset the other end when its kernel has acknowledged all bytes: a reset drops
        what is under way. Ask again in a moment if it has not.
        """
        if self._is_under_way() and self.shared.now < self._deliver_until():
            self.client.watch()
            self.target.watch()
            self.schedule()
        else:
            self.reset(self.cause or EndCause.ERROR)

    def _deliver_until(self) -> float:
        limit_s = self.terms.times.session_timeout_s or math.inf
        until = min(self.active_at + LONGEST_DELIVERY_S, self.opened_at + limit_s)
        return min(until, self.shared.finish_at)

    def _is_under_way(self) -> bool:
        """Whether bytes have still to reach the end that did not fail."""
        other = self.target if self._broken is self.client else self.client
        if other.fd < 0:
            return False
        unacknowledged = kernel.unsent(other.fd)
        if unacknowledged != self._unacknowledged:  # a slow reader is no dead one
            self._unacknowledged, self.active_at = unacknowledged, self.shared.now
        is_read = self._broken is not None and self._broken.fd < 0
        return not is_read or other.incoming.waits or unacknowledged > 0

    def reset(self, cause: EndCause) -> None:
        """End now: reset both sides, and drop what waits for them."""
        for end in (self.client, self.target):
            if end.fd >= 0:
                with contextlib.suppress(OSError):
                    kernel.reset_on_close(end.fd)
        self.end(cause)

    def end(self, cause: EndCause) -> None:
        """End now: log the end if that is wanted, count it, close both sides."""
        if self.stage is RelayStage.ENDED:
            return
        shared = self.shared
        duration_s = shared.now - self.opened_at
        if shared.logs_connections:
            log_end(shared.log, self._ended(cause, duration_s))
        self.stage = RelayStage.ENDED
        self._dial.close()
        shared.wheel.remove(self)
        if self.terms.admission is not None:
            self.terms.admission.left(self.hold)
        self._ask_path()
        self._count_end(cause, duration_s)
        for flow in (self.up, self.down):
            flow.drop()
        for end in (self.client, self.target):
            end.close()
            end.sever()
        del self.client, self.target, self.up, self.down, self._dial

    def _count_end(self, cause: EndCause, duration_s: float) -> None:
        ledger = self.shared.ledger
        ledger.ended(self.terms, cause, duration_s)
        ledger.ends.append(
            RecentEnd(
                words=self.terms.words,
                peer=self.peer,
                cause=cause,
                ended_at=self.shared.now,
                duration_s=duration_s,
                received=self.up.read,
                sent=self.down.written,
                path=self._path,
            )
        )

    def _ask_path(self) -> None:
        """Ask once for the path to the client, while its socket is there."""
        shared = self.shared
        if self._asks_path and self.client.fd >= 0:
            self._asks_path = False
            duration_s = shared.now - self.opened_at
            self._path = shared.paths.ask(self.terms, self.client.fd, duration_s, shared.now)

    def _ended(self, cause: EndCause, duration_s: float) -> EndedConnection:
        return EndedConnection(
            service=self.terms.name,
            peer=self.peer,
            fd=self.terms.user_fd(self.client.fd),
            cause=cause,
            duration_s=duration_s,
            received=self.up.read,
            sent=self.down.written,
            target=self._target_text(),
            error=self._errno,
        )
