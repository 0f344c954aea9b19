"""Cuts standard input into what is sent: whole lines, or pieces as they come. Pure.

A line longer than ``max_held_bytes`` goes out in parts, so that memory is bounded
whatever the input.
"""

from typing import Protocol

MAX_HELD_BYTES = 65_536


class Framing(Protocol):
    """Takes input and gives back what may be sent now."""

    def feed(self, chunk: bytes) -> bytes:
        """What may be sent after ``chunk`` was read; b"" if nothing yet."""

    def finish(self) -> bytes:
        """What is left at the end of the input."""


class Pieces:
    """As it comes (``--raw``)."""

    def feed(self, chunk: bytes) -> bytes:
        """Everything, at once."""
        return chunk

    def finish(self) -> bytes:
        """Nothing is ever held back."""
        return b""


class Lines:
    """Line by line: a line is held until its end has been read. Several whole lines go
    out together.
    """

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._held = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """The whole lines so far, or all that is held once it is too much to hold."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._held += chunk
            return self.finish() if len(self._held) >= self._max_held_bytes else b""
        lines = self.finish() + chunk[:end]
        self._held += chunk[end:]
        return lines

    def finish(self) -> bytes:
        """A last line without its newline, as it is."""
        held = bytes(self._held)
        self._held.clear()
        return held
