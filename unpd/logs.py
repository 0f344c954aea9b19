"""The log: one event, one line, structured; it can neither block nor kill the process
that writes it.

A line is formatted once, its control characters escaped, and written without blocking.
What the sink does not take at once is dropped and counted; a line that was written by
half is finished first, so that lines never mix. Only the top of a process logs.

The sink is standard error, a file or journald. Setting O_NONBLOCK on an inherited
descriptor would change it for everybody who shares it; so a socket is written with
MSG_DONTWAIT and anything else is opened anew through /proc/self/fd. Where that is not
allowed (a terminal of another user), poll(2) is asked before each write.
"""

import errno
import json
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from unpd.kernel import journal

Level = Literal["debug", "info", "warning", "error"]
Field = str | int | float | bool | None
Style = Literal["text", "json", "journal"]
"""How an event is written: the two that can be configured, and the entry that a
:class:`Journal` takes.
"""

LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
PRIORITIES: Mapping[Level, int] = MappingProxyType(
    {"debug": 7, "info": 6, "warning": 4, "error": 3}
)
"""The levels as syslog(3) counts."""
FIELD_LIMITS = (1000, 250, 60)
"""Characters of one field; the rest is cut, and cut shorter as long as the line is
longer than what a pipe takes whole: lines of several processes must not mix.
"""

_OUR_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def _count_nowhere() -> None:
    """A process that has no scoreboard yet only counts for itself."""


class Sink:
    """Where lines go. ``dropped`` counts the lines that were lost because the sink was
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
        """Every descriptor that a process needs to go on writing; ``fd`` is the one
        that takes text as it comes.
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
            # Whatever is wrong with the log (full disk, closed pipe, full pipe), the
            # service goes on.
            self._drop()

    def _drop(self) -> None:
        self.dropped += 1
        self.on_drop()

    def move_to(self, other: "Sink") -> None:
        """Write to ``other``'s file from now on. The number of our descriptor stays:
        faulthandler remembers it, and closed it would soon be a client's.
        """
        os.dup2(other.fd, self.fd, inheritable=False)
        os.close(other.fd)
        self._rest = b""

    def forget_rest(self) -> None:
        """In a forked child: the line that was written by half is the parent's to
        finish.
        """
        self._rest = b""


class Journal(Sink):
    """journald's socket; what it refuses goes to ``stream``, the standard error that
    journald reads, as a line with its priority in front and without the fields.

    It refuses when it is not there (journald is gone, or out of a sandbox's reach) and
    when an entry is too big for a datagram. The socket is not connected, so that a
    journald that comes back is found with the next entry. A datagram goes whole or not
    at all, so no rest is left; the kernel tells journald the pid of the process that
    sends it, where a fork has shared the socket too. ``sock`` is a datagram socket,
    ``path`` where journald's is.
    """

    def __init__(self, stream: Sink, sock: socket.socket, path: str = journal.SOCKET) -> None:
        super().__init__(stream.fd, stream.write)
        self._sock = sock
        self._path = path

    @property
    def fds(self) -> tuple[int, ...]:
        """The stream's and the socket's."""
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
    """The sink on descriptor 2."""
    mode = os.fstat(2).st_mode
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(2))
        return Sink(
            sock.fileno(), lambda line: sock.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        )
    if stat.S_ISREG(mode):
        # A file never blocks, and opened anew it would have an offset of its own: what
        # others write to descriptor 2 would land on our lines.
        return Sink(2, lambda line: os.write(2, line))
    try:
        fd = os.open("/proc/self/fd/2", _OUR_FLAGS)
    except OSError:
        return Sink(2, _patient_writer())
    return Sink(fd, lambda line: os.write(fd, line))


