"""The form of a verb of the control socket: name, texts for people, arguments, and when
the daemon answers. The rows are in :mod:`unpd.control.verbs`.

Arguments are rows of a frozen dataclass, checked by :func:`checked`, and not a pydantic
model: the command line reads the rows too, and ``unpd stop`` must answer without the
time that the import of pydantic takes.

An argument is a flag or a text. Another type needs a row in ``TYPES`` here and one in
``unpd.cli.parser``.

Calls nothing. Errors: VerbError, whose text is one sentence for the sender of the
request.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


class VerbError(Exception):
    """The request names no verb, gives a verb what it does not take, or cannot be
    carried out; the text says what would be right. ``fields``: what the answer has
    besides. ``usage`` among them is true for a name that this daemon does not
    know, or of another kind than the verb needs: the command, which has checked the
    rest, ends then with the code of wrong usage.
    """

    def __init__(self, reason: str, **fields: Any) -> None:
        super().__init__(reason)
        self.fields = fields


class Answered(enum.Enum):
    """When the daemon answers a verb."""

    AT_ONCE = "at once"
    LATER = "later"
    """When the outcome is known; until then the asking process waits."""
    IN_PARTS = "in parts"
    """With several lines. ``more`` is false in the last of them."""


TYPES: Mapping[type, str] = MappingProxyType({bool: "true or false", str: "text"})
"""The types of arguments, in the words of an error. JSON has a value for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a verb. ``help`` is the text of its option: of the command line
    and of the manual.

    ``default``: None for a text that may be left out. ``placeholder``: what stands for
    a text in usages. ``operand``: it is needed, and has no name on the command line;
    one that is ``optional`` may be left out.
    ``check`` raises ValueError, with one sentence, for a text that cannot be meant.
    ``internal``: the command gives it, and no person.
    """

    name: str
    type: type
    help: str
    default: Any = None
    placeholder: str = ""
    operand: bool = False
    optional: bool = False
    check: Callable[[str], object] = str
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table.

    ``help`` is the line in the list of commands; ``description`` is the text of the
    manual and of ``unpd VERB --help``. ``changes`` is true if the verb changes the
    daemon: then the log says which process asked. ``options`` say what the command does
    with the answer; the daemon does not see them. ``check`` raises ValueError, with one
    sentence, for arguments that cannot be meant together.
    """

    name: str
    help: str
    description: str
    answered: Answered
    changes: bool
    arguments: tuple[Argument, ...] = ()
    options: tuple[Argument, ...] = ()
    check: Callable[[Mapping[str, Any]], object] = dict


def checked(verb: Verb, values: Mapping[str, object]) -> dict[str, Any]:
    """Return a value for each argument of ``verb``: the one in ``values``, or else the
    default. VerbError for a name that the verb does not know, for a value of another
    type or that its check refuses, if an operand is missing, and for values that cannot
    be meant together.
    """
    known = [argument.name for argument in verb.arguments]
    for name in values:
        if name not in known:
            takes = f"only {', '.join(known)}" if known else "no argument"
            raise VerbError(f"unknown argument {name!r}: {verb.name} takes {takes}")
    found = {
        argument.name: _checked(argument, values.get(argument.name, argument.default))
        for argument in verb.arguments
    }
    try:
        verb.check(found)
    except ValueError as error:
        raise VerbError(str(error)) from None
    return found


def _checked(argument: Argument, value: object) -> object:
    needed = argument.operand and not argument.optional
    if value is None and argument.type is str and not needed:
        return None
    if type(value) is not argument.type:
        raise VerbError(f"{argument.name} must be {TYPES[argument.type]}")
    if isinstance(value, str):
        try:
            argument.check(value)
        except ValueError as error:
            raise VerbError(str(error)) from None
    return value
