"""Prints the completions of ``unpd`` for one shell: bash, zsh or fish.

build.py runs this program. shtab makes the completions from the parser of the command
line. Nothing of this is needed at run time.
"""

import argparse
import sys
from collections.abc import Iterator

import shtab

from unpd.cli.parser import make_parser

FILES = {"FILE", "PATH"}
"""The placeholders of the command line that stand for the name of a file."""


def main() -> None:
    """Print the completions for the shell that the command line names."""
    parser = make_parser()
    for action in actions(parser):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it from there
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - see actions()
            describe(action)
    print(shtab.complete(parser, shell=sys.argv[1]))


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield every option and operand of ``parser`` and of its commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its own options
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for command in action.choices.values():
                yield from actions(command)


def describe(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe each command by its line in the list of commands. shtab would take the
    description, which is a paragraph.
    """
    for row in commands._choices_actions:  # noqa: SLF001 - as in actions()
        commands.choices[row.dest].description = row.help


if __name__ == "__main__":
    main()
