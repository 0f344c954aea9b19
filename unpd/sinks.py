"""Sinks: where the lines of the log go. A sink can neither block nor kill the process
that writes.

Owns the descriptors of the log and the rest of a line that was written in part. Called
by :class:`unpd.logs.Log` for each line, and by whoever opens or rotates the log. Calls
:mod:`unpd.kernel.journal` for the format of journald.

A line is written without blocking. A line that the sink does not take at once is
dropped and counted; a line that was written in part is finished first, so that two
lines never mix.

The sink is standard error, a file or journald. O_NONBLOCK on an inherited descriptor
would change it for every process that shares it. So a socket is written with
MSG_DONTWAIT, and anything else is opened again through /proc/self/fd. Where that is not
allowed (a terminal of another user), poll(2) is asked before each write.

Errors: :func:`open_file` raises OSError; writing raises nothing.
"""

import errno
import os
import select
import socket
import stat
from collections.abc import Callable

from unpd.kernel import journal

FILE_MODE = 0o640
"""The mode of a new log file."""
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def _count_nowhere() -> None:
    """A process without a scoreboard counts in its sink only."""


class Sink:
    """Takes lines. ``dropped`` counts the lines that were lost because the sink was
    full, gone or broken; ``on_drop`` is called for each.
    """

    def __init__(self, fd: int, write: Callable[[bytes], int]) -> None:
        self.fd = fd
        self.dropped = 0
        self.on_drop: Callable[[], None] = _count_nowhere
        self.write = write
        self._rest = b""

    @property
    def fds(self) -> tuple[int, ...]:
        """Every descriptor that a process needs in order to go on writing; ``fd`` is
        the one that takes text as it comes.
        """
        return (self.fd,)

    def put(self, line: bytes) -> None:
        """Write a whole line, or drop it."""
        try:
            if self._rest:
                self._rest = self._rest[self.write(self._rest) :]
            if self._rest:
                self._drop()
            else:
                self._rest = line[self.write(line) :]
        except OSError:
            # A full disk, a closed pipe or a full pipe must not stop the service.
            self._drop()

    def _drop(self) -> None:
        self.dropped += 1
        self.on_drop()

    def move_to(self, other: "Sink") -> None:
        """Write to the file of ``other`` from now on. The number of our descriptor
        stays: faulthandler remembers it, and the next client would get it.
        """
        os.dup2(other.fd, self.fd, inheritable=False)
        os.close(other.fd)
        self._rest = b""

    def forget_rest(self) -> None:
        """Leave the rest of a line to the parent. Called in a forked child."""
        self._rest = b""


class Journal(Sink):
    """Sends entries to the socket of journald. An entry that the socket refuses goes to
    ``stream``, the standard error that journald reads, as a line with its priority in
    front and without its fields.

    The socket refuses while journald is gone or out of a sandbox's reach, and when an
    entry is too big for a datagram. The socket is not connected, so that the next entry
    finds a journald that came back. A datagram goes whole or not at all, so that no
    rest is left. The kernel tells journald the pid of each sender, although a fork
    shares the socket. ``sock`` is a datagram socket, ``path`` the place of journald's.
    """

    def __init__(self, stream: Sink, sock: socket.socket, path: str = journal.SOCKET) -> None:
        super().__init__(stream.fd, stream.write)
        self._sock = sock
        self._path = path

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors of the stream and of the socket."""
        return (self.fd, self._sock.fileno())

    def put(self, line: bytes) -> None:
        """Send an entry (:func:`unpd.kernel.journal.entry`), or drop it."""
        try:
            self._sock.sendto(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._path)
        except BlockingIOError:
            self._drop()
        except OSError:
            super().put(journal.as_line(line))


def standard_error() -> Sink:
    """Return the sink on descriptor 2."""
    mode = os.fstat(2).st_mode
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(2))
        return Sink(
            sock.fileno(), lambda line: sock.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        )
    if stat.S_ISREG(mode):
        # A file never blocks. Opened again it would have an offset of its own, and the
        # lines of others on descriptor 2 would overwrite ours.
        return Sink(2, lambda line: os.write(2, line))
    try:
        fd = os.open("/proc/self/fd/2", _FILE_FLAGS)
    except OSError:
        return Sink(2, _writer_after_poll())
    return Sink(fd, lambda line: os.write(fd, line))


def _writer_after_poll() -> Callable[[bytes], int]:
    poll = select.poll()
    poll.register(2, select.POLLOUT)

    def write(line: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(2, line)

    return write


def open_file(path: str, owner: tuple[int, int] | None = None, create: bool = True) -> Sink:
    """Open the log file at ``path`` as a sink. A new file gets mode 0640 and belongs to
    ``owner`` (uid, gid), so that the processes of that user can open it again. OSError
    if it cannot be opened.

    The directory may belong to that user, who could put a link to any file there: links
    are not followed, and only a file that was made here is given away.
    """
    try:
        fd = _make_file(path, owner) if create else _find_file(path, owner)
    except FileExistsError:
        fd = _find_file(path, owner)
    return Sink(fd, lambda line: os.write(fd, line))


def _make_file(path: str, owner: tuple[int, int] | None) -> int:
    fd = os.open(path, _FILE_FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    try:
        os.fchmod(fd, FILE_MODE)  # whatever the umask
        if owner is not None:
            os.fchown(fd, *owner)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _find_file(path: str, owner: tuple[int, int] | None) -> int:
    fd = os.open(path, _FILE_FLAGS | os.O_NOFOLLOW)
    found = os.fstat(fd)
    trusted = {0, os.geteuid(), owner[0] if owner else 0}
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid in trusted:
        return fd
    os.close(fd)
    raise OSError(
        errno.EPERM, "it is not a plain file that belongs to root or to the serving user", path
    )
