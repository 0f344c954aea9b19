"""Standard output and standard error of the command line: answers and messages.

Called by main and by every command; the clients copy bytes to standard output in a way
of their own. Text may come from a daemon, a server or a file. Here every character that
could control a terminal is escaped. No function here raises, whatever the two
descriptors are: full, closed, or a pipe that nobody reads. Imports next to nothing,
because ``unpd --version`` needs this module.
"""

import contextlib
import io
import os
import sys

from unpd.kernel import standard_descriptors


def prepare() -> None:
    """Make the standard streams usable, whatever the caller left of them."""
    standard_descriptors.occupy()
    # Where a descriptor was closed, Python has None. print() would then say nothing,
    # and python-daemon asks each stream for its descriptor.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A locale may lack a character, and a path may have bytes of another encoding.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Return the text with every control character escaped: those of ASCII and Latin-1,
    those that turn the direction of writing, and bytes that were no text. Beyond ASCII
    the escapes are also those of TOML.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    if char.isascii():
        return ascii(char)[1:-1]
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _lines(text: str) -> list[str]:
    return [printable(line) for line in text.rstrip("\n").split("\n")]


def show(text: str) -> bool:
    """Write the answer of a command to standard output. False if it could not be
    written; then standard error says so, unless the reader has gone.
    """
    try:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(text)))
        sys.stdout.flush()
    except OSError as error:
        _discard(1)
        if not isinstance(error, BrokenPipeError):
            complain(f"cannot write the answer to standard output: {error.strerror}")
        return False
    return True


def complain(text: str, name: str = "unpd: ") -> None:
    """Write a message to standard error, each line after ``name``. Where that is full
    or closed, the exit code has to do.
    """
    try:
        sys.stderr.write("".join(f"{_priority()}{name}{line}\n" for line in _lines(text)))
        sys.stderr.flush()
    except OSError:
        _discard(2)


def _discard(fd: int) -> None:
    """Send what is left in the buffer to /dev/null: the interpreter writes it at its
    end, and that must not fail once more.
    """
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def in_journal() -> bool:
    """Whether journald reads standard output, which then has the lines of the daemon
    already.
    """
    stream = os.environ.get("JOURNAL_STREAM")
    if stream is None:
        return False
    from unpd.kernel import journal  # noqa: PLC0415 - see above

    return journal.reads(1, stream)


def _priority() -> str:
    """Return the prefix by which journald knows a line for an error (sd-daemon(3)),
    where it reads standard error.
    """
    stream = os.environ.get("JOURNAL_STREAM")
    if stream is None:
        return ""
    from unpd.kernel import journal  # noqa: PLC0415 - see above

    return journal.ERROR_PREFIX if journal.reads(2, stream) else ""
