"""A socket pair that many programs share as their standard error, and that tells which
process wrote what (SO_PASSCRED in unix(7)).

Owns both ends. A lane of a launcher makes it; the launcher reads, and each program gets
the other end. So a program can write for as long as somebody has the reading end,
whichever launcher lives. Calls nothing of unpd. Raises OSError.

Known gaps: like a client's socket, it cannot be opened by the name /dev/stderr. A
program that shuts it down does so for all that have it already.
"""

import os
import socket
import struct

_UCRED = struct.Struct("iII")
PIECE_BYTES = 64 * 1024


class SharedStderr:
    """``fd`` is the end that programs write to."""

    def __init__(self) -> None:
        self._reader, self._writer = _pair()
        self.fd = self._writer.fileno()

    @property
    def fds(self) -> tuple[int, int]:
        """The reading end and the writing end."""
        return self._reader.fileno(), self.fd

    def mend(self) -> None:
        """Have writes wait for room again: a program may have changed that for all."""
        os.set_blocking(self.fd, True)

    def renew(self) -> None:
        """Make a new pair, with the numbers of the old one, which a program has shut
        down. Only this process has it. OSError: the old one is left.
        """
        reader, writer = _pair()
        with reader, writer:
            os.dup2(reader.fileno(), self._reader.fileno(), inheritable=False)
            os.dup2(writer.fileno(), self.fd, inheritable=False)

    def read(self) -> tuple[int, bytes] | None:
        """The pid of a process, 0 if it is unknown, and what it wrote; None if nothing
        is left to read. The bytes of two processes never come together. An empty piece
        is the end: a program has shut the socket down (shutdown(2)).
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


def _pair() -> tuple[socket.socket, socket.socket]:
    reader, writer = socket.socketpair()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return reader, writer
