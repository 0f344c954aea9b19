"""Prints the completions of ``unpd`` for one shell: bash, zsh or fish.

build.py runs this program. shtab makes the completions from the parser of the command
line. Nothing of this is needed at run time.
"""

import argparse
import sys
from collections.abc import Iterator

import shtab

from unpd.cli.main import _parser

FILES = {"FILE", "PATH"}
"""The placeholders of the command line that stand for the name of a file."""


def main() -> None:
    """Print the script for the shell that the command line names."""
    parser = _parser()
    for action in actions(parser):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it from there
    print(shtab.complete(parser, shell=sys.argv[1]))


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every option and operand of ``parser`` and of its commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its own options
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for command in action.choices.values():
                yield from actions(command)


main()
