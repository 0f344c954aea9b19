"""What journald reads: entries by its native protocol, and lines on a stream with their
priority in front.

An entry is one datagram (systemd.io/JOURNAL_NATIVE_PROTOCOL). It begins with PRIORITY
and MESSAGE, a line each, so that the line of sd-daemon(3) can be made of it where the
socket does not take it. A memfd for what is too big for a datagram is not offered:
whoever writes here keeps to bounds.
"""

import os
import re
import struct
from collections.abc import Iterable

SOCKET = "/run/systemd/journal/socket"
ERROR = "<3>"
"""In front of a line on a stream that journald reads: an error (sd-daemon(3))."""
MAX_NAME = 64
"""Characters of a field's name; journald drops a field with a longer one."""

_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")


def reads(fd: int, stream: str | None) -> bool:
    """Whether journald reads what is written to ``fd``: ``stream`` is $JOURNAL_STREAM,
    device and inode of the standard error that systemd gave (systemd.exec(5)).

    A descriptor that was redirected since is another file and does not match.
    """
    try:
        there = os.fstat(fd)
    except OSError:
        return False  # closed
    return stream == f"{there.st_dev}:{there.st_ino}"


def field_name(text: str) -> str:
    """``text`` as journald wants the name of a field: A to Z, 0 to 9 and _ only. That
    it begins with a letter, as it must, is the caller's affair.
    """
    return _NOT_IN_NAMES.sub("_", text.upper())[:MAX_NAME]


def entry(priority: int, message: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """An entry: ``priority`` as in syslog(3), 0 to 7; ``message`` without a line end;
    (name, value) pairs, the names as :func:`field_name` makes them.
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
    """What :func:`entry` made, as a line for a stream that journald reads:
    ``<6>message``.
    """
    priority, message, _ = entry.split(b"\n", 2)
    return b"<%b>%b\n" % (priority.partition(b"=")[2], message.partition(b"=")[2])
