"""A flow: the bytes of one direction of a redirect, from the socket of one end to that
of the other; and the two ends.

A flow reads only while the other end has taken everything: so at most one read, or what
a pipe holds, waits for a slow reader, and the kernel's window stops the sender. A flow
passes the FIN of its source on; the other direction goes on (half-close).

Bulk data is moved by splice(2), through a pipe that the flow borrows until it is empty
again. The path that copies is complete without it.

Owns what its sink has not taken. The ends are targets of the poller; each belongs to
the session, which owns its descriptor. A flow reports to its session what has moved,
and a failure of either socket.
"""

import math
import os
import select
from collections.abc import Callable
from os import close, read, readv, write
from typing import Protocol

from unpd.kernel import connections as kernel
from unpd.kernel.relay import Pipe, RefusedError
from unpd.services.base import Piece
from unpd.worker.event.ending import silence_of
from unpd.worker.event.shared import LARGE_READ_BYTES, SMALL_READ_BYTES, Shared

BULK_BYTES = 64 * 1024
"""After a read of this size or more the next one is by splice(2)."""

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Owner(Protocol):
    """The session of two ends and two flows."""

    shared: Shared

    def watch(self) -> None:
        """Have epoll watch for what the flows wait for now."""

    def flow_ended(self) -> None:
        """Go on after a flow has passed its FIN on."""

    def lose(self, end: "End", error: OSError) -> None:
        """Go on after the socket of an end has failed."""

    def fail(self, error: BaseException) -> None:
        """End because of a fault of ours."""


Moved = Callable[[int, int], None]
"""Counts the bytes that a flow has read from its source, and written to its sink."""


class End:
    """The socket of one end. ``fd``: -1 while there is none. ``splices``: whether bytes
    may be spliced into it. ``outgoing`` reads from it, ``incoming`` writes to it.
    """

    __slots__ = ("_mask", "fd", "incoming", "outgoing", "session", "splices")

    def __init__(self, fd: int, session: Owner, *, splices: bool = False) -> None:
        self.fd = fd
        self.session = session
        self.splices = splices
        self.outgoing: Flow
        self.incoming: Flow
        self._mask: int | None = None  # None: epoll does not have the socket

    def open(self) -> None:
        """Have epoll tell of failures of the socket. OSError if it refuses."""
        poller = self.session.shared.poller
        poller.place(self.fd, self)
        poller.epoll.register(self.fd, 0)
        self._mask = 0

    def ready(self, mask: int) -> None:
        """Write what waits, then read once."""
        try:
            if mask == _IN and self.outgoing.reads:
                self.outgoing.move()
                return
            if mask & _OUT and self.incoming.waits:
                self.incoming.flush()
            if self.fd >= 0 and mask & ~_OUT:
                self._read(mask)
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            self.session.fail(error)

    def _read(self, mask: int) -> None:
        if self.outgoing.reads:
            self.outgoing.move()
        elif mask & select.EPOLLERR:
            # None waits if the event is of the socket that had this descriptor before.
            if number := kernel.take_errno(self.fd):
                self.session.lose(self, OSError(number, os.strerror(number)))
        elif mask & select.EPOLLHUP and not self.incoming.waits:
            # Both directions of the socket are over, and epoll would say so without
            # end, while a flow may still have to wait for the other end.
            self.session.shared.poller.epoll.unregister(self.fd)
            self._mask = None

    def watch(self) -> None:
        """Have epoll watch for what the flows wait for now."""
        mask = (_IN if self.outgoing.reads else 0) | (_OUT if self.incoming.waits else 0)
        if mask == (self._mask or 0) or self.fd < 0:
            return
        poller = self.session.shared.poller
        if self._mask is None:
            poller.epoll.register(self.fd, mask)
        else:
            poller.epoll.modify(self.fd, mask)
        self._mask = mask

    def close(self) -> None:
        """Close the socket, if there is one."""
        fd, self.fd = self.fd, -1
        self._mask = None
        if fd >= 0:
            self.session.shared.poller.forget(fd)
            close(fd)

    def sever(self) -> None:
        """Forget the flows: else the two would keep each other in memory until the next
        garbage collection.
        """
        del self.outgoing, self.incoming


