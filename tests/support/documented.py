"""The section "Programs" of the README: the services of programs and the files that
they need, as an administrator copies them. Tests of real programs run this text, with
other places and ports.
"""

import re
from collections.abc import Mapping

from tests.support import ROOT

_SECTION = (ROOT / "README.md").read_text().split("### Programs\n", 1)[1].split("\n### ", 1)[0]
_BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", _SECTION, re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^# (/\S+)$", re.MULTILINE)
"""A line that names the file in which its block is."""


def services() -> dict[str, str]:
    """Return the text of each service by its name, its subtables included."""
    (text,) = (block for block in _BLOCKS if block.startswith("[services."))
    parts = re.split(r"^\[services\.(\w+)\]", text, flags=re.MULTILINE)[1:]
    return {
        name: f"[services.{name}]{rest}" for name, rest in zip(parts[::2], parts[1::2], strict=True)
    }


def files() -> dict[str, str]:
    """Return the text of each file by its path."""
    return {found[1]: block for block in _BLOCKS if (found := _FILE.search(block))}


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Return ``text`` with other words. AssertionError if it lacks one of the old ones,
    as it does when the documentation has changed.
    """
    for old, new in changes.items():
        assert old in text, f"the documentation says {old!r} no more"
        text = text.replace(old, new)
    return text
