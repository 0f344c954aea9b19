"""The channel between the master and one child: one JSON object per line, in both
directions.

Owns the buffers of one end of a socket pair; :mod:`unpd.json_lines` makes the lines.
The master and each child hold an end. They watch its descriptor, call
:meth:`ChannelEnd.receive` when it is readable, and :meth:`ChannelEnd.flush` when it is
writable while ``pending``. No call here waits, and every buffer is bounded, whatever
the other side does.

Errors: :class:`ChannelError` if the other side breaks the protocol, and
:class:`ChannelFullError` if it does not read. A closed channel is no error: ``ended``
says so.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from unpd.json_lines import LineBuffer, LineError, decode, encode

MAX_LINE_BYTES = 64 * 1024
"""The length of the longest line, with its newline."""
MAX_PENDING_BYTES = 4 * MAX_LINE_BYTES
"""How many unsent bytes an end keeps at most."""


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

    def recv(self, size: int, /) -> bytes:
        """Return received bytes, b"" at the end; BlockingIOError if there are none."""

    def close(self) -> None:
        """Close the descriptor."""


class ChannelEnd:
    """One end of a channel. It owns its transport.

    ``ended``: the other side has closed its end or died. No more messages come, and
    messages to it are lost.
    """

    def __init__(self, transport: Transport) -> None:
        self.ended = False
        self._transport = transport
        self._received = LineBuffer(MAX_LINE_BYTES)
        self._pending = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._transport.fileno()

    @property
    def pending(self) -> bool:
        """Whether unsent bytes wait until the descriptor is writable."""
        return bool(self._pending)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send ``message``, and keep the part that the socket does not take for
        :meth:`flush`.

        ValueError if the message is longer than a line may be, ChannelFullError if too
        many bytes wait already.
        """
        line = encode(message)
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a message of {len(line)} bytes is too long for a line")
        if len(self._pending) + len(line) > MAX_PENDING_BYTES:
            raise ChannelFullError(f"{len(self._pending)} bytes wait already")
        self._pending += line
        self.flush()

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

        ChannelError if a line is too long or is no JSON object.
        """
        try:
            piece = self._transport.recv(MAX_LINE_BYTES)
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

    def close(self) -> None:
        """Close the descriptor. The other side then reads the end."""
        self._transport.close()
