"""The engine: a level-triggered epoll loop over non-blocking sockets, and the life of
every connection on it.

What decides its speed: connections are bare descriptors (:mod:`unpd.kernel.connections`
says why); much is read into one buffer for all of them, little into a small object; a
reply that the socket takes at once is never copied; what is echoed in bulk does not
leave the kernel (:mod:`unpd.kernel.relay`); options are inherited from the listener;
the monotonic clock is read and the bytes are booked once a turn.

What bounds it: a connection is read while less than HIGH_WATER bytes of its output are
pending (reading on with some output pending keeps a bulk flow moving), and again below
LOW_WATER; ``max_connections`` are served at a time, the rest waits in the kernel's
queue; every connection has its deadlines in the wheel.

Why a connection ends is decided here, once, and is one of :class:`unpd.names.EndCause`.
"""

import errno
import itertools
import math
import mmap
import select
import socket
import struct
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from os import close, read, readv, write
from typing import Any

from unpd.board import layout
from unpd.kernel import connections as kernel
from unpd.kernel.relay import Relay
from unpd.logs import Log
from unpd.loop import now
from unpd.names import EndCause
from unpd.services.base import Piece, same
from unpd.worker.accepting import Listener
from unpd.worker.event.connection import BULK, LINGER_S, Connection, Stage, Terms, Traffic
from unpd.worker.event.deadlines import Wheel
from unpd.worker.event.ending import cause_of, peer_name, silence_of, why_silent
from unpd.worker.event.intake import Listeners

LITTLE_BYTES = 512 - sys.getsizeof(b"")
"""Of a little read: what the interpreter allocates from its own pools. That costs 0.2
us less than a great read, into the buffer for all, and a view of it. Reads are little
after two that brought less (the first of them may have brought the rest of a message),
or after the first one of a connection; one that is filled is followed by great ones.
"""
READ_BYTES = 512 * 1024
"""Of a great read, and of what is relayed at a time. What is copied in bulk has, over
the rate with 512 KiB, 0.81 with 128 KiB, 0.91 with 256 KiB, 1.07 with 1 MiB; but of a
client that reads nothing up to this much is kept beyond HIGH_WATER. What is relayed is
no faster with 4 MiB.
"""
BULK_BYTES = 64 * 1024
"""A piece of this size or more is one of a flow in bulk. Where the service sends back
what comes, the next one is relayed within the kernel, up to READ_BYTES of it: on
loopback bulk echo has 1.7 of the rate of copying, at 0.6 of its processor time, and
round trips of 64 KiB on 50 connections 1.2.
"""
HIGH_WATER_BYTES = 256 * 1024
LOW_WATER_BYTES = 64 * 1024
MAX_EVENTS = 64
"""Of a turn: enough to pay for it, and what the interpreter takes from malloc(3) for
the answer of epoll_wait(2) is small enough to be found at once.
"""
LONGEST_TURN_S = 1.0
"""The heartbeat is written about this often at least."""
BEAT_S = 0.01
"""And not more often than this: a cell costs 0.1 us, as much as a tenth of a short
turn.
"""
LOOK_AHEAD_S = 60.0
QUIET_SHARE = 0.9
"""For this part of the user timeout the kernel must have sent nothing, or the peer
acknowledged nothing, before a peer is given up.
"""

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_NOT_OUT = select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP
# A member asked of its class costs 0.1 us, because Python 3.11 answers with a property:
# the ones of the well-worn way are named here.
_SERVING = Stage.SERVING
_DONE, _CLIENT_FIN = EndCause.DONE, EndCause.CLIENT_FIN
_ENDED_CELL = {cause: layout.Service.ENDED + index for index, cause in enumerate(layout.END_CAUSES)}
_LINGER_RESET = struct.pack("ii", 1, 0)


