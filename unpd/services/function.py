"""Functions (``type = "python"``): a function of the administrator is called for each
connection, in a process of its own.

Owns the keys that only such services have. No engine serves them: the dispatcher of the
service imports the function (:mod:`unpd.dispatcher.importing`), and its sessions call
it (:mod:`unpd.dispatcher.function`). Called by the table of services. Raises ValueError
with one sentence, which pydantic collects.
"""

import keyword
from dataclasses import dataclass
from typing import Annotated

from unpd.libraries import AfterValidator, BeforeValidator, Field
from unpd.services.program import AbsolutePath, ProcessOptions, listed

MAX_DIRECTORIES = 64
MAX_HANDLER_CHARACTERS = 250


def _handler(value: str) -> str:
    module, colon, function = value.partition(":")
    names = [*module.split("."), function]
    if not colon or not all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
        raise ValueError('must be a module and a function, such as "package.module:function"')
    return value


class FunctionOptions(ProcessOptions):
    """The keys that only services of type python have.

    ``handler``: the function, as "package.module:function". ``path``: directories in
    which to look for its module first.
    """

    handler: Annotated[str, AfterValidator(_handler)] = Field(
        max_length=MAX_HANDLER_CHARACTERS,
        description='a module and a function, such as "package.module:function"',
    )
    path: Annotated[tuple[AbsolutePath, ...], BeforeValidator(listed)] = Field(
        (),
        max_length=MAX_DIRECTORIES,
        description='a list of absolute paths, such as ["/opt/handlers"]',
    )


@dataclass(frozen=True, slots=True)
class FunctionService:
    """A service of type python, as its dispatcher gets it."""

    options: FunctionOptions
