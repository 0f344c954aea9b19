"""Reads a configuration file without trusting it: a regular file of bounded size, in
UTF-8, which, if root runs unpd, no other user can change.

It never blocks (it opens a FIFO without waiting) and writes nothing. The bounds keep a
load short, because the master does nothing else meanwhile: no files within them take
half a second.

Called by unpd.config.load, by unpd.config.files for other files, and by the command
line to find a daemon. Calls unpd.config.syntax and unpd.config.wording. Raises
:class:`ConfigError` with one sentence for each objection.

Known gaps: it checks neither access control lists nor the directories above the file
(unpd.config.dropins checks conf.d).
"""

import codecs
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpd.config import syntax
from unpd.config.wording import file_shown
from unpd.errors import ConfigError, Problem
from unpd.kernel.privileges import owner_here, user_name

MAX_BYTES = 256 << 10
"""How many bytes all files of a configuration may have, together. The shipped file has
9,000, and most of them are comments.
"""

MAX_ELEMENTS = 8192
"""How many keys, tables and items of lists all files may have, together. The largest
configuration that the schema allows has about 2,000.
"""

MAX_DOTS = 8
"""The most dots of one key; ours have two. tomllib takes quadratic time for the parts
of a key.
"""

STRING_OR_COMMENT = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*+"{0,5}|\'{3}.*?(?:\'{3,5}|\Z)'''
    r"""|"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|#[^\n]*""",
    re.DOTALL,
)
NO_KEY = re.compile(r"[^A-Za-z0-9_\- \t.]+")
"""What separates one key from the next, in a text without strings and comments."""


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a configuration.

    ``file``: its name in messages. ``warnings``: sentences about the file itself,
    without its name.
    """

    file: str
    text: str
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Used:
    """How much the files of one configuration hold so far, together.

    ``size_bytes``: of text. ``elements``: keys, tables and items of lists, as the marks
    of TOML outside strings and comments show them; never fewer than there are.
    """

    size_bytes: int = 0
    elements: int = 0

    @property
    def too_much(self) -> bool:
        """Whether this is more than is allowed."""
        return self.size_bytes > MAX_BYTES or self.elements > MAX_ELEMENTS


def read(path: Path, *, trusted_only: bool) -> Source:
    """Read the file at ``path``.

    ``trusted_only``, for root: refuse a file that other users can change; otherwise a
    file that all users can change gives a warning. ConfigError if the file is refused
    or cannot be read.
    """
    file = file_shown(path)
    try:
        content, status = read_bounded(path, MAX_BYTES)
    except OSError as error:
        raise _refusal(file, reason(error, user_name(os.geteuid()))) from None
    owner = owner_here(status.st_uid)
    if trusted_only and (objections := distrust(status.st_mode, owner, status.st_gid)):
        raise ConfigError(tuple(Problem(file, None, "", objection) for objection in objections))
    if len(content) > MAX_BYTES:
        raise _refusal(file, _too_large(f"the file has {max(len(content), status.st_size)} bytes"))
    return Source(file, _decode(file, content), world_writable(status.st_mode))


def _too_large(beginning: str) -> str:
    return f"{beginning}, but all files of a configuration together may have at most {MAX_BYTES}"


def distrust(mode: int, owner: int, group: int) -> tuple[str, ...]:
    """Why root must not trust a file or directory of this mode, owner and group: one
    sentence for each reason, none if only root can write to it.
    """
    noun, octal = _noun(mode), f"{stat.S_IMODE(mode):04o}"
    objections = world_writable(mode)
    if mode & stat.S_IWGRP and group != 0 and not objections:
        sentence = f"gid {group} can write to the {noun} (mode {octal}): run chmod g-w on it"
        objections = (sentence,)
    if owner != 0:
        sentence = f"the {noun} belongs to uid {owner} instead of root: run chown root on it"
        objections = (sentence, *objections)
    return objections


def world_writable(mode: int) -> tuple[str, ...]:
    """One sentence about a file or directory that every user can write to; none about
    any other.
    """
    if not mode & stat.S_IWOTH:
        return ()
    noun, octal = _noun(mode), f"{stat.S_IMODE(mode):04o}"
    return (f"every user can write to the {noun} (mode {octal}): run chmod o-w on it",)


def _noun(mode: int) -> str:
    return "directory" if stat.S_ISDIR(mode) else "file"


def read_bounded(path: Path, max_bytes: int) -> tuple[bytes, os.stat_result]:
    """Read at most one byte more than ``max_bytes``: the size of what was read then
    decides, whatever fstat(2) said. OSError, also if this is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise (
                IsADirectoryError if stat.S_ISDIR(status.st_mode) else OSError("not a regular file")
            )
        content = b""
        while len(content) <= max_bytes and (piece := os.read(fd, max_bytes + 1 - len(content))):
            content += piece
        return content, status
    finally:
        os.close(fd)


