"""Formats what journald reads: entries of its native protocol, and lines on a stream,
which begin with their priority.

An entry is one datagram (systemd.io/JOURNAL_NATIVE_PROTOCOL). It begins with PRIORITY
and MESSAGE, a line each, so that :func:`as_line` can make a line of it (sd-daemon(3))
where the socket does not take it.

Owns the names and bounds of the two formats. Called by unpd.logs, and by boot and the
command line to see where standard error leads. Calls nothing of unpd. Raises nothing.

Known gap: an entry that is too big for a datagram would need a memfd, which is not
implemented. The log bounds its entries.
"""

import os
import re
import struct
from collections.abc import Iterable

SOCKET = "/run/systemd/journal/socket"
ERROR_PREFIX = "<3>"
"""The beginning of a line of priority "error" on a stream (sd-daemon(3))."""
MAX_NAME = 64
"""The most characters of a field's name; journald drops fields with longer names."""

_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")


def reads(fd: int, journal_stream: str | None) -> bool:
    """Whether journald reads what is written to ``fd``.

    ``journal_stream``: $JOURNAL_STREAM, which holds the device and inode of the
    standard error that systemd gave (systemd.exec(5)). A descriptor that was redirected
    since is another file and does not match.
    """
    try:
        status = os.fstat(fd)
    except OSError:
        return False  # closed
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def field_name(text: str) -> str:
    """Turn ``text`` into the name of a field: A to Z, 0 to 9 and _, at most
    :data:`MAX_NAME` characters.

    ``text`` must begin with a letter, because journald drops other names.
    """
    return _NOT_IN_NAMES.sub("_", text.upper())[:MAX_NAME]


def entry(priority: int, message: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Format an entry.

    ``priority``: 0 to 7 as in syslog(3). ``message``: without a line feed. ``fields``:
    pairs of a name, as :func:`field_name` returns it, and a value.
    """
    return b"".join(
        _field(name, value)
        for name, value in (("PRIORITY", str(priority)), ("MESSAGE", message), *fields)
    )


def _field(name: str, value: str) -> bytes:
    raw = value.encode("utf-8", "backslashreplace")
    if b"\n" in raw:
        return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(raw)), raw)
    return b"%b=%b\n" % (name.encode(), raw)


def as_line(entry: bytes) -> bytes:
    """Turn the result of :func:`entry` into a line for a stream: ``<6>message``."""
    priority, message, _ = entry.split(b"\n", 2)
    return b"<%b>%b\n" % (priority.partition(b"=")[2], message.partition(b"=")[2])
