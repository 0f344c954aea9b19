"""Relays bytes from a socket back into the same socket within the kernel, through a
pipe and without a copy into the process (splice(2), pipe(7)).

The pipe serves the sockets of an engine one after the other. The relay has a pipe only
while it has bytes to relay, because pipes are rationed: all pipes of one user together
may have pipe-user-pages-soft pages, by default enough for 64 pipes of this size. A
generation that drains and its successor need their pipes at the same time.

Owns the pipe. Called by a worker's engine. Calls nothing of unpd. Raises OSError if the
socket failed; a refused pipe or splice(2) is no error, the relay then moves nothing.

Known gap: an ordinary user with more than 64 workers that transfer bulk data at the
same time. Workers without a pipe copy the bytes.
"""

import contextlib
import errno
import fcntl
import os

PIPE_BYTES = 1 << 20
"""The size of our pipe, the most that pipe(7) allows every user
(/proc/sys/fs/pipe-max-size).

What counts is the number of slots, one for each page (256 with pages of 4 KiB). A slot
takes one fragment of a segment: up to 32 KiB on loopback, mostly 1.4 KiB from a network
card.
"""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_REFUSALS = frozenset(
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
"""The errors of splice(2) that mean that the call is not available: for this kind of
socket, because of a system call filter or a security module, or at the moment.
"""


class Relay:
    """A pipe from a socket's input to its output: ``pull``, then ``push``.

    One relay serves many sockets in turn, because the pipe is empty after each push. If
    a pipe or splice(2) is refused, ``pull`` returns 0 until the next
    :meth:`release_if_unused`.
    """

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: how many bytes one ``pull`` may take."""
        self._max_bytes = max_bytes
        self._read_fd = self._write_fd = -1
        self._used = self._refused = False

    def pull(self, fd: int) -> int:
        """Move bytes from the socket into the pipe; return how many.

        0 if the socket has none, at the peer's FIN, before urgent data, or if the call
        was refused: read the socket to find out. OSError if the socket failed.
        """
        if self._refused or (self._write_fd < 0 and not self._open()):
            return 0
        self._used = True
        try:
            return os.splice(fd, self._write_fd, self._max_bytes, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._refused_or_raise(error)
            return 0

    def push(self, fd: int, count: int) -> tuple[int, bytes]:
        """Move the ``count`` bytes that were pulled into the socket.

        Return how many bytes the socket took, and the bytes that it did not take.
        OSError if the socket failed: those bytes are then lost.
        """
        sent = 0
        try:
            sent = os.splice(self._read_fd, fd, count, flags=_FLAGS)
        except BlockingIOError:
            pass
        except OSError as error:
            self._refused_or_raise(error)
        finally:
            rest = self._read_rest(count - sent)
        return sent, rest

    def release_if_unused(self) -> None:
        """Close the pipe if nothing was pulled since the last call, and allow a refused
        call to be tried again. Call it about once a second.
        """
        if not self._used:
            self.close()
        self._used = self._refused = False

    def close(self) -> None:
        """Close the pipe."""
        if self._write_fd >= 0:
            os.close(self._write_fd)
            os.close(self._read_fd)
            self._read_fd = self._write_fd = -1

    def _open(self) -> bool:
        self._refused = True
        with contextlib.suppress(OSError):
            self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.fcntl(self._write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                self._refused = False
            except OSError:
                self.close()
        return not self._refused

    def _refused_or_raise(self, error: OSError) -> None:
        if error.errno not in _REFUSALS:
            raise error
        self._refused = True

    def _read_rest(self, count: int) -> bytes:
        """Read ``count`` bytes out of the pipe: the next socket must never get them."""
        try:
            return os.read(self._read_fd, count) if count else b""
        except BaseException:
            self.close()
            raise
