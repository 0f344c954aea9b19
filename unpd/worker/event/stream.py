"""A stream: one connected socket of a session, with its output and its reads.

A stream reads while less than HIGH_WATER_BYTES of output are pending, so that bulk data
keeps moving. Above that it stops, until at most LOW_WATER_BYTES are left. A large read
fills one buffer, which all streams share; a small read makes a bytes object, and if it
comes back full, the rest is read before anything is answered. So a message that came in
one segment goes back in one write: clients that read once depend on that. A reply
that the socket takes at once is never copied. Bulk data of an echo does not leave the
kernel (:mod:`unpd.kernel.relay`). A stream that is marked plain, in the poller's list
``plain``, lets the hot path serve its next small message
(:mod:`unpd.worker.event.plain`).

Owns its descriptor and the output that the socket has not taken. The engine calls
``ready``; the stream reports to its session, which decides. A failure of the socket
ends the session. Any other exception ends the session too, with a line in the log, and
the worker goes on.
"""

import select
from collections.abc import Callable
from os import close, read, readv, write
from typing import Any, Protocol

from unpd.kernel import connections as kernel
from unpd.kernel.tcp_info import Silence
from unpd.services.base import Piece
from unpd.worker.event.ending import silence_of
from unpd.worker.event.shared import SMALL_READ_BYTES, Shared
from unpd.worker.terms import Totals

BULK_BYTES = 64 * 1024
"""A piece of this size or more is bulk data. If the service echoes, the next piece is
relayed within the kernel. On loopback this makes bulk echo 1.7 times as fast as
copying, at 0.6 of the processor time, and round trips of 64 KiB on 50 connections 1.2
times as fast.
"""
HIGH_WATER_BYTES = 256 * 1024
LOW_WATER_BYTES = 64 * 1024

BULK = 3
"""Stored instead of a count of large reads: this stream transfers bulk data."""

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_NOT_OUT = select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP


class Owner(Protocol):
    """The session to which a stream belongs and reports."""

    shared: Shared
    active_at: float
    taken_at: float

    @property
    def serving(self) -> bool:
        """Whether input is still wanted."""

    @property
    def relays(self) -> bool:
        """Whether an echo may go back within the kernel."""

    def answer(self, piece: Piece) -> bool:
        """Answer received bytes; return whether they go back as they are."""

    def peer_finished(self) -> None:
        """Go on after the peer's FIN."""

    def schedule(self) -> None:
        """Compute the next deadline again: output is pending from now on."""

    def output_flushed(self) -> None:
        """Go on after all pending output has been sent."""

    def room(self) -> None:
        """Go on with a socket that has room while no output is pending."""

    def lose(self, error: OSError) -> None:
        """End because the socket failed."""

    def fail(self, error: BaseException) -> None:
        """End because of a fault of ours."""


