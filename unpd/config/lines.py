"""Finds the line of a key in TOML text. tomllib tells no lines for keys, so this runs,
and only on error, over text that tomllib has already accepted.

Gives for every key's path its 1-based line. Paths are tuples of keys, with an index for
an item of an array. It knows the whole grammar that matters for where things stand
(comments, the four kinds of strings, arrays, inline tables, dotted and quoted keys) and
nothing about values.

Known gap: items of arrays of tables share one path, the array's; unpd has none.
"""

import contextlib
import re
import tomllib
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]

BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
SPACE = re.compile(r"[ \t]*")
KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2}(?!"))|\'\'\'.*?\'\'\'(?:'{0,2}(?!'))|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''',
    re.DOTALL,
)
SCALAR = re.compile(r"[^,\]}#\n]+")


def lines_of(text: str) -> Mapping[KeyPath, int]:
    """The line on which each path of ``text`` first stands; what cannot be followed
    (nested too deep) is left out.
    """
    scanner = _Scanner(text)
    with contextlib.suppress(
        RecursionError, _LostError, tomllib.TOMLDecodeError
    ):  # a line number is a kindness: the fault itself is reported all the same
        scanner.document()
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of ``path``, else of the closest table around it; None if none of it
    stands in the file.
    """
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _LostError(Exception):
    """The text is not what the scanner expects; tomllib would have refused it."""


class _Scanner:
    """One pass over ``text``; ``at`` is where it stands, ``line`` the line of
    ``counted``.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.counted = 0
        self.line = 1
        self.lines: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_blank() < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        brackets = 2 if self.text.startswith("[[", self.at) else 1
        self.at += brackets
        table = self._key(())
        self._take("]" * brackets)
        return table

    def _pair(self, table: KeyPath) -> None:
        path = self._key(table)
        self._take("=")
        self._value(path)

    def _key(self, table: KeyPath) -> KeyPath:
        path = table
        while True:
            self._match(SPACE)
            line = self._line_here()
            path += (_unquoted(self._match(KEY)),)
            self.lines.setdefault(path, line)
            self._match(SPACE)
            if not self.text.startswith(".", self.at):
                return path
            self.at += 1

    def _value(self, path: KeyPath) -> None:
        self._match(SPACE)
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._match(STRING if first in ('"', "'") else SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while not self._closes("]"):
            self.lines.setdefault((*path, index), self._line_here())
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while not self._closes("}"):
            self._pair(path)

    def _closes(self, bracket: str) -> bool:
        """Step over blanks and a comma; whether the array or table ends here."""
        self._skip_blank()
        if self.text.startswith(",", self.at):
            self.at += 1
            self._skip_blank()
        if self.at >= len(self.text):
            raise _LostError
        if not self.text.startswith(bracket, self.at):
            return False
        self.at += 1
        return True

    def _take(self, token: str) -> None:
        self._match(SPACE)
        if not self.text.startswith(token, self.at):
            raise _LostError
        self.at += len(token)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise _LostError
        self.at = found.end()
        return found.group()

    def _skip_blank(self) -> int:
        self._match(BLANK)
        return self.at

    def _line_here(self) -> int:
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    return str(tomllib.loads(f"key = {key}")["key"])
