"""The relay: what has come from a socket goes back into it without being copied into the process (splice(2), pipe(7))."""

import contextlib
import errno
import fcntl
import os

PIPE_BYTES = 1 << 20
"""What pipe(7) lets anybody ask for (/proc/sys/fs/pipe-max-size). It is the number of slots that counts, 256, each of which takes one fragment of a segment: on loopback up to
32 KiB, from a network card mostly 1.4 KiB."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_UNFIT = frozenset({errno.EINVAL, errno.EPERM, errno.ENOSYS})
"""How splice(2) says that it cannot be had: for this kind of socket, or from a filter of system calls."""


class Relay:
    """A pipe between a socket's input and its own output. One serves all sockets in turn, because it is empty again when one is done: ``pull``, then ``push``.

    Where there can be no such pipe (too many descriptors; too much in pipes of one user, pipe-user-pages-soft), or no splice(2), ``pull`` never brings anything.
    """

    def __init__(self, most: int) -> None:
        """``most`` bytes at a time."""
        self._most = most
        self._out = self._in = -1
        with contextlib.suppress(OSError):
            self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                self.close()

    def pull(self, fd: int) -> int:
        """How many bytes it took from the socket. 0 if there were none, at the peer's FIN, before urgent data, or if there is no relay: a read tells. OSError if the socket failed."""
        if self._in < 0:
            return 0
        try:
            return os.splice(fd, self._in, self._most, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _UNFIT:
                raise
            self.close()
            return 0

    def push(self, fd: int, count: int) -> tuple[int, bytes]:
        """How many of the ``count`` bytes that were pulled the socket took, and those that it did not take. OSError if it failed: then they are gone."""
        sent = 0
        try:
            with contextlib.suppress(BlockingIOError):
                sent = os.splice(self._out, fd, count, flags=_FLAGS)
        finally:
            rest = self._emptied(count - sent)
        return sent, rest

    def close(self) -> None:
        """Give the pipe back: there is no relay any more."""
        if self._in >= 0:
            os.close(self._in)
            os.close(self._out)
            self._out = self._in = -1

    def _emptied(self, count: int) -> bytes:
        """What is left in the pipe, which must never come to the next socket."""
        try:
            return os.read(self._out, count) if count else b""
        except BaseException:
            self.close()
            raise
