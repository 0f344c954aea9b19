"""Messages as lines: one JSON object a line, of bounded length.

The channel between the master and a child uses it, and both ends of the control socket.
Pure: bytes in, values out. Errors: LineError and no other, whatever the bytes are.
"""

import json
from collections.abc import Mapping
from typing import Any


class LineError(Exception):
    """The bytes are no message. The text is the end of a sentence about them."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Return the message as a line, which ends with a newline and has no other."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Return the message on a line. LineError if the line holds none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise LineError("not a line of JSON") from None
    if not isinstance(message, dict):
        raise LineError("not a JSON object")
    return message


class LineBuffer:
    """Cuts received bytes into lines of at most ``max_bytes``, newline included."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """Take a piece, and return the lines that are complete now, without their
        newlines. LineError if a line is too long, even if its end has not come yet.
        """
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        if any(len(line) >= self._max_bytes for line in (*lines, self._rest)):
            raise LineError(f"longer than {self._max_bytes} bytes")
        return lines
