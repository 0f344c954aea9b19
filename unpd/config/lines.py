"""Finds the lines of the keys in TOML text, because tomllib does not report them.

The result maps each key's path to its 1-based line. A path is a tuple of keys, with an
index for an item of an array. The scanner knows the grammar as far as it decides where
keys are: comments, the four kinds of strings, arrays, inline tables, dotted and quoted
keys. It knows nothing about values.

Called by unpd.config.origins and unpd.config.syntax, only if there is something to
report. Calls nothing of unpd. Raises nothing: in a text that is not TOML it stops at
the fault.

Known gaps: a key more than eight levels deep has no line of its own, because long paths
take long to hash. The items of an array of tables share the path of the array. The
configuration of unpd has neither.
"""

import contextlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
MAX_DEPTH = 8

BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
SPACE = re.compile(r"[ \t]*")
KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2}(?!"))|\'\'\'.*?\'\'\'(?:'{0,2}(?!'))|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''',
    re.DOTALL,
)
SCALAR = re.compile(r"[^,\]}#\n]+")


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the scanner found before it came to the end, or to a fault.

    ``lines``: the line of the first occurrence of each path. ``last``: the last key, or
    the last table if ``last_is_table``. ``open_lists``: the lines on which the lists
    begin that are not closed yet.
    """

    lines: Mapping[KeyPath, int]
    last: KeyPath
    last_is_table: bool
    open_lists: Sequence[int]


def scan(text: str) -> Scanned:
    """Scan ``text``. The paths are missing that the scanner cannot follow because they
    are nested too deep.
    """
    scanner = _Scanner(text)
    # A line number only helps: without it, the fault itself is still reported.
    with contextlib.suppress(RecursionError, _LostError, tomllib.TOMLDecodeError):
        scanner.document()
    return Scanned(scanner.lines, scanner.last, scanner.last_is_table, scanner.open_lists)


def lines_of(text: str) -> Mapping[KeyPath, int]:
    """The line of the first occurrence of each path in ``text``."""
    return scan(text).lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of ``path``, else of the closest table around it; None if the file has
    neither.
    """
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _LostError(Exception):
    """The text is not what the scanner expects; tomllib would have refused it."""


class _Scanner:
    """One pass over ``text``.

    ``position``: how far it has read. ``line``: the line of ``counted_to``, the
    position up to which line feeds are counted.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.counted_to = 0
        self.line = 1
        self.lines: dict[KeyPath, int] = {}
        self.last: KeyPath = ()
        self.last_is_table = False
        self.open_lists: list[int] = []

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_blank() < len(self.text):
            if self.text[self.position] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        brackets = 2 if self.text.startswith("[[", self.position) else 1
        self.position += brackets
        table = self._key(())
        self.last, self.last_is_table = table, True
        self._expect("]" * brackets)
        return table

    def _pair(self, table: KeyPath) -> None:
        path = self._key(table)
        self.last, self.last_is_table = path, False
        self._expect("=")
        self._value(path)
        self.last = path  # the value may have been a table with keys

    def _key(self, table: KeyPath) -> KeyPath:
        path = table
        while True:
            self._match(SPACE)
            path = self._below(path, self._line_here(), _unquoted(self._match(KEY)))
            self._match(SPACE)
            if not self.text.startswith(".", self.position):
                return path
            self.position += 1

    def _below(self, path: KeyPath, line: int, key: str | int) -> KeyPath:
        """Note the line of ``key`` in ``path``; return the path of both."""
        if len(path) >= MAX_DEPTH:
            return path
        self.lines.setdefault((*path, key), line)
        return (*path, key)

    def _value(self, path: KeyPath) -> None:
        self._match(SPACE)
        first = self.text[self.position : self.position + 1]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._match(STRING if first in ('"', "'") else SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.open_lists.append(self._line_here())
        self.position += 1
        index = 0
        while not self._closes("]"):
            self._value(self._below(path, self._line_here(), index))
            index += 1
        self.open_lists.pop()

    def _inline_table(self, path: KeyPath) -> None:
        self.position += 1
        while not self._closes("}"):
            self._pair(path)

    def _closes(self, bracket: str) -> bool:
        """Skip blanks and a comma; return whether the array or table ends here."""
        self._skip_blank()
        if self.text.startswith(",", self.position):
            self.position += 1
            self._skip_blank()
        if self.position >= len(self.text):
            raise _LostError
        if not self.text.startswith(bracket, self.position):
            return False
        self.position += 1
        return True

    def _expect(self, token: str) -> None:
        self._match(SPACE)
        if not self.text.startswith(token, self.position):
            raise _LostError
        self.position += len(token)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.position)
        if found is None:
            raise _LostError
        self.position = found.end()
        return found.group()

    def _skip_blank(self) -> int:
        self._match(BLANK)
        return self.position

    def _line_here(self) -> int:
        self.line += self.text.count("\n", self.counted_to, self.position)
        self.counted_to = self.position
        return self.line


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    return str(tomllib.loads(f"key = {key}")["key"])