def _patient_writer() -> Callable[[bytes], int]:
    poll = select.poll()
    poll.register(2, select.POLLOUT)

    def write(line: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(2, line)

    return write


def open_file(path: str, owner: tuple[int, int] | None = None, create: bool = True) -> Sink:
    """The sink on a log file, made with mode 0640 and given to ``owner`` (uid, gid) so
    that its processes can open it again. OSError if it cannot be had.

    The directory may be the service user's, who could put a link to any file there:
    links are not followed, and only a file that was made here is given away.
    """
    try:
        fd = _make_file(path, owner) if create else _find_file(path, owner)
    except FileExistsError:
        fd = _find_file(path, owner)
    return Sink(fd, lambda line: os.write(fd, line))


def _make_file(path: str, owner: tuple[int, int] | None) -> int:
    fd = os.open(path, _OUR_FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
    try:
        if owner is not None:
            os.fchown(fd, *owner)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _find_file(path: str, owner: tuple[int, int] | None) -> int:
    fd = os.open(path, _OUR_FLAGS | os.O_NOFOLLOW)
    there = os.fstat(fd)
    trusted = {0, os.geteuid(), owner[0] if owner else 0}
    if stat.S_ISREG(there.st_mode) and there.st_nlink == 1 and there.st_uid in trusted:
        return fd
    os.close(fd)
    raise OSError(errno.EPERM, "it is not a plain file of root's or of the user who serves", path)


class Log:
    """Writes events to a sink. ``base`` fields stand on every line (role, pool)."""

    def __init__(self, sink: Sink, level: Level, style: Style, **base: Field) -> None:
        self.sink = sink
        self._threshold = LEVELS.index(level)
        self._format = _FORMATS[style]
        self._style: Style = style
        self._base = base

    def child(self, **base: Field) -> "Log":
        """The same log for another role: that of a forked child."""
        self.sink.forget_rest()
        return Log(self.sink, LEVELS[self._threshold], self._style, **base)

    def set_level(self, level: Level) -> None:
        """Log from ``level`` on."""
        self._threshold = LEVELS.index(level)

    @property
    def debugging(self) -> bool:
        """Whether debug lines are wanted: ask before gathering what only they show."""
        return self._threshold == 0

    def event(self, level: Level, event: str, **fields: Field) -> None:
        """One line."""
        if LEVELS.index(level) >= self._threshold:
            self.sink.put(self._line(time.time(), level, event, {**self._base, **fields}))

    def _line(self, wall_s: float, level: Level, event: str, fields: dict[str, Field]) -> bytes:
        line = b""
        for limit in FIELD_LIMITS:
            bounded = {
                name: value[:limit] if isinstance(value, str) else value
                for name, value in fields.items()
            }
            line = self._format(wall_s, level, event, bounded)
            if len(line) <= select.PIPE_BUF:
                break
        return line

    def debug(self, event: str, **fields: Field) -> None:
        """One line at level debug."""
        self.event("debug", event, **fields)

    def info(self, event: str, **fields: Field) -> None:
        """One line at level info."""
        self.event("info", event, **fields)

    def warning(self, event: str, **fields: Field) -> None:
        """One line at level warning."""
        self.event("warning", event, **fields)

    def error(self, event: str, **fields: Field) -> None:
        """One line at level error."""
        self.event("error", event, **fields)


def _stamp(wall_s: float) -> str:
    whole = int(wall_s)
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        + f".{int((wall_s - whole) * 1000):03d}Z"
    )


def _as_json(wall_s: float, level: Level, event: str, fields: dict[str, Field]) -> bytes:
    # ASCII only: every control character, U+2028 and lone surrogate comes out escaped.
    text = json.dumps(
        {"time": _stamp(wall_s), "level": level, "event": event, **fields},
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return text.encode("ascii") + b"\n"


def _as_text(wall_s: float, level: Level, event: str, fields: dict[str, Field]) -> bytes:
    return f"{_stamp(wall_s)} {level:<7} {_as_words(event, fields)}\n".encode(
        "utf-8", "backslashreplace"
    )


def _as_entry(wall_s: float, level: Level, event: str, fields: dict[str, Field]) -> bytes:
    del wall_s  # journald has a clock
    ours = (
        (journal.field_name(f"unpd_{name}"), _as_plain(value)) for name, value in fields.items()
    )
    return journal.entry(
        PRIORITIES[level],
        _as_words(event, fields),
        (("SYSLOG_IDENTIFIER", "unpd"), ("UNPD_EVENT", event), *ours),
    )


_FORMATS: Mapping[Style, Callable[[float, Level, str, dict[str, Field]], bytes]] = MappingProxyType(
    {"text": _as_text, "json": _as_json, "journal": _as_entry}
)


def _as_words(event: str, fields: dict[str, Field]) -> str:
    return event + "".join(f" {name}={_as_word(value)}" for name, value in fields.items())


def _as_plain(value: Field) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_word(value: Field) -> str:
    text = _as_plain(value)
    if text and all((c.isalnum() and c.isascii()) or c in "-_./:+@,[]%*" for c in text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
