"""The channel between the master and one child: one JSON object per line, in both
directions.

Owns the buffers of one end of a socket pair; :mod:`unpd.json_lines` makes the lines.
The master and each child hold an end. They watch its descriptor, call
:meth:`ChannelEnd.receive` when it is readable, and :meth:`ChannelEnd.flush` when it is
writable while ``pending``. No call here waits, and every buffer is bounded, whatever
the other side does.

A message can carry one descriptor (SCM_RIGHTS in unix(7)), from the master to a child.
The kernel delivers it with the first byte of its message. An end that takes no
descriptors never asks the kernel for them, so that a faulty child cannot fill the
master's table.

Errors: :class:`ChannelError` if the other side breaks the protocol, and
:class:`ChannelFullError` if it does not read. A closed channel is no error: ``ended``
says so.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from unpd.json_lines import LineBuffer, LineError, decode, encode

MAX_LINE_BYTES = 64 * 1024
"""The length of the longest line, with its newline."""
MAX_PENDING_BYTES = 4 * MAX_LINE_BYTES
"""How many unsent bytes an end keeps at most."""

_DESCRIPTOR = struct.Struct("@i")


class ChannelError(Exception):
    """The other side sent a line that is no message. The text describes it."""


class ChannelFullError(Exception):
    """The other side does not read, so the message was not sent."""


class Transport(Protocol):
    """The part of a connected, non-blocking stream socket that a channel needs."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def send(self, data: bytes, /) -> int:
        """Send a part of ``data``; BlockingIOError if there is no room."""

    def sendmsg(
        self, buffers: Iterable[bytes], ancillary: Iterable[tuple[int, int, bytes]], /
    ) -> int:
        """Send with ancillary data (sendmsg(2)); BlockingIOError if there is no
        room.
        """

    def recv(self, size: int, /) -> bytes:
        """Return received bytes, b"" at the end; BlockingIOError if there are none."""

    def recvmsg(
        self, size: int, ancillary_size: int, flags: int, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """Return received bytes, ancillary data, flags and address (recvmsg(2))."""

    def close(self) -> None:
        """Close the descriptor."""


class ChannelEnd:
    """One end of a channel. It owns its transport.

    ``ended``: the other side has closed its end or died. No more messages come, and
    messages to it are lost. ``takes_descriptors``: whether messages may bring one.
    """

    def __init__(self, transport: Transport, *, takes_descriptors: bool = False) -> None:
        self.ended = False
        self._transport = transport
        self._received = LineBuffer(MAX_LINE_BYTES)
        self._takes_descriptors = takes_descriptors
        self._descriptor: int | None = None
        self._pending = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._transport.fileno()

    @property
    def pending(self) -> bool:
        """Whether unsent bytes wait until the descriptor is writable."""
        return bool(self._pending)

    def send(self, message: Mapping[str, Any], descriptor: int | None = None) -> None:
        """Send ``message``, and keep the part that the socket does not take for
        :meth:`flush`.

        ``descriptor``: the other side gets a duplicate of it. Such a message does not
        wait: ChannelFullError if bytes wait already, or if the socket takes none.

        ValueError if the message is longer than a line may be, ChannelFullError if too
        many bytes wait already.
        """
        line = encode(message)
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a message of {len(line)} bytes is too long for a line")
        if descriptor is not None:
            self._pending += line[self._send_with(line, descriptor) :]
            return
        if len(self._pending) + len(line) > MAX_PENDING_BYTES:
            raise ChannelFullError(f"{len(self._pending)} bytes wait already")
        self._pending += line
        self.flush()

    def _send_with(self, line: bytes, descriptor: int) -> int:
        """Send ``descriptor`` with the first part of ``line``; return the length of
        that part.
        """
        if self._pending:
            raise ChannelFullError(f"{len(self._pending)} bytes wait already")
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(descriptor))
        try:
            return self._transport.sendmsg((line,), (rights,))
        except BlockingIOError:
            raise ChannelFullError("the socket has no room") from None
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:  # unix(7): the limit of those on their way
                raise ChannelFullError("too many descriptors are on their way") from None
            self.ended = True  # EPIPE, ECONNRESET: the other side has closed
        return len(line)

    def flush(self) -> None:
        """Send as many of the pending bytes as the socket takes."""
        try:
            while self._pending and not self.ended:
                del self._pending[: self._transport.send(bytes(self._pending))]
        except BlockingIOError:
            return
        except OSError:  # EPIPE, ECONNRESET: the other side has closed
            self.ended = True
        if self.ended:
            self._pending.clear()

    def receive(self) -> list[dict[str, Any]]:
        """Read once and return the messages that are complete now. Set ``ended`` if the
        other side has closed.

        ChannelError if a line is too long or is no JSON object, or if more than one
        descriptor came.
        """
        try:
            piece = self._read()
        except BlockingIOError:
            return []
        except OSError:  # ECONNRESET: the other side died with unread messages
            piece = b""
        if not piece:
            self.ended = True
            return []
        try:
            return [decode(line) for line in self._received.feed(piece)]
        except LineError as error:
            raise ChannelError(f"a message is {error}") from None

    def _read(self) -> bytes:
        if not self._takes_descriptors:
            return self._transport.recv(MAX_LINE_BYTES)
        room = socket.CMSG_LEN(_DESCRIPTOR.size)
        piece, ancillary, flags, _ = self._transport.recvmsg(
            MAX_LINE_BYTES, room, socket.MSG_CMSG_CLOEXEC
        )
        came = [
            fd
            for level, kind, packed in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for (fd,) in _DESCRIPTOR.iter_unpack(packed)
        ]
        # The flag without a descriptor: this process had no free number for it.
        if came and (self._descriptor is not None or flags & socket.MSG_CTRUNC):
            for fd in came:
                os.close(fd)
            raise ChannelError("more than one descriptor came")
        self._descriptor = came[0] if came else self._descriptor
        return piece

    def take_descriptor(self) -> int | None:
        """Return the descriptor that came, which belongs to the caller from now on;
        None if none came.
        """
        taken, self._descriptor = self._descriptor, None
        return taken

    def close(self) -> None:
        """Close the descriptor. The other side then reads the end."""
        self._transport.close()
        if (left := self.take_descriptor()) is not None:
            os.close(left)