class Engine:
    """The connections of one worker. ``cells`` is the worker's row of the
    scoreboard.
    """

    def __init__(
        self, listeners: Iterable[Listener], max_connections: int, cells: memoryview, log: Log
    ) -> None:
        self.epoll = select.epoll()
        self.count = 0
        """Of the connections there are."""
        self.max_connections = max_connections
        self.finish_at = math.inf
        self._linger_s = LINGER_S
        self._cells = cells
        self._log = log
        self._told = log.debugging
        self._wheel: Wheel[Connection] = Wheel()
        # The kernel gives the lowest number that is free: a list of them has few gaps,
        # costs 8 bytes a connection where a dict costs 60, and is looked into in half
        # the time.
        self._by_fd: list[Connection | None] = []
        self._listeners = Listeners(listeners, self.epoll, cells, log, self._open)
        self._cover(self._listeners.highest_fd())
        self._terms = self._listeners.terms()
        self._first_look_s = {
            terms.cells: min(
                terms.idle_timeout_s or math.inf, terms.session_timeout_s or math.inf, LOOK_AHEAD_S
            )
            for terms in self._terms
        }
        # Mapped, not allocated: of its 512 KiB only what clients ever filled is memory.
        self._buffer = memoryview(mmap.mmap(-1, READ_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._buffers = (self._buffer,)
        self._relay = Relay(READ_BYTES)
        self._calls: dict[int, Callable[[], None]] = {}
        self._now = now()
        self._beat_at = 0.0

    # --- the turn ---------------------------------------------------------------------

    def watch(self, fd: int, call: Callable[[], None]) -> None:
        """Call ``call()`` when ``fd`` is readable (the wake-up pipe)."""
        self.epoll.register(fd, _IN)
        self._calls[fd] = call
        self._cover(fd)

    def connections(self) -> list[Connection]:
        """Those there are."""
        return [connection for connection in self._by_fd if connection is not None]

    def turn(self) -> None:
        """Wait once, serve what is ready, end what is due. Writes the heartbeat, if the
        last one is not quite new.
        """
        # Many a turn serves two or three connections only, also under load, where they
        # come as fast as they are served: what need not be asked at each is not.
        listeners, wheel = self._listeners, self._wheel
        if (self.count < self.max_connections) is not listeners.taking or listeners.resting:
            listeners.watch(self.count < self.max_connections, self._now)
        wait_s = wheel.next_at - self._now
        if listeners.resting:
            wait_s = min(wait_s, listeners.resume_at() - self._now)
        events = self.epoll.poll(
            LONGEST_TURN_S if wait_s > LONGEST_TURN_S else max(0.0, wait_s), MAX_EVENTS
        )
        self._now = now_ = now()
        if now_ - self._beat_at >= BEAT_S:
            self._beat_at = now_
            self._cells[layout.Row.BEAT_NS] = int(now_ * layout.NS)
        self._serve(events)
        if wheel.next_at <= now_:
            for connection in wheel.due(now_):
                self._look_at(connection)
        if listeners.patrol_at <= now_:
            listeners.patrol(self.max_connections - self.count, now_)
            self._relay.release_if_unused()
        for terms in self._terms:
            if terms.traffic.echoed or terms.traffic.received or terms.traffic.sent:
                self._book(terms)

    def _book(self, terms: Terms) -> None:
        traffic = terms.traffic
        if received := traffic.received + traffic.echoed:
            self._cells[terms.cells + layout.Service.RECEIVED] += received
        self._cells[terms.cells + layout.Service.SENT] += traffic.sent + traffic.echoed
        traffic.received = traffic.sent = traffic.echoed = 0

    def _cover(self, fd: int) -> None:
        """Make ``_by_fd`` long enough for ``fd``."""
        self._by_fd.extend(itertools.repeat(None, max(0, fd + 1 - len(self._by_fd))))

    # --- opening ----------------------------------------------------------------------

    def _open(self, fd: int, terms: Terms) -> None:
        connection = Connection(fd, terms, self._now, Traffic() if self._told else None)
        if fd >= len(self._by_fd):
            self._cover(fd)
        self._by_fd[fd] = connection
        self.count += 1
        try:
            self.epoll.register(fd, connection.mask)
            connection.reply = terms.service.converse()
            greeting = terms.service.greet(time.time())
            if greeting:
                # The last words wait for the FIN: one segment, which takes 0.86 to 0.96
                # of the processor time of two, from machine to machine. A greeting that
                # a conversation follows would wait 200 ms for nothing.
                sent = self._write(
                    connection,
                    greeting,
                    kernel.send_before_fin if connection.reply is None else write,
                )
                if sent is None:
                    return
                if sent < len(greeting):
                    connection.out = bytearray(greeting[sent:])
                    self._watch(connection, _IN | _OUT)
            if connection.reply is None:
                self._part(connection, _DONE)
            elif connection.out:
                self._schedule(connection)
            else:
                # Nothing can be due sooner; of what due_at() would ask most cannot be
                # in a new connection.
                self._wheel.put(connection, self._now + self._first_look_s[terms.cells])
        except Exception as error:  # noqa: BLE001 - the top of a connection, see _serve
            self._failed(connection, error)

    # --- serving ----------------------------------------------------------------------

    # see below
    def _serve(self, events: Iterable[tuple[int, int]]) -> None:  # noqa: C901, PLR0912, PLR0915
        """Serve what is ready. From each connection that has something to say, one
        piece is read, answered, and the answer is written.

        What most do, few bytes that go back as they are and at once, stands in one
        loop, without a call for each part of it: of the 1.1 us that a round trip of 64
        bytes takes on a socket pair a call is 0.05, and 0.02 each are an addition to an
        attribute and a look into a dict in place of a list.
        """
        by_fd, now_ = self._by_fd, self._now
        for fd, mask in events:
            connection = by_fd[fd]
            if connection is None:
                self._serve_other(fd, mask)
                now_ = self._now  # the order to drain takes its time
                continue
            # The broad net: a fault of a service ends its connection, with a line in
            # the log, and not the worker.
            try:
                if mask != _IN and not self._may_be_read(connection, mask):
                    continue
                great_reads = connection.great_reads
                try:
                    if great_reads:
                        if great_reads == BULK and self._relayed(connection):
                            continue
                        piece: Piece = self._buffer[: readv(fd, self._buffers)]
                    else:
                        piece = read(fd, LITTLE_BYTES)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self._lost(connection, error)
                    continue
                count = len(piece)
                if not count and connection.out:
                    self._half_closed(connection)
                    continue
                if not count:
                    self._end(connection, connection.cause or _CLIENT_FIN)
                    continue
                if count >= LITTLE_BYTES:
                    connection.great_reads = 2 if count < BULK_BYTES else BULK
                elif great_reads:
                    connection.great_reads = min(great_reads, 2) - 1
                if connection.reply is not same or connection.out or connection.traffic is not None:
                    self._converse(connection, piece)
                    continue
                connection.active_at = now_
                try:
                    sent = write(fd, piece)
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    connection.terms.traffic.received += count
                    self._lost(connection, error)
                    continue
                if sent == count:
                    connection.terms.traffic.echoed += count
                else:
                    connection.terms.traffic.received += count
                    connection.terms.traffic.sent += sent
                    self._keep(connection, piece[sent:])
            except Exception as error:  # noqa: BLE001 - the top of a connection
                self._failed(connection, error)

    def _converse(self, connection: Connection, piece: Piece) -> None:
        """Count a piece and answer it, whatever the service and whatever is pending."""
        traffic, own = connection.terms.traffic, connection.traffic
        traffic.received += len(piece)
        if own is not None:
            own.received += len(piece)
        reply = connection.reply
        if reply is None:
            return  # lingering: thrown away
        connection.active_at = self._now
        answer = reply(piece)
        if connection.out:
            self._keep(connection, answer)
            return
        sent = self._write(connection, answer)
        if sent is not None and sent < len(answer):
            self._keep(connection, answer[sent:])

    def _relayed(self, connection: Connection) -> bool:
        """Send back what has come, uncopied; False if it is to be read. OSError if the
        socket failed.
        """
        connection.great_reads = 2
        terms, own = connection.terms, connection.traffic
        if connection.reply is not same or connection.out or not terms.relays:
            return False
        count = self._relay.pull(connection.fd)
        if not count:
            return False
        connection.active_at = self._now
        terms.traffic.received += count
        if own is not None:
            own.received += count
        sent, rest = self._relay.push(connection.fd, count)
        terms.traffic.sent += sent
        if own is not None:
            own.sent += sent
        if rest:
            self._keep(connection, rest)
        elif count >= BULK_BYTES:
            connection.great_reads = BULK
        return True

    def _serve_other(self, fd: int, mask: int) -> None:
        if fd in self._listeners:
            self._listeners.accept_from(fd, mask, self.max_connections - self.count, self._now)
        elif fd in self._calls:
            self._calls[fd]()
        # Else an earlier event of this turn closed it: the order to drain closes the
        # listeners.

    def _may_be_read(self, connection: Connection, mask: int) -> bool:
        """What a readiness that is not only to read brings before reading; whether the
        connection is to be read then.
        """
        if mask & _OUT and not self._flush(connection):
            return False
        if not mask & _NOT_OUT:
            return False
        if not connection.mask & _IN and not mask & _OUT:
            # Not reading, nothing written: only the error itself can be had.
            with kernel.borrowed(connection.fd) as sock:
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._lost(connection, OSError(number or errno.ECONNRESET, "connection broken"))
            return False
        return bool(connection.mask & _IN)

    def _failed(self, connection: Connection, error: Exception) -> None:
        self._log.event("connection.failed", service=connection.terms.name, error=repr(error))
        if self._by_fd[connection.fd] is connection:
            self._end(connection, EndCause.ERROR)

    def _half_closed(self, connection: Connection) -> None:
        """The peer has finished: what is pending goes out, then it is over."""
        connection.stage = Stage.HALF_CLOSED
        self._watch(connection, _OUT)
        self._schedule(connection)

    def _keep(self, connection: Connection, rest: Piece) -> None:
        """Keep what the socket does not take."""
        if connection.out:
            connection.out += rest
        else:
            connection.out = bytearray(rest)
            # A pending output has a deadline of its own, which may be nearer than the
            # one in the wheel.
            self._schedule(connection)
        self._watch(connection, _OUT if len(connection.out) >= HIGH_WATER_BYTES else _IN | _OUT)

    def _flush(self, connection: Connection) -> bool:
        """Send what is pending; False if the connection is no more."""
        if not connection.out:
            return True
        count = self._write(connection, connection.out)
        if not count:
            return count is not None
        connection.active_at = self._now
        del connection.out[:count]
        if connection.out:
            if connection.stage is _SERVING and len(connection.out) <= LOW_WATER_BYTES:
                self._watch(connection, _IN | _OUT)
            return True
        connection.out = None
        return self._flushed(connection)

    def _write(
        self,
        connection: Connection,
        data: Piece | bytearray,
        send: Callable[[int, Any], int] = write,
    ) -> int | None:
        """How much the socket took, which is counted; None if the connection is no
        more.
        """
        try:
            count = send(connection.fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lost(connection, error)
            return None
        connection.terms.traffic.sent += count
        if connection.traffic is not None:
            connection.traffic.sent += count
        return count

    def _flushed(self, connection: Connection) -> bool:
        if connection.stage is Stage.HALF_CLOSED:
            self._end(connection, _CLIENT_FIN)
            return False
        self._watch(connection, _IN)
        if connection.stage is Stage.PARTING:
            return self._send_fin(connection)
        if self.finish_at < math.inf:
            self._schedule(connection)
        return True

    def _watch(self, connection: Connection, mask: int) -> None:
        if connection.mask != mask:
            self.epoll.modify(connection.fd, mask)
            connection.mask = mask

    # --- ending -----------------------------------------------------------------------

    def _part(self, connection: Connection, cause: EndCause) -> None:
        """End a connection in good order: what is pending goes out, then our FIN, then
        the peer's is awaited for LINGER_S.
        """
        connection.cause = cause
        connection.reply = None
        connection.great_reads = 0  # mostly nothing comes any more but the FIN
        connection.stage = Stage.PARTING
        connection.linger_at = self._now + self._linger_s
        self._wheel.put(connection, connection.linger_at)
        if connection.out:
            self._watch(connection, _OUT)
        else:
            self._send_fin(connection)

    def _send_fin(self, connection: Connection) -> bool:
        connection.stage = Stage.LINGERING
        try:
            kernel.send_fin(connection.fd)
        except OSError as error:
            self._lost(connection, error)
            return False
        return True

    def _schedule(self, connection: Connection) -> None:
        at, _ = connection.due_at(self.finish_at)
        self._wheel_at(connection, at)

    def _wheel_at(self, connection: Connection, at: float) -> None:
        # Never far ahead: the wheel keeps a slot until it comes up, and a day has many.
        if at < math.inf:
            self._wheel.put(connection, min(at, self._now + LOOK_AHEAD_S))

    def _look_at(self, connection: Connection) -> None:
        """The connection's slot came up: is it over, or was there life meanwhile?"""
        at, cause = connection.due_at(self.finish_at)
        if at > self._now:
            self._wheel_at(connection, at)
        elif (
            connection.cause is None
            and connection.out
            and cause in (EndCause.STALLED, EndCause.IDLE)
        ):
            self._look_at_silent(connection, cause)
        elif connection.stage is Stage.SERVING:
            if cause not in (EndCause.SHUTDOWN, EndCause.IDLE) or not self._heard(connection):
                self._part(connection, cause)
        elif connection.out:
            self._reset(connection, cause)
        else:
            self._end(connection, cause)

    def _heard(self, connection: Connection) -> bool:
        """Before a peer is taken for quiet: answer what has come meanwhile, for which
        our turns may have been too long; whether it is to be heard further, or gone.
        """
        if not connection.mask & _IN:
            return False
        before = connection.active_at
        connection.great_reads = max(1, connection.great_reads)
        self._serve(((connection.fd, _IN),))
        if self._by_fd[connection.fd] is not connection or connection.stage is not Stage.SERVING:
            return True
        if connection.active_at == before or self._now >= self.finish_at:
            return False
        self._schedule(connection)
        return True

    def _lost(self, connection: Connection, error: OSError) -> None:
        """The socket failed. In a connection that we are ending, that changes nothing
        about why.
        """
        self._end(
            connection,
            connection.cause or cause_of(error, connection.fd, connection.terms.user_timeout_s),
        )

    def _look_at_silent(self, connection: Connection, cause: EndCause) -> None:
        """For all that time the socket took nothing from us. But it says that it would
        only when a part of its buffer is free, and a slow reader may be emptying that.
        """
        terms, before = connection.terms, connection.active_at
        known = silence_of(connection.fd)
        if known.sent_s == math.inf and not self._flush(
            connection
        ):  # of a UNIX peer only a write tells
            return
        limit_s = (
            QUIET_SHARE * terms.user_timeout_s
            if cause is EndCause.STALLED
            else terms.idle_timeout_s
        )
        if connection.active_at != before:
            self._schedule(connection)
        elif known.sent_s < limit_s and (known.acknowledged_s < limit_s or cause is EndCause.IDLE):
            connection.active_at = self._now - known.sent_s
            self._schedule(connection)
        elif cause is EndCause.IDLE and connection.stage is Stage.SERVING:
            self._part(connection, cause)
        else:
            self._reset(
                connection,
                cause if cause is EndCause.IDLE else why_silent(known, terms.user_timeout_s),
            )

    def _reset(self, connection: Connection, cause: EndCause) -> None:
        """End without waiting: a close with output pending would leave the kernel
        trying on for minutes.
        """
        with kernel.borrowed(connection.fd) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._end(connection, cause)

    def _end(self, connection: Connection, cause: EndCause) -> None:
        """The connection is over: close, count, tell."""
        duration_s = self._now - connection.opened_at
        if connection.traffic is not None:
            self._tell_end(connection, connection.traffic, cause, duration_s)
        self._by_fd[connection.fd] = None
        self.count -= 1
        self._wheel.remove(connection)
        close(connection.fd)
        cells, at = self._cells, connection.terms.cells
        cells[
            at + layout.Service.DURATION_BUCKETS + bisect_left(layout.DURATION_BOUNDS_S, duration_s)
        ] += 1
        cells[at + layout.Service.DURATION_SUM_NS] += int(duration_s * layout.NS)
        cells[at + _ENDED_CELL[cause]] += 1

    def _tell_end(
        self, connection: Connection, traffic: Traffic, cause: EndCause, duration_s: float
    ) -> None:
        with kernel.borrowed(connection.fd) as sock:
            peer = peer_name(sock)
        self._log.event(
            "connection.ended",
            service=connection.terms.name,
            cause=cause,
            received=traffic.received,
            sent=traffic.sent,
            duration_s=round(duration_s, 6),
            peer=peer,
        )

    # --- draining ---------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Take the listeners out of the wait, accept what their queues hold at this
        moment, close them.
        """
        self._now = now()
        self._listeners.drain(self._now)

    def finish(self, finish_at: float, linger_s: float) -> None:
        """Bring every connection to its end: when its peer has been quiet for a moment,
        at ``finish_at`` at the latest, ``linger_s`` more for the peer's FIN.

        Those that we are ending already wait for that no longer than ``linger_s`` from
        now.
        """
        self._now = now()
        self.finish_at = finish_at
        self._linger_s = linger_s
        for connection in self.connections():
            connection.linger_at = min(connection.linger_at, self._now + linger_s)
            self._schedule(connection)

    def leave(self) -> None:
        """End every connection at once."""
        self._now = now()
        for connection in self.connections():
            self._end(connection, connection.cause or EndCause.SHUTDOWN)
        self._relay.close()
