"""Transports of a channel that are no sockets."""

from collections import deque
from collections.abc import Iterable
from typing import Any

Ancillary = tuple[int, int, bytes]


class WithoutDescriptors:
    """Neither sends nor receives descriptors."""

    def sendmsg(self, buffers: Iterable[bytes], ancillary: Iterable[Ancillary], /) -> int:
        """Refuse."""
        raise AssertionError(f"no descriptor was expected: {buffers!r}, {ancillary!r}")

    def recvmsg(
        self, size: int, ancillary_size: int, flags: int, /
    ) -> tuple[bytes, list[Ancillary], int, Any]:
        """Refuse."""
        raise AssertionError(f"no descriptor was expected: {size}, {ancillary_size}, {flags}")


class Wire(WithoutDescriptors):
    """Keeps the bytes that were sent, and returns the pieces in ``comes``; b"" is the
    end of the other side. ``room``: how many more bytes it takes. ``broken``: the other
    side has gone.
    """

    def __init__(self, *comes: bytes, room: int = 1 << 30) -> None:
        self.comes = deque(comes)
        self.room = room
        self.sent = b""
        self.closed = False
        self.broken = False

    def fileno(self) -> int:
        """A number that no descriptor has."""
        return 99

    def send(self, data: bytes, /) -> int:
        """Take as many bytes as there is room for."""
        if self.broken:
            raise BrokenPipeError
        taken = data[: self.room]
        if not taken:
            raise BlockingIOError
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def recv(self, size: int, /) -> bytes:
        """Return the next piece."""
        if not self.comes:
            raise BlockingIOError
        return self.comes.popleft()

    def close(self) -> None:
        """Note that the transport was closed."""
        self.closed = True
