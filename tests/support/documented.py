"""What the README says, for tests that do it: the section "Programs" with the services
of programs and the files that they need, the table of ways to install, and the commands
of other sections. The tests follow this text, some with other places and ports.
"""

import re
from collections.abc import Mapping

from tests.support import ROOT

_README = (ROOT / "README.md").read_text()
_SECTION = _README.split("### Programs\n", 1)[1].split("\n### ", 1)[0]
_BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", _SECTION, re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TYPED = re.compile(r"^[#$] ((?:.*\\\n)*.*)\n((?:(?![#$] ).*\n)*)", re.MULTILINE)
"""A command, whose lines but the last end in a backslash, and what it prints."""
_FILE = re.compile(r"^# (/\S+)$", re.MULTILINE)
"""A line that names the file in which its block is."""


def _section(heading: str) -> str:
    return _README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


_INSTALLATION = _section("Installation")


def typed(heading: str) -> list[tuple[str, str]]:
    """Return each command that a section has a reader type, with what it prints."""
    blocks = _CONSOLE.findall(_section(heading))
    return [found for block in blocks for found in _TYPED.findall(block)]


def mentioned(heading: str, program: str) -> list[str]:
    """Return each command of a program that stands in the sentences of a section."""
    text = _CONSOLE.sub("", _section(heading))
    commands = (" ".join(command.split()) for command in _commands(text))
    return [command for command in commands if command.startswith(f"{program} ")]


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


def ways_to_install() -> dict[str, tuple[list[str], list[str]]]:
    """Return the commands of each row of the table of ways to install by its first
    word: what to do, and what to do then.
    """
    table = _INSTALLATION.split("|---|---|---|---|\n", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    return {way: (_commands(do), _commands(then)) for way, _, do, then in rows}


def command_of_the_wheel() -> str:
    """Return the command that makes the wheel of this directory."""
    found = re.search(r"the wheel that `([^`]+)`", _INSTALLATION)
    assert found
    return " ".join(found[1].split())


def commands_for_uv() -> list[str]:
    """Return the commands with which root installs uv on Debian."""
    text = _INSTALLATION.split("no package of uv", 1)[1].split("\n\n", 1)[0]
    return [" ".join(command.split()) for command in _commands(text)]


def _commands(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Return ``text`` with other words. AssertionError if it lacks one of the old ones,
    as it does when the documentation has changed.
    """
    for old, new in changes.items():
        assert old in text, f"the documentation says {old!r} no more"
        text = text.replace(old, new)
    return text