def reason(error: OSError, user: str) -> str:
    """Why ``user`` cannot read a file, as one sentence."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return f"the file cannot be read by user {user}: permission denied"
        case IsADirectoryError():
            return "this is a directory, not a file"
    return (
        f"the file cannot be read: {error.strerror}"
        if error.strerror
        else "this is not a regular file"
    )


def _decode(file: str, content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _refusal(file, "the text is UTF-16: save the file as UTF-8")
    if b"\0" in content:
        raise _refusal(file, "this is a binary file, not TOML")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(
            file, f"the text is not UTF-8: byte 0x{content[error.start]:02x} is wrong here", line
        ) from None


def parse(source: Source, used: Used | None = None) -> dict[str, Any]:
    """Parse the TOML of ``source``. ConfigError, with the line if it is known, if the
    text is not TOML, or if it is too much.

    ``used``: what the other files hold; this one is added. None for a single file.
    """
    _refuse_excess(source, used or Used())
    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        line, sentence = syntax.explain(source.text, str(error))
        raise _refusal(source.file, f"not valid TOML: {sentence}", line) from None
    except RecursionError:
        raise _refusal(source.file, "the nesting is too deep") from None
    except ValueError:  # int() refuses more than 4300 digits, and tomllib passes that on
        raise _refusal(source.file, "a number has too many digits") from None


def _refuse_excess(source: Source, used: Used) -> None:
    """ConfigError before a text that would take long to parse."""
    bare = STRING_OR_COMMENT.sub("", source.text)
    used.size_bytes += len(source.text.encode())
    used.elements += sum(bare.count(mark) for mark in "=,[{.")
    if used.size_bytes > MAX_BYTES:
        raise _refusal(
            source.file, _too_large(f"the files up to this one have {used.size_bytes} bytes")
        )
    if used.elements > MAX_ELEMENTS:
        raise _refusal(
            source.file,
            f"the files up to this one have about {used.elements} keys, tables and items of lists,"
            f" but all files of a configuration together may have at most {MAX_ELEMENTS}",
        )
    for number, line in enumerate(bare.split("\n"), start=1):
        if line.count(".") > MAX_DOTS and _has_deep_key(line):
            raise _refusal(
                source.file, f"a key has more than {MAX_DOTS} dots: the nesting is too deep", number
            )


def _has_deep_key(line: str) -> bool:
    return any(part.count(".") > MAX_DOTS for part in NO_KEY.split(line))


def _refusal(file: str, message: str, line: int | None = None) -> ConfigError:
    return ConfigError((Problem(file, line, "", message),))


def names_of(path: Path | None) -> tuple[str, ...]:
    """The absolute names of a file, as it is written and without symbolic links; () for
    None, the built-in default. Two processes that mean the same file share a name, even
    if a link was changed meanwhile.
    """
    if path is None:
        return ()
    return tuple(dict.fromkeys((str(path.absolute()), os.path.realpath(path))))
