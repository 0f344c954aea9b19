"""How the configuration's errors repeat and suggest words: quoted, cut, and with
nothing in them that could harm a terminal or a log line.
"""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path

MAX_CHARACTERS = 120
"""Of anything from the file that is repeated: a UNIX path fits."""


def quoted(text: str) -> str:
    """``text`` in double quotes, control and foreign characters escaped as in TOML, cut
    after :data:`MAX_CHARACTERS`.
    """
    return json.dumps(
        text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
    ).replace("\x7f", "\\u007f")


def key_shown(key: str) -> str:
    """``key`` as TOML writes it: bare if it can be, else quoted."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key) else quoted(key)


def file_shown(path: Path) -> str:
    """``path`` as it is, or quoted if its name holds what no name in print does:
    anybody may name a file.
    """
    return str(path) if str(path).isprintable() else quoted(str(path))


def choice(words: Iterable[str]) -> str:
    """The words, quoted, in one line."""
    return ", ".join(quoted(word) for word in words)


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean "x"?`` with the closest of ``known``, or nothing if none is
    close.
    """
    close = difflib.get_close_matches(word[:MAX_CHARACTERS].lower(), tuple(known), n=1)
    return f"; did you mean {quoted(close[0])}?" if close else ""
