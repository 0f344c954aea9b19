"""Quotes and suggests words in messages about the configuration: short, and without
characters that could harm a terminal or a log line.

Called by the modules of unpd.config and by the command line. Calls unpd.errors.
Raises nothing.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from unpd.errors import MAX_CHARACTERS, quoted
from unpd.names import is_name

CLOSE = 0.75
"""How near a word must be to be suggested, from 0 to 1: the share of equal letters. Of
"access_times" and "session_timeout_s" it is 0.62.
"""


def key_shown(key: str) -> str:
    """``key`` as TOML writes it: bare if possible, else quoted."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key) else quoted(key)


def file_shown(path: Path) -> str:
    """``path`` as it is, or quoted if it has unprintable characters: a file may have
    any name.
    """
    return str(path) if str(path).isprintable() else quoted(str(path))


def word_shown(word: str) -> str:
    """``word`` as it is, or quoted if it has spaces or unprintable characters, so that
    a sentence shows where it ends.
    """
    return word if word.isprintable() and " " not in word else quoted(word)


def quoted_list(words: Iterable[str]) -> str:
    """The words, quoted, separated by commas."""
    return ", ".join(quoted(word) for word in words)


def listed(words: Sequence[str], last: str) -> str:
    """The words as a sentence lists them: with ``last``, "and" or "or", before the last
    one.
    """
    *before, end = words
    return f"{', '.join(before)} {last} {end}" if before else end


def nearest(word: str, known: Iterable[str]) -> str:
    """The word of ``known`` that is nearest; "" if none is near. A name without its
    directory is near: "Berlin" to "Europe/Berlin".
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    wanted = word[:MAX_CHARACTERS].lower()
    close = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=CLOSE) or [
        lower for lower in by_lower if wanted and lower.endswith(f"/{wanted}")
    ]
    return by_lower[close[0]] if close else ""


def name_suggestion(name: str, taken: Iterable[str]) -> str:
    """``; did you mean "my-sql"?`` for a name of a service or a pool such as My_SQL,
    which other programs allow; "" if that is none either, or ``taken``.
    """
    valid = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    if not name.isascii() or not is_name(valid) or valid in taken:
        return ""
    return f"; did you mean {quoted(valid)}?"


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean "x"?`` with the :func:`nearest` word; "" if none is near."""
    found = nearest(word, known)
    return f"; did you mean {quoted(found)}?" if found else ""
