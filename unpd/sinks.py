"""Sinks: where the lines of the log go. A sink can neither block nor kill the process
that writes.

Owns the descriptors of the log and the rest of a line that was written in part. Called
by :class:`unpd.logs.Log` for each line, by the code that opens or rotates the log, and
by each new child. Calls :mod:`unpd.kernel.journal` for the format of journald.

A line is written without blocking. A line that the sink does not take at once is
dropped and counted; a line that was written in part is finished first, so that two
lines never mix.

The sink is standard error, a file or journald. O_NONBLOCK belongs to the open file
description (open(2)), and so does the offset. Every process that shares a description
can change both: it could make another one wait. So each process opens the log again
through /proc/self/fd (:func:`open_again`), the master at its start, a child before it
drops its rights (:meth:`Sink.separate`). A socket cannot be opened again; it is written
with MSG_DONTWAIT, which no other process can undo.

Where opening again is refused (a pipe or a terminal of another user), the master writes
to the inherited descriptor 2, and asks poll(2) before each write. Its children get a
pipe of its own instead, whose lines it passes on (:class:`Inherited`). Otherwise they
could change that description, and read what is typed on a terminal. A file that was not
opened for appending is shared, because a second offset would overwrite lines; a write
to a file does not wait for another process.

Errors: :func:`open_file` raises OSError; writing raises nothing.

Known gaps: between that poll(2) and the write, a program outside the daemon that shares
the description can fill the pipe or the terminal, and the write waits for its reader.
A child can shut down a stream socket that it shares (shutdown(2)): later lines are
dropped and counted. A child that starts while nobody reads a FIFO, or after the
terminal was closed, drops and counts its lines as long as it lives.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
from collections.abc import Callable

from unpd.kernel import journal
from unpd.kernel.privileges import user_name

FILE_MODE = 0o640
"""The mode of a new log file."""
_NO_PLAIN_FILE = (
    "it is no plain file: name a plain file, or redirect standard error and leave log.file out"
)
_REMOVED = "it was removed"
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def _count_nowhere() -> None:
    """A process without a scoreboard counts in its sink only."""


class Sink:
    """Takes lines, and writes them to ``fd`` with ``write``, which returns how many
    bytes it wrote. ``dropped`` counts the lines that were lost because the sink was
    full, gone or broken; ``on_drop`` is called for each.
    """

    def __init__(self, fd: int, write: Callable[[int, bytes], int] = os.write) -> None:
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
        if not self._takes(line):
            self._drop()

    def _takes(self, lines: bytes) -> bool:
        """Write whole lines, if the sink takes the beginning. Whether it did."""
        try:
            if self._rest:
                self._rest = self._rest[self.write(self.fd, self._rest) :]
            if self._rest:
                return False
            self._rest = lines[self.write(self.fd, lines) :]
        except OSError:
            # A full disk, a closed pipe or a full pipe must not stop the service.
            return False
        return True

    def _drop(self) -> None:
        self.dropped += 1
        self.on_drop()

    def switch_to(self, fd: int) -> None:
        """Write to the file behind ``fd`` from now on, and close ``fd``. The number of
        our descriptor stays: faulthandler remembers it, and the next client would get
        it.
        """
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)
        self._rest = b""

    def separate(self) -> None:
        """Share no description with the parent, where that is possible. Called in a
        forked child before it drops its rights.

        The child then writes to descriptor 2. So the last words of a library go to the
        log, and the child holds no description of a terminal that it could read.
        """
        self.forget_rest()
        self._follow(self.fd)

    def _follow(self, fd: int) -> None:
        """Write to the file behind ``fd``, from descriptor 2."""
        own = open_again(fd)
        if own is None and stat.S_ISREG(os.fstat(fd).st_mode):
            own = os.dup(fd)
        if own is None:
            own = os.open(os.devnull, os.O_WRONLY)
            self.write = _refuse
        os.dup2(own, 2)
        os.close(own)
        self.fd = 2

    def forget_rest(self) -> None:
        """Leave the rest of a line to the parent. Called in a forked child."""
        self._rest = b""


class Inherited(Sink):
    """Writes to descriptor 2, which cannot be opened again. The children write to
    ``outlet`` of a pipe, and the master calls :meth:`relay` when ``inlet`` is readable.
    """

    def __init__(self) -> None:
        super().__init__(2, _write_after_poll)
        self.inlet, self.outlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._begun = b""

    def relay(self) -> None:
        """Pass on lines of the children, or drop them; at most PIPE_BUF bytes, because
        that is the room that poll(2) promises, and the master has other work.
        """
        try:
            self._begun += os.read(self.inlet, select.PIPE_BUF - len(self._begun))
        except BlockingIOError:
            return
        whole = self._begun.rfind(b"\n") + 1
        if not whole and len(self._begun) == select.PIPE_BUF:
            whole = select.PIPE_BUF
        lines, self._begun = self._begun[:whole], self._begun[whole:]
        if lines and not self._takes(lines):
            for _ in range(lines.count(b"\n")):
                self._drop()

    def relay_rest(self) -> None:
        """Pass on the last lines, after the end of the children: as many as the pipe
        holds, for a program that a child has left behind could write for ever.
        """
        for _ in range(2 * fcntl.fcntl(self.inlet, fcntl.F_GETPIPE_SZ) // select.PIPE_BUF):
            self.relay()

    def separate(self) -> None:
        """Write to the pipe."""
        self.forget_rest()
        self._follow(self.outlet)


class SocketSink(Sink):
    """Writes to a connected socket without waiting, whatever its flags are."""

    def __init__(self, sock: socket.socket) -> None:
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        super().__init__(sock.fileno(), lambda _fd, line: sock.send(line, flags))

    def separate(self) -> None:
        """Go on with the parent's socket: see the head of this module."""
        self.forget_rest()