class Flow:
    """One direction. ``read`` and ``written``: its bytes so far. ``reads``: input is
    wanted. ``waits``: bytes wait for room in the sink. ``ended``: the FIN of the source
    has come, and was passed on; or the sink has failed. ``taken_at``: while bytes wait,
    when the sink last took some.
    """

    __slots__ = (
        "_error",
        "_is_bulk",
        "_is_large",
        "_moved",
        "_pending",
        "_pipe",
        "ended",
        "read",
        "session",
        "sink",
        "source",
        "taken_at",
        "written",
    )

    def __init__(self, source: End, sink: End, moved: Moved) -> None:
        self.source = source
        self.sink = sink
        self.session = source.session
        source.outgoing = sink.incoming = self
        self.read = 0
        self.written = 0
        self.ended = False
        self.taken_at = self.session.shared.now
        self._moved = moved
        self._pending: bytearray | None = None
        self._pipe: Pipe | None = None
        self._is_bulk = self._is_large = False
        self._error: OSError | None = None

    @property
    def reads(self) -> bool:
        """Whether input is wanted."""
        return not self.ended and not self.waits and self.sink.fd >= 0

    @property
    def waits(self) -> bool:
        """Whether bytes wait for room in the sink."""
        return self._pending is not None or self._pipe is not None

    # --- input ------------------------------------------------------------------------

    def move(self) -> None:
        """Read once, and write what came."""
        if self._is_bulk and self.sink.splices and self._splice():
            return
        try:
            piece = self._read_piece()
        except BlockingIOError:
            if self._error is None:
                return
            piece = b""
        except OSError as error:
            self.session.lose(self.source, error)
            return
        if piece:
            self.put(piece)
        elif self._error is not None:
            self.session.lose(self.source, self._error)
        else:
            self._end()

    def move_rest(self, error: OSError) -> None:
        """Go on until the source, which has failed, has no more: what it sent before is
        in its queue. Then report the error, as if a read had met it only there.
        """
        self._error = error
        if self.reads:
            self.move()

    def _read_piece(self) -> Piece:
        """Read once; at the FIN of the source b"". A small read that comes back full is
        followed by a large one, so that a message that came in one segment goes on in
        one write. OSError.
        """
        shared = self.session.shared
        if self._is_large:
            piece: Piece = shared.buffer[: readv(self.source.fd, shared.buffers)]
        else:
            piece = read(self.source.fd, SMALL_READ_BYTES)
            if len(piece) < SMALL_READ_BYTES:
                return piece
            piece = self._with_rest(piece)
        self._is_large = len(piece) >= SMALL_READ_BYTES
        self._is_bulk = len(piece) >= BULK_BYTES
        return piece

    def _with_rest(self, piece: Piece) -> Piece:
        """A full piece of a small read, with what the socket still has. An error comes
        after these bytes: the socket tells it only once, so that it is kept for the
        next read, which finds no more.
        """
        shared = self.session.shared
        try:
            count = readv(self.source.fd, shared.after_small)
        except BlockingIOError:
            return piece
        except OSError as error:
            self._error = error
            return piece
        shared.buffer[:SMALL_READ_BYTES] = piece
        return shared.buffer[: SMALL_READ_BYTES + count]

    def put(self, piece: Piece) -> None:
        """Write bytes that were read; keep what the sink does not take."""
        count = len(piece)
        try:
            sent = write(self.sink.fd, piece)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._count(count, 0)
            self._pending = bytearray(piece)  # another sink may take it
            self.session.lose(self.sink, error)
            return
        self._count(count, sent)
        if sent < count:
            self._pending = bytearray(piece[sent:])
            self.taken_at = self.session.shared.now
            self.session.watch()

    def _splice(self) -> bool:
        """Move bytes without a copy. False if the caller has to read them instead."""
        pipe = self.session.shared.pipes.take()
        if pipe is None:
            return False
        self._pipe = pipe
        try:
            count = pipe.fill(self.source.fd, LARGE_READ_BYTES)
        except RefusedError:
            self.session.shared.pipes.refuse()
            count = 0
        except OSError as error:
            self.session.lose(self.source, error)
            return True
        if not count:
            self._give_pipe_back()
            return False
        self._is_bulk = count >= BULK_BYTES
        self._drain(pipe, count)
        if self.waits:
            self.taken_at = self.session.shared.now
            self.session.watch()
        return True

    # --- output -----------------------------------------------------------------------

    def flush(self) -> None:
        """Write as much of what waits as the sink takes."""
        if self._pipe is not None:
            self._drain(self._pipe, 0)
        elif self._pending is not None:
            self._write(self._pending)
        if not self.waits:
            self.session.watch()

    def _write(self, pending: bytearray) -> None:
        try:
            sent = write(self.sink.fd, pending)
        except BlockingIOError:
            return
        except OSError as error:
            self.session.lose(self.sink, error)
            return
        self._count(0, sent)
        del pending[:sent]
        if not pending:
            self._pending = None

    def _drain(self, pipe: Pipe, read: int) -> None:
        """Write what the pipe has. ``read``: how many of these bytes are new."""
        try:
            sent = pipe.drain(self.sink.fd)
        except RefusedError:
            self._count(read, 0)
            self.session.shared.pipes.refuse()
            self._pending = bytearray(pipe.take_rest())
            self._give_pipe_back()
            return
        except OSError as error:
            self._count(read, 0)
            self.session.lose(self.sink, error)
            return
        self._count(read, sent)
        if not pipe.held:
            self._give_pipe_back()

    def _end(self) -> None:
        """Pass the FIN of the source on. Nothing waits then: a flow that waits does not
        read.
        """
        self.ended = True
        try:
            kernel.send_fin(self.sink.fd)
        except OSError as error:
            self.session.lose(self.sink, error)
            return
        self.session.flow_ended()
        self.session.watch()

    def is_stuck(self, limit_s: float, *, stalled: bool) -> bool:
        """Whether the sink has really taken nothing for ``limit_s``. We may have missed
        that it did: a socket is writable only when a part of its buffer is free, and a
        slow reader may still be emptying that part. ``stalled``: a peer that answers
        probes is silent all the same.
        """
        now, known = self.session.shared.now, silence_of(self.sink.fd)
        if known.sent_s == math.inf:  # only a write tells whether a UNIX peer reads
            self.flush()
        if known.sent_s < limit_s and (known.acknowledged_s < limit_s or not stalled):
            self.taken_at = now - known.sent_s
        return now >= self.taken_at + limit_s

    def drop(self) -> None:
        """Throw away what waits: the flow is over."""
        self.ended = True
        self._pending = None
        self._give_pipe_back()

    # --- both -------------------------------------------------------------------------

    def _count(self, read: int, written: int) -> None:
        self.read += read
        self.written += written
        if written:
            self.taken_at = self.session.shared.now
        self._moved(read, written)

    def _give_pipe_back(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self.session.shared.pipes.give_back(pipe)
