"""The relay: what has come from a socket goes back into it without being copied into
the process (splice(2), pipe(7)).

It owns a pipe, which an engine's turn uses for one socket after the other. It has one
only while there is something to relay, because pipes are rationed: all of one user's
may have pipe-user-pages-soft pages together, which is 64 of this size at most by
default, and a generation that drains and its successor need theirs at the same time.

Known gap: more than 64 workers of an ordinary user that have flows in bulk at the same
time. Those that get no pipe copy.
"""

import contextlib
import errno
import fcntl
import os

PIPE_BYTES = 1 << 20
"""What pipe(7) lets anybody ask for (/proc/sys/fs/pipe-max-size). It is the number of
slots that counts, one for each page of it (256 with pages of 4 KiB). A slot takes one
fragment of a segment: on loopback up to 32 KiB, from a network card mostly 1.4 KiB.
"""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_NOT_OF_THE_SOCKET = frozenset(
    (
        errno.EACCES,
        errno.EINVAL,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.ESPIPE,
    )
)
"""How splice(2) says that it cannot be had, for this kind of socket, from a filter of
system calls or a security module, or now.
"""


class Relay:
    """A pipe between a socket's input and its own output. One serves all sockets in
    turn, because it is empty again when one is done: ``pull``, then ``push``.

    Where a pipe or splice(2) is refused, ``pull`` brings nothing until the next
    ``rest``.
    """

    def __init__(self, most_bytes: int) -> None:
        """``most_bytes`` at a time."""
        self._most_bytes = most_bytes
        self._out = self._in = -1
        self._used = self._refused = False

    def pull(self, fd: int) -> int:
        """How many bytes it took from the socket. 0 if there were none, at the peer's
        FIN, before urgent data, or if it was refused: a read tells. OSError if the
        socket failed.
        """
        if self._refused or (self._in < 0 and not self._open()):
            return 0
        self._used = True
        try:
            return os.splice(fd, self._in, self._most_bytes, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._take(error)
            return 0

    def push(self, fd: int, count: int) -> tuple[int, bytes]:
        """How many of the ``count`` bytes that were pulled the socket took, and those
        that it did not take. OSError if it failed: then they are gone.
        """
        sent = 0
        try:
            sent = os.splice(self._out, fd, count, flags=_FLAGS)
        except BlockingIOError:
            pass
        except OSError as error:
            self._take(error)
        finally:
            rest = self._emptied(count - sent)
        return sent, rest

    def rest(self) -> None:
        """To be called about once a second: give the pipe back if it was not used since
        the last time; what was refused then may be asked for again.
        """
        if not self._used:
            self.close()
        self._used = self._refused = False

    def close(self) -> None:
        """Give the pipe back."""
        if self._in >= 0:
            os.close(self._in)
            os.close(self._out)
            self._out = self._in = -1

    def _open(self) -> bool:
        self._refused = True
        with contextlib.suppress(OSError):
            self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                self._refused = False
            except OSError:
                self.close()
        return not self._refused

    def _take(self, error: OSError) -> None:
        if error.errno not in _NOT_OF_THE_SOCKET:
            raise error
        self._refused = True

    def _emptied(self, count: int) -> bytes:
        """What is left in the pipe, which must never come to the next socket."""
        try:
            return os.read(self._out, count) if count else b""
        except BaseException:
            self.close()
            raise