class Journal(Sink):
    """Sends entries to the socket of journald. An entry that the socket refuses goes to
    ``stream``, the standard error that journald reads, as a line with its priority in
    front and without its fields.

    The socket refuses while journald is gone or out of a sandbox's reach, and when an
    entry is too big for a datagram. The socket is not connected, so that the next entry
    finds a journald that came back. A datagram goes whole or not at all, so that no
    rest is left. ``sock`` is a datagram socket, ``path`` the place of journald's.
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

    def separate(self) -> None:
        """Open a socket of our own. The stream stays the parent's."""
        self.forget_rest()
        with contextlib.suppress(OSError):  # the parent's socket serves too
            own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.close()
            self._sock = own


def standard_error() -> Sink:
    """Return the sink on descriptor 2."""
    mode = os.fstat(2).st_mode
    if stat.S_ISSOCK(mode):
        return SocketSink(socket.socket(fileno=os.dup(2)))
    fd = open_again(2)
    if fd is None:
        return Sink(2) if stat.S_ISREG(mode) else Inherited()
    return Sink(fd)


def open_again(fd: int) -> int | None:
    """Open the file, pipe or terminal behind ``fd`` once more, for a description of its
    own. None if the kernel refuses, and for a file that was not opened for appending.
    """
    appended = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    if stat.S_ISREG(os.fstat(fd).st_mode) and not appended:
        return None
    try:
        return os.open(f"/proc/self/fd/{fd}", _FILE_FLAGS)
    except OSError:
        return None


def _write_after_poll(fd: int, line: bytes) -> int:
    """Write to a description that may be a blocking one, once it has room."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(fd, line)


def _refuse(_fd: int, _line: bytes) -> int:
    """Stand for a log that cannot be reached: each line is dropped."""
    raise BrokenPipeError


def open_file(path: str, owner: tuple[int, int] | None = None) -> int:
    """Open the log file at ``path`` for a :class:`Sink`. A new file gets mode 0640 and
    belongs to ``owner`` (uid, gid). OSError if it cannot be opened.

    The directory may belong to that user, who could put a link to any file there: links
    are not followed, and only a file that was made here is given away.
    """
    try:
        return _make_file(path, owner)
    except FileExistsError:
        return find_file(path, owner)


def is_shared(fd: int) -> bool:
    """Lock the log file behind ``fd``; return whether another process has locked it, as
    another daemon does. The kernel unlocks the file when the last process closes this
    description (flock(2)). A file system without locks has no shared file.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


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


def find_file(path: str, owner: tuple[int, int] | None) -> int:
    """Open the log file that is at ``path`` already, as :func:`open_file` does. OSError
    if there is none, or if it cannot be opened.
    """
    fd = os.open(path, _FILE_FLAGS | os.O_NOFOLLOW)
    found = os.fstat(fd)
    user = owner[0] if owner else os.geteuid()
    if not stat.S_ISREG(found.st_mode):
        fault = _NO_PLAIN_FILE
    elif found.st_nlink != 1:
        fault = "it has another name, a hard link, which unpd does not accept here: remove one"
    elif found.st_uid not in (0, os.geteuid(), user):
        fault = (
            f"it belongs to the user {user_name(found.st_uid)}: change its owner to"
            f" {user_name(user)} or root"
        )
    else:
        return fd
    os.close(fd)
    raise OSError(errno.EPERM, fault, path)


def why_lost(path: str, fd: int) -> str:
    """Say in one clause why lines that are written to ``fd`` do not reach the log file
    at ``path``; "" if they do, or if the path is out of reach. Without a path, ``fd``
    is standard error, which may be a file too.
    """
    ours = os.fstat(fd)
    if not path:
        return _REMOVED if stat.S_ISREG(ours.st_mode) and not ours.st_nlink else ""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _REMOVED
    except OSError:
        return ""
    return "" if os.path.samestat(ours, found) else "another file took its place"


def refusal(path: str, error: OSError) -> str:
    """Say in one clause why :func:`open_file` raised ``error``, and what would be
    right.
    """
    directory = os.path.dirname(path)
    user = user_name(os.geteuid())
    match error.errno:
        case errno.ENOENT:
            return (
                f"there is no directory {directory}: make it, or let systemd make it"
                " (LogsDirectory= in the unit)"
            )
        case errno.EROFS:
            return (
                f"{directory} is read-only here: under unpd.service use /var/log/unpd, under"
                " unpd@NAME.service /var/log/unpd-NAME"
            )
        case errno.ELOOP if os.path.islink(path):
            return (
                "it is a symbolic link, which unpd does not follow here: name"
                f" {os.path.realpath(path)} itself"
            )
        case errno.EISDIR:
            return "it is a directory: name a file in it"
        case errno.ENXIO:  # a FIFO that nobody reads, or a socket
            return _NO_PLAIN_FILE
        case errno.EACCES if os.path.exists(path):
            return (
                f"the user {user} may not write it: change its owner, or let logrotate make it"
                f" with `create 0640 {user}`"
            )
        case errno.EACCES:
            return f"the user {user} may make no file in {directory}"
    return error.strerror or str(error)
