"""Reads a configuration file, distrusting it: only a regular file, at most 1 MiB,
UTF-8, and not one that others can change under root.

Every refusal is one :class:`ConfigError` with one sentence. Nothing blocks (a FIFO is
opened without waiting) and nothing is written.

Known gaps: access control lists, and the directories above the file (but for conf.d),
are not looked at.
"""

import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpd.config.wording import file_shown
from unpd.errors import ConfigError, Problem

MAX_FILE_BYTES = 1 << 20
MAX_DOTS = 64
"""On one line, outside strings and comments. tomllib takes quadratic time over the
parts of a dotted key: 60,000 of them, 120 kB, kept it busy for a minute.
"""

QUOTED_OR_COMMENT = re.compile(r""""(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|#[^\n]*""")


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a configuration; ``file`` is what errors call it, ``warnings`` what
    is doubtful about the file itself.
    """

    file: str
    text: str
    warnings: tuple[str, ...] = ()


def read(path: Path, *, wary: bool) -> Source:
    """The file at ``path``. ``wary``, as root has to be: refuse what others may change,
    instead of a warning. ConfigError if it is refused or cannot be read.
    """
    file = file_shown(path)
    try:
        content, status = _bytes(path)
    except OSError as error:
        raise _refusal(file, _reason(error)) from None
    objections = distrust(status.st_mode, status.st_uid, status.st_gid) if wary else ()
    if objections:
        raise ConfigError(tuple(Problem(file, None, "", objection) for objection in objections))
    return Source(file, _decoded(file, content), open_to_all(status.st_mode))


def distrust(mode: int, owner: int, group: int) -> tuple[str, ...]:
    """Why root must not trust a file or directory of this mode, owner and group;
    nothing if only root can write it.
    """
    found = open_to_all(mode)
    if mode & stat.S_IWGRP and group != 0 and not found:
        found = (
            (
                f"the {_sort(mode)} can be written by gid {group} (mode {stat.S_IMODE(mode):04o}):"
                " take that away with chmod g-w"
            ),
        )
    return (
        found
        if owner == 0
        else (
            (
                f"the {_sort(mode)} belongs to uid {owner}, who could give root's orders: chown it"
                " to root"
            ),
            *found,
        )
    )


def open_to_all(mode: int) -> tuple[str, ...]:
    """The sentence about a file or directory that everybody may write; nothing about
    any other.
    """
    return (
        (
            (
                f"the {_sort(mode)} can be written by everybody (mode {stat.S_IMODE(mode):04o}):"
                " take that away with chmod o-w"
            ),
        )
        if mode & stat.S_IWOTH
        else ()
    )


def _sort(mode: int) -> str:
    return "directory" if stat.S_ISDIR(mode) else "file"


def _bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """At most one byte more than allowed, so that the size is judged by what
    was read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise (
                IsADirectoryError if stat.S_ISDIR(status.st_mode) else OSError("not a regular file")
            )
        content = b""
        while len(content) <= MAX_FILE_BYTES and (
            piece := os.read(fd, MAX_FILE_BYTES + 1 - len(content))
        ):
            content += piece
        return content, status
    finally:
        os.close(fd)


def _reason(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "the file cannot be read: permission denied"
        case IsADirectoryError():
            return "this is a directory, not a file"
    return (
        f"the file cannot be read: {error.strerror}"
        if error.strerror
        else "this is not a regular file"
    )


def _decoded(file: str, content: bytes) -> str:
    if len(content) > MAX_FILE_BYTES:
        raise _refusal(
            file, f"the file is larger than {MAX_FILE_BYTES} bytes, which no configuration needs"
        )
    if b"\0" in content:
        raise _refusal(file, "this is a binary file, not TOML")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(
            file, f"the text is not UTF-8: byte 0x{content[error.start]:02x} does not fit", line
        ) from None


def parse(source: Source) -> dict[str, Any]:
    """The TOML of ``source``. ConfigError, with the line if there is one, if it is
    none.
    """
    for number, line in enumerate(QUOTED_OR_COMMENT.sub("", source.text).split("\n"), start=1):
        if line.count(".") > MAX_DOTS:
            raise _refusal(
                source.file,
                f"more than {MAX_DOTS} dots on one line: the nesting is too deep",
                number,
            )
    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(source, str(error)) from None
    except RecursionError:
        raise _refusal(source.file, "the nesting is too deep") from None
    except ValueError:  # int() refuses more than 4300 digits, and tomllib passes that on
        raise _refusal(source.file, "a number has too many digits") from None


def _syntax(source: Source, message: str) -> ConfigError:
    """The parser ends its sentences with "(at line 3, column 5)" or "(at end of
    document)".
    """
    fault, _, place = message.rpartition(" (at ")
    found = re.fullmatch(r"line (\d+), column (\d+)\)", place)
    if found:
        return _refusal(
            source.file, f"not valid TOML: {fault} (column {found.group(2)})", int(found.group(1))
        )
    return _refusal(
        source.file,
        f"not valid TOML: {fault or message} (at the end of the file)",
        source.text.rstrip("\n").count("\n") + 1,
    )


def _refusal(file: str, message: str, line: int | None = None) -> ConfigError:
    return ConfigError((Problem(file, line, "", message),))
