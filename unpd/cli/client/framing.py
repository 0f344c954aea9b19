"""Cuts standard input into pieces to send: whole lines, or the pieces as they come.

Called by ``echo`` and ``lines``; ``command`` chooses the class. Pure. A line longer
than ``max_held_bytes`` goes out in parts, so memory is bounded for any input.
"""

from typing import Protocol

MAX_HELD_BYTES = 65_536


class Framing(Protocol):
    """Takes input and returns the bytes to send now."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes to send after ``chunk`` was read; b"" if none yet."""

    def finish(self) -> bytes:
        """Return the bytes that are left at the end of the input."""

    def cut(self, framed: bytes, most: int) -> list[bytes]:
        """Cut what goes out now into datagrams of at most ``most`` bytes."""


class Pieces:
    """The input as it comes (``--raw``)."""

    def feed(self, chunk: bytes) -> bytes:
        """Return everything at once."""
        return chunk

    def finish(self) -> bytes:
        """Return b"": nothing was held."""
        return b""

    def cut(self, framed: bytes, most: int) -> list[bytes]:
        """Return the piece as one datagram, or as several if it is too long."""
        return [framed[begin : begin + most] for begin in range(0, len(framed), most)]


class Lines:
    """The input line by line: a line is held until its end has been read. Several whole
    lines go out together.
    """

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._held = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Return the whole lines so far, or, from ``max_held_bytes`` on, all that is
        held.
        """
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._held += chunk
            return self.finish() if len(self._held) >= self._max_held_bytes else b""
        lines = self.finish() + chunk[:end]
        self._held += chunk[end:]
        return lines

    def finish(self) -> bytes:
        """Return the last line, which has no newline, as it is."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def cut(self, framed: bytes, most: int) -> list[bytes]:
        """Return a datagram for each line, and several for a line that is too long."""
        *lines, rest = framed.split(b"\n")
        return [
            line[begin : begin + most]
            for line in (*(line + b"\n" for line in lines), rest)
            for begin in range(0, len(line), most)
        ]
