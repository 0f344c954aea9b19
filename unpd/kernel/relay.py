"""Moves bytes from socket to socket within the kernel, through a pipe and without a
copy into the process (splice(2), pipe(7)).

A :class:`Relay` sends the bytes of a socket back into the same socket. One pipe serves
the sockets of an engine one after the other, because it is empty after each turn. A
:class:`PipePool` lends pipes to those who move bytes into another socket: such a pipe
holds what that socket has not taken.

There are pipes only while there are bytes to move, because they are rationed: all pipes
of one user together may have pipe-user-pages-soft pages, by default enough for 64 pipes
of this size. A generation that drains and its successor need their pipes at the same
time.

Owns the pipes. Called by a worker's engine and by its redirects. Calls nothing of unpd.
Raises OSError if a socket failed; a refused pipe or splice(2) is no error, nothing is
moved then.

Known gap: an ordinary user with more than 64 workers that transfer bulk data at the
same time. Workers without a pipe copy the bytes.
"""

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


class RefusedError(Exception):
    """splice(2) is not available."""


class Pipe:
    """A pipe between two sockets. ``held``: how many bytes it has."""

    def __init__(self) -> None:
        """OSError if the kernel refuses a pipe of this size."""
        self.held = 0
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self._write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            self.close()
            raise

    def fill(self, fd: int, most: int) -> int:
        """Move up to ``most`` bytes from a socket into the empty pipe; return how many.

        0 if the socket has none, at the peer's FIN, and before urgent data: read the
        socket to find out. OSError if the socket failed, RefusedError.
        """
        self.held = _spliced(fd, self._write_fd, most)
        return self.held

    def drain(self, fd: int) -> int:
        """Move bytes from the pipe into a socket; return how many. OSError if the
        socket failed, RefusedError.
        """
        moved = _spliced(self._read_fd, fd, self.held)
        self.held -= moved
        return moved

    def take_rest(self) -> bytes:
        """Read what the pipe still has. OSError."""
        rest = os.read(self._read_fd, self.held) if self.held else b""
        self.held = 0
        return rest

    def close(self) -> None:
        """Close both ends."""
        os.close(self._write_fd)
        os.close(self._read_fd)


def _spliced(source: int, sink: int, most: int) -> int:
    try:
        return os.splice(source, sink, most, None, None, _FLAGS)
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno in _REFUSALS:
            raise RefusedError from error
        raise


class Relay:
    """A pipe from a socket's input to its output: ``pull``, then ``push``.

    One relay serves many sockets in turn, because the pipe is empty after each push. If
    a pipe or splice(2) is refused, ``pull`` returns 0 until the next
    :meth:`release_if_unused`.
    """

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: how many bytes one ``pull`` may take."""
        self._max_bytes = max_bytes
        self._pipe: Pipe | None = None
        self._used = self._refused = False

    def pull(self, fd: int) -> int:
        """Move bytes from the socket into the pipe; return how many.

        0 if the socket has none, at the peer's FIN, before urgent data, or if the call
        was refused: read the socket to find out. OSError if the socket failed.
        """
        pipe = self._pipe
        if self._refused or (pipe is None and (pipe := self._open()) is None):
            return 0
        self._used = True
        try:
            return pipe.fill(fd, self._max_bytes)
        except RefusedError:
            self._refused = True
            return 0

    def push(self, fd: int, count: int) -> tuple[int, bytes]:
        """Move the ``count`` bytes that were pulled into the socket.

        Return how many bytes the socket took, and the bytes that it did not take.
        OSError if the socket failed: those bytes are then lost.
        """
        pipe = self._pipe
        if pipe is None:
            raise AssertionError("a push before the pull")
        sent = 0
        try:
            sent = pipe.drain(fd)
        except RefusedError:
            self._refused = True
        finally:
            rest = self._take_rest(pipe) if pipe.held else b""
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
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _open(self) -> Pipe | None:
        try:
            self._pipe = Pipe()
        except OSError:
            self._refused = True
        return self._pipe

    def _take_rest(self, pipe: Pipe) -> bytes:
        """Read the rest out of the pipe: the next socket must never get it."""
        try:
            return pipe.take_rest()
        except BaseException:
            self.close()
            raise


class PipePool:
    """Pipes to lend. If a pipe or splice(2) is refused, :meth:`take` returns None until
    the next :meth:`release_unused`.
    """

    def __init__(self, most: int) -> None:
        """``most``: how many pipes there may be at a time; 0 for none."""
        self._most = most
        self._lent = 0
        self._idle: list[Pipe] = []
        self._is_refused = self._was_used = False

    def take(self) -> Pipe | None:
        """Lend an empty pipe; None if there is none."""
        if self._is_refused or self._lent >= self._most:
            return None
        try:
            pipe = self._idle.pop() if self._idle else Pipe()
        except OSError:
            self._is_refused = True
            return None
        self._was_used = True
        self._lent += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Take a pipe back. One that still has bytes is closed: no other socket must
        ever get them.
        """
        self._lent -= 1
        if pipe.held:
            pipe.close()
        else:
            self._idle.append(pipe)

    def refuse(self) -> None:
        """Lend no pipe for a while: splice(2) is not available."""
        self._is_refused = True

    def release_unused(self) -> None:
        """Close the idle pipes if none was lent since the last call, and allow a
        refused call to be tried again. Call it about once a second.
        """
        if not self._was_used:
            self.close()
        self._was_used = self._is_refused = False

    def close(self) -> None:
        """Close the idle pipes."""
        while self._idle:
            self._idle.pop().close()