class Stream:
    """One socket. ``fd`` is -1 once the stream is closed. ``out``: the output that the
    socket has not taken, or None. ``mask``: the events that epoll watches. ``received``
    and ``sent``: bytes of this stream; ``totals``: bytes of its service.

    ``large_reads``: how many of the next reads are large, or BULK. After a read that
    brings as much as a small read can, the next ones are large, until two in a row have
    brought less (the first of the two may have brought the rest of a message).
    """

    __slots__ = (
        "fd",
        "large_reads",
        "mask",
        "out",
        "received",
        "sent",
        "session",
        "totals",
    )

    def __init__(self, fd: int, session: Owner, totals: Totals) -> None:
        self.fd = fd
        self.session = session
        self.totals = totals
        self.received = 0
        self.sent = 0
        self.out: bytearray | None = None
        self.mask = _IN
        self.large_reads = 0

    def open(self) -> None:
        """Have epoll watch for input. OSError if it refuses (epoll_ctl(2), ENOSPC)."""
        poller = self.session.shared.poller
        poller.place(self.fd, self)
        poller.epoll.register(self.fd, self.mask)

    def ready(self, mask: int) -> None:
        """Write what is pending, read one piece, and have it answered."""
        try:
            if mask != _IN and not self._may_read(mask):
                return
            try:
                piece = self._read()
            except BlockingIOError:
                return
            except OSError as error:
                self.session.lose(error)
                return
            if piece is not None:
                self.take(piece)
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            self.session.fail(error)

    # --- input ------------------------------------------------------------------------

    def expect_fin(self) -> None:
        """Make the next reads small: mostly the peer's FIN is all that comes."""
        self.large_reads = 0
        self._unmark_plain()

    def take(self, piece: Piece) -> None:
        """Count a piece that was read, and have it answered. An empty one is the peer's
        FIN.
        """
        count = len(piece)
        plain = self.session.shared.poller.plain
        plain[self.fd] = None
        if not count:
            self.session.peer_finished()
            return
        self.received += count
        self.totals.received += count
        if count >= SMALL_READ_BYTES:
            self.large_reads = 2 if count < BULK_BYTES else BULK
        elif self.large_reads:
            self.large_reads = 1 if self.large_reads > 1 else 0
        echoes = self.session.answer(piece)
        if echoes and not self.large_reads and not self.out and self.fd >= 0:
            plain[self.fd] = self

    def go_on(self, piece: bytes, sent: int) -> None:
        """Go on with a piece that the hot path read: with ``sent`` -1 it has no answer
        yet, else the socket took only ``sent`` bytes of its echo.
        """
        if sent >= 0:
            self.refused(piece, sent)
            return
        try:
            whole = self._with_rest(piece)
        except OSError as error:
            self.session.lose(error)
            return
        self.take(whole)

    def failed(self, error: OSError, piece: Piece) -> None:
        """Take an error of the hot path, from a read (``piece`` is empty) or a write.
        The session ends, unless the socket was merely not ready.
        """
        if not isinstance(error, BlockingIOError):
            self._count_received(len(piece))
            self.session.lose(error)
        elif piece:
            self.refused(piece, 0)

    def refused(self, piece: Piece, sent: int) -> None:
        """Keep the rest of a piece if the hot path could echo only ``sent`` bytes."""
        self._count_received(len(piece))
        self._count_sent(sent)
        self.session.active_at = self.session.shared.now
        self._keep(piece[sent:])

    def _read(self) -> Piece | None:
        """Return a piece, or None if it was relayed. OSError if the socket failed or
        has nothing.
        """
        if not self.large_reads:
            return self._with_rest(read(self.fd, SMALL_READ_BYTES))
        if self.large_reads == BULK and self._relay():
            return None
        shared = self.session.shared
        return shared.buffer[: readv(self.fd, shared.buffers)]

    def _with_rest(self, piece: bytes) -> Piece:
        """Return a piece of a small read, together with what the socket still holds if
        the read came back full. OSError if the socket failed.
        """
        if len(piece) < SMALL_READ_BYTES:
            return piece
        shared = self.session.shared
        try:
            count = readv(self.fd, shared.after_small)
        except BlockingIOError:
            return piece
        except OSError:
            self._count_received(len(piece))
            raise
        shared.buffer[:SMALL_READ_BYTES] = piece
        return shared.buffer[: SMALL_READ_BYTES + count]

    def _relay(self) -> bool:
        """Send received bytes back without a copy. False if the caller has to read them
        instead. OSError if the socket failed.
        """
        self.large_reads = 2
        if self.out or not self.session.relays:
            return False
        shared = self.session.shared
        count = shared.relay.pull(self.fd)
        if not count:
            return False
        self.session.active_at = shared.now
        self.received += count
        self.totals.received += count
        sent, rest = shared.relay.push(self.fd, count)
        self.sent += sent
        self.totals.sent += sent
        if rest:
            self._keep(rest)
        elif count >= BULK_BYTES:
            self.large_reads = BULK
        return True

    def _may_read(self, mask: int) -> bool:
        """Handle any events but EPOLLIN alone: send pending output, or take an error.
        Return whether to read afterwards.
        """
        if mask & _OUT:
            if self.out:
                self.flush()
            else:
                self.session.room()
        if self.fd < 0 or not mask & _NOT_OUT:
            return False
        if not self.mask & _IN and not mask & _OUT:
            # We do not watch for input and there is no room for output: only an error
            # can have woken us.
            self.session.lose(kernel.take_error(self.fd))
            return False
        return bool(self.mask & _IN)

    # --- output -----------------------------------------------------------------------

    def send(self, data: Piece, send: Callable[[int, Any], int] = write) -> None:
        """Send ``data`` behind the pending output; keep what the socket does not take.
        ``send``: the call that sends it if nothing is pending.
        """
        if self.out:
            self._keep(data)
            return
        try:
            sent = send(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.session.lose(error)
            return
        self.sent += sent
        self.totals.sent += sent
        if sent < len(data):
            self._keep(data[sent:])

    def flush(self) -> None:
        """Send as much of the pending output as the socket takes."""
        if not self.out:
            return
        try:
            sent = write(self.fd, self.out)
        except BlockingIOError:
            return
        except OSError as error:
            self.session.lose(error)
            return
        self._count_sent(sent)
        self.session.active_at = self.session.taken_at = self.session.shared.now
        del self.out[:sent]
        if not self.out:
            self.out = None
            self.session.output_flushed()
        elif self.session.serving and len(self.out) <= LOW_WATER_BYTES:
            self.watch(_IN | _OUT)

    def send_fin(self) -> None:
        """End our direction. We can still read what the peer sends."""
        try:
            kernel.send_fin(self.fd)
        except OSError as error:
            self.session.lose(error)

    def reset_on_close(self) -> None:
        """Drop the unsent output at the close. OSError."""
        kernel.reset_on_close(self.fd)

    def watch(self, mask: int) -> None:
        """Have epoll watch for the events ``mask``."""
        if self.mask != mask:
            if not self.mask & _OUT:
                self.session.taken_at = self.session.shared.now
            self.session.shared.poller.epoll.modify(self.fd, mask)
            self.mask = mask

    def close(self) -> None:
        """Close the descriptor; drop what is pending."""
        fd, self.fd = self.fd, -1
        self.session.shared.poller.forget(fd)
        close(fd)

    def _keep(self, rest: Piece) -> None:
        """Keep output until the socket has room."""
        self._unmark_plain()
        if self.out:
            self.out += rest
        else:
            self.out = bytearray(rest)
            self.session.taken_at = self.session.shared.now
            self.session.schedule()  # pending output has a deadline of its own
        self.watch(_OUT if len(self.out) >= HIGH_WATER_BYTES else _IN | _OUT)

    # --- both -------------------------------------------------------------------------

    def silence(self) -> Silence:
        """Return what the kernel knows about the peer's silence."""
        return silence_of(self.fd)

    def _unmark_plain(self) -> None:
        self.session.shared.poller.plain[self.fd] = None

    def _count_received(self, count: int) -> None:
        self.received += count
        self.totals.received += count

    def _count_sent(self, count: int) -> None:
        self.sent += count
        self.totals.sent += count
