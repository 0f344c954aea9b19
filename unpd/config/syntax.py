"""Says in plain words why a text is not TOML, for people who write TOML rarely.

tomllib says what it expected next. From that and from the text around the fault this
module concludes what was meant: quotes that are missing, a key that is there twice, a
line of xinetd.conf. For anything else tomllib's own words stay.

Called by unpd.config.source. Calls unpd.config.lines and unpd.config.wording. Raises
nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unpd.config.lines import KeyPath, Scanned, scan
from unpd.config.wording import key_shown

_COMMENT_ONLY = "nothing but a comment, which begins with #, may follow on this line"
_LINES = "a line is KEY = VALUE, or [TABLE], or a comment that begins with #"
_NO_OPENING = "a closing bracket stands here without its opening one"
_NO_CLOSING_QUOTE = "the closing quotation mark is missing"
_XINETD = (
    "this looks like a file of xinetd or inetd: here a service is a table [services.NAME] with"
    " lines KEY = VALUE"
)
_JSON = (
    "this looks like JSON: here a table begins with a line [services.NAME], and lines KEY = VALUE"
    " follow"
)
_NO_VALUE = "this is no value: a value is a number, true, false, a text in quotes or a list"
_RETURN = "a carriage return stands here alone: end each line with LF, or with CR and LF"
_BOOLEANS = frozenset({"true", "false", "yes", "no", "on", "off", "enabled", "disabled"})
_UNITS_OF_TIME = frozenset({"ms", "s", "sec", "min", "h"})
_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb`\u00b4"


@dataclass(frozen=True, slots=True)
class _Fault:
    """What tomllib says, and the text around its place.

    ``before``, ``after``: the rest of the line on both sides of the place. ``scanned``:
    the keys up to the place. ``line``: 1-based. ``column``: 0 at the end of the text.
    """

    said: str
    line: int
    column: int
    before: str
    after: str
    scanned: Scanned

    @property
    def last_part(self) -> str:
        """The last key without the table around it, as the line shows it."""
        return next(
            (key_shown(key) for key in reversed(self.scanned.last) if isinstance(key, str)), "KEY"
        )

    @property
    def example(self) -> str:
        """How a text is written as the value of the last key, or as an item there."""
        value = '["..."]' if self.scanned.open_lists else '"..."'
        return f"{self.last_part} = {value}"


def _dotted(path: KeyPath) -> str:
    return ".".join(key_shown(key) for key in path if isinstance(key, str))


def explain(text: str, message: str) -> tuple[int, str]:
    """The line of the fault, 1-based, and a sentence about it.

    ``message``: of tomllib, which ends with "(at line 3, column 5)" or "(at end of
    document)".
    """
    fault = _fault(text.replace("\r\n", "\n"), message)
    for words, rule in _RULES.items():
        if fault.said.startswith(words):
            return fault.line, rule(fault)
    place = f"column {fault.column}" if fault.column else "at the end of the file"
    return fault.line, f"{fault.said} ({place})"


def _fault(text: str, message: str) -> _Fault:
    said, _, place = message.rpartition(" (at ")
    found = re.fullmatch(r"line (\d+), column (\d+)\)", place)
    if not found:
        end = text.rstrip("\n")
        return _Fault(
            said=said or message,
            line=end.count("\n") + 1,
            column=0,
            before=end.rpartition("\n")[2],
            after="",
            scanned=scan(text),
        )
    line, column = int(found[1]), int(found[2])
    lines = text.split("\n")
    here = lines[line - 1]
    return _Fault(
        said=said,
        line=line,
        column=column,
        before=here[: column - 1],
        after=here[column - 1 :],
        scanned=scan("\n".join([*lines[: line - 1], here[: column - 1]])),
    )


def _twice(fault: _Fault) -> str:
    """Advice about a key or table that is there already, or whose table is closed."""
    last, lines = fault.scanned.last, fault.scanned.lines
    path = next(
        (
            last[:length]
            for length in range(len(last), 0, -1)
            if lines.get(last[:length], fault.line) < fault.line
        ),
        last,
    )
    first = lines.get(path, fault.line)
    where = "on this line" if first == fault.line else f"on line {first}"
    if fault.scanned.last_is_table:
        return f"the table [{_dotted(path)}] is {where} already: put the keys of both into one"
    return f"{_dotted(path)} is {where} already: keep one of the two"


def _value(fault: _Fault) -> str:
    """Advice about a text in the place of a value that is none."""
    word = re.match(r"[^\s,\]}#]*", fault.after)
    first = word[0][:1] if word else ""
    if fault.scanned.open_lists and _ends_list(fault):
        return _open_list(fault)
    if not first:
        return f"the value of {fault.last_part} is missing"
    if word and word[0].lower() in _BOOLEANS:
        return "write true or false, in lower case and without quotes"
    if word and word[0].lower() in ("null", "none", "nil"):
        return f"leave {fault.last_part} out to get its default"
    if first in _QUOTES:
        return f'U+{ord(first):04X} is no quotation mark of TOML: use "'
    if first == "=":
        return "the sign = stands here twice"
    if first.isalpha() or first in "/*@~$_:%<\\":
        return f"a text needs quotes: {fault.example}"
    return _NO_VALUE


def _ends_list(fault: _Fault) -> bool:
    """Whether the place is the end of the text, or a line that looks like the next
    statement: then an open list was meant to end before it.
    """
    here = (fault.before + fault.after).strip()
    return not fault.column or (
        fault.line > fault.scanned.open_lists[0]
        and re.match(r"\[[\w.-]+\]|[\w.-]+\s*=", here) is not None
    )


def _after_statement(fault: _Fault) -> str:
    """Advice about a text after the name of a table, or after a value."""
    if fault.after[:1] == "\r":
        return _RETURN
    if fault.scanned.last_is_table or fault.after[:1] in ("]", "}"):
        return _NO_OPENING if fault.after[:1] in ("]", "}") else _COMMENT_ONLY
    value = fault.before.partition("=")[2].strip()
    if value[:1] in ('"', "'"):
        several = fault.after[:1] in (",", '"', "'")
        return (
            f'several values need brackets: {fault.last_part} = ["...", "..."]'
            if several
            else _COMMENT_ONLY
        )
    return _after_bare_value(value, fault)


def _after_bare_value(value: str, fault: _Fault) -> str:
    rest = fault.after.partition("#")[0].strip()
    if value == "0" and rest[:1].isdigit():
        return 'a number does not begin with 0; a mode needs quotes, such as "0660"'
    if re.fullmatch(r"[-+]?[0-9._]+", value):
        if re.fullmatch(r"[A-Za-z%][\w.]*", rest):
            return _unit(rest, fault)
        if re.fullmatch(r",[0-9]+", rest):
            return "a point, not a comma, stands before the fraction of a number"
        if re.fullmatch(r"[._][0-9._]*", rest):
            return _NO_VALUE
        if fault.before[-1:].isspace() and rest[:1].isdigit():
            return f"a second number stands here: {fault.last_part} has one value"
    if rest[:1] == ";":
        return _COMMENT_ONLY
    return f"a text needs quotes: {fault.example}"


def _unit(unit: str, fault: _Fault) -> str:
    """Advice about a number with a unit: an operator may write one after a time."""
    if fault.last_part.endswith("_s") or unit.lower() in _UNITS_OF_TIME:
        return "a number has no unit; times are in seconds"
    return "a number has no unit: write it in digits alone"


def _no_equals(fault: _Fault) -> str:
    line = (fault.before + fault.after).strip()
    if re.match(r"(service\s|defaults\b|include(dir)?\s|\S+\s+(stream|dgram|tli)\b)", line):
        return _XINETD
    if fault.after[:1] == ":":
        return "write = in place of :"
    if fault.after[:2] in ("+=", "-="):
        return f"write = in place of {fault.after[:2]}"
    if fault.after[:1] == "]":
        return "the bracket [ is missing before the name of the table"
    if not fault.after[:1].isascii():
        return f"the character U+{ord(fault.after[0]):04X} is not allowed in a key without quotes"
    return f"the sign = is missing: {_LINES}"


def _statement(fault: _Fault) -> str:
    """Advice about a line that begins like no statement."""
    first = fault.after[:1]
    if first == "{":
        return _XINETD if fault.scanned.lines else _JSON
    if first in ("]", "}"):
        return _NO_OPENING
    if first == "=":
        return "the key before = is missing"
    if not first.isascii():
        return f"the character U+{ord(first):04X} is not allowed in a key without quotes"
    return _LINES


def _table_name(fault: _Fault) -> str:
    if "]" not in fault.after:
        return "the bracket ] is missing after the name of the table"
    return "the name of a table has letters, digits, - and _ only, and dots between its parts"


def _key_part(fault: _Fault) -> str:
    if "{" in fault.before and not fault.after:
        return "a table in braces must end on its line"
    if re.fullmatch(r"\s*\[+\s*", fault.before):
        return "the name of the table is missing"
    return "a key is missing here"


def _open_list(fault: _Fault) -> str:
    first = fault.scanned.open_lists[0] if fault.scanned.open_lists else fault.line
    return f"the list that begins on line {first} lacks a comma or its closing bracket ]"


def _character(fault: _Fault) -> str:
    if not fault.after:
        return _NO_CLOSING_QUOTE
    if fault.after[0] == "\r":
        return _RETURN
    return f"the control character U+{ord(fault.after[0]):04X} is not allowed here"


def _says(sentence: str) -> Callable[[_Fault], str]:
    return lambda _: sentence


_RULES: Mapping[str, Callable[[_Fault], str]] = MappingProxyType(
    {
        "Cannot declare": _twice,
        "Cannot overwrite": _twice,
        "Cannot redefine": _twice,
        "Cannot mutate": _twice,
        "Duplicate inline table key": _twice,
        "Invalid value": _value,
        "Expected newline": _after_statement,
        "Expected '=' after a key": _no_equals,
        "Invalid statement": _statement,
        "Expected ']' at the end": _table_name,
        "Expected ']]' at the end": _table_name,
        "Invalid initial character": _key_part,
        "Unclosed array": _open_list,
        "Unclosed inline table": _says(
            "the table in braces lacks a comma or its closing brace } on this line"
        ),
        "Unterminated string": _says(_NO_CLOSING_QUOTE),
        "Expected \"'": _says(_NO_CLOSING_QUOTE),
        "Illegal character": _character,
        "Found invalid character": _character,
        "Unescaped": _says(
            "a backslash within double quotes begins an escape: write it twice, or use single"
            " quotes"
        ),
        "Invalid hex value": _says("4 hexadecimal digits follow \\u, and 8 follow \\U"),
        "Escaped character is not": _says("this escape stands for no character"),
        "Invalid date": _says("there is no such date or time"),
    }
)
"""The rule for each message of tomllib, by how it begins."""
