"""The channel between the master and one child: JSON objects, one a line, each way.

Owns the framing and the buffers of one end of a socket pair. The master and its
children each hold an end, watch its descriptor, and call :meth:`ChannelEnd.receive`
when it is readable and :meth:`ChannelEnd.flush` when it is writable while ``pending``.
Nothing here waits, and every buffer is bounded, whatever the other side does.

Errors: :class:`ChannelError` if the other side breaks the protocol, and
:class:`ChannelFullError` if it does not read. Its end is no error: see ``ended``.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

MAX_LINE_BYTES = 64 * 1024
"""The longest line, its newline included."""
MAX_PENDING_BYTES = 4 * MAX_LINE_BYTES
"""How many bytes wait at most for the other side to read."""


class ChannelError(Exception):
    """The other side sent something that is no message; the text says what."""


class ChannelFullError(Exception):
    """The other side does not read: the message was not sent."""


class Transport(Protocol):
    """The part of a connected, non-blocking stream socket that a channel needs."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def send(self, data: bytes, /) -> int:
        """Send a part of ``data``; BlockingIOError if there is no room."""

    def recv(self, size: int, /) -> bytes:
        """Return what has come, b"" at the end; BlockingIOError if nothing has."""

    def close(self) -> None:
        """Close the descriptor."""


class ChannelEnd:
    """One end of a channel, which owns its transport.

    ``ended``: the other side has closed, or died; nothing more will come, and what is
    sent is lost.
    """

    def __init__(self, transport: Transport) -> None:
        self.ended = False
        self._transport = transport
        self._received = bytearray()
        self._pending = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._transport.fileno()

    @property
    def pending(self) -> bool:
        """Whether something waits until the descriptor is writable."""
        return bool(self._pending)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send ``message``, or keep what the socket does not take for :meth:`flush`.

        ValueError if it is longer than a line may be, ChannelFullError if too much
        waits already.
        """
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a message of {len(line)} bytes is too long for a line")
        if len(self._pending) + len(line) > MAX_PENDING_BYTES:
            raise ChannelFullError(f"{len(self._pending)} bytes wait already")
        self._pending += line
        self.flush()

    def flush(self) -> None:
        """Send as much of what is pending as the socket takes."""
        try:
            while self._pending and not self.ended:
                del self._pending[: self._transport.send(bytes(self._pending))]
        except BlockingIOError:
            return
        except OSError:  # EPIPE, ECONNRESET: the other side has gone
            self.ended = True
        if self.ended:
            self._pending.clear()

    def receive(self) -> list[dict[str, Any]]:
        """Read once, and return the messages that are complete now; none if only a part
        of one has come. At the other side's end set ``ended``.

        ChannelError if a line is too long or is no JSON object.
        """
        try:
            piece = self._transport.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return []
        except OSError:  # ECONNRESET: it died with something of ours unread
            piece = b""
        if not piece:
            self.ended = True
            return []
        *lines, rest = (self._received + piece).split(b"\n")
        self._received = rest
        if any(len(line) >= MAX_LINE_BYTES for line in (*lines, rest)):
            raise ChannelError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        return [_message(bytes(line)) for line in lines]

    def close(self) -> None:
        """Close the descriptor; the other side sees the end."""
        self._transport.close()


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ChannelError("a line is no JSON") from None
    if not isinstance(message, dict):
        raise ChannelError("a line is no JSON object")
    return message
