"""A socket pair that many programs share as their standard error, and that tells which
process wrote what (SO_PASSCRED in unix(7)).

Owns both ends. A lane of a launcher makes it; the launcher reads, and each program gets
the other end. So a program can write for as long as somebody has the reading end,
whichever launcher lives. Calls nothing of unpd. Raises OSError.

Known gap: like a client's socket, it cannot be opened by the name /dev/stderr.
"""

import socket
import struct

_UCRED = struct.Struct("iII")
PIECE_BYTES = 64 * 1024


class SharedStderr:
    """``fd`` is the end that programs write to."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.fd = self._writer.fileno()

    @property
    def fds(self) -> tuple[int, int]:
        """The reading end and the writing end."""
        return self._reader.fileno(), self.fd

    def read(self) -> tuple[int, bytes] | None:
        """The pid of a process, 0 if it is unknown, and what it wrote; None if nothing
        is left to read. The bytes of two processes never come together. An empty piece
        is the end: a program has shut the socket down for all (shutdown(2)).
        """
        try:
            piece, ancillary, _, _ = self._reader.recvmsg(
                PIECE_BYTES, socket.CMSG_SPACE(_UCRED.size), socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return None
        for level, kind, packed in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                return _UCRED.unpack(packed[: _UCRED.size])[0], piece
        return 0, piece

    def close(self) -> None:
        """Close our descriptors of both ends."""
        self._reader.close()
        self._writer.close()
