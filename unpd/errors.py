"""The failures that unpd reports to its operator: a sentence and an exit code each.

Owns these exceptions, and how a sentence quotes and shows the exceptions of foreign
code. Raised at the edges of the program, caught at the top of the command line and by a
reload. Calls unpd.names for the exit codes.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from unpd.names import ExitCode

MAX_CHARACTERS = 120
"""The most characters that a message repeats from a file; a UNIX path fits."""
MAX_LINE_CHARACTERS = 200
"""The most characters of an exception of foreign code in a message."""


class UnpdError(Exception):
    """A failure whose text is one sentence for the operator.

    ``exit_code``: the exit code of a program that ends because of it.
    """

    exit_code: ExitCode = ExitCode.FAILED


def error_text(error: BaseException, form: Callable[[BaseException], str] = repr) -> str:
    """``form(error)``, by default the type of ``error`` and its values. An exception of
    foreign code may be unable to describe itself.
    """
    try:
        return form(error)
    except BaseException:  # noqa: BLE001 - foreign code may raise anything
        return f"{type(error).__name__}, which cannot be shown"


def error_line(error: BaseException) -> str:
    """``error`` as the last line of its traceback: in one line of at most
    :data:`MAX_LINE_CHARACTERS`.
    """
    return " ".join(error_text(error, _in_words).split())[:MAX_LINE_CHARACTERS]


def _in_words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a configuration.

    ``line``: 1-based, None if it is unknown. ``key``: dotted, "" if the fault is not
    about one key. ``message``: what is wrong, or what would be right.
    """

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class WrongUsageError(UnpdError):
    """The command line asks for what cannot be meant, such as a service that the
    configuration does not have.
    """

    exit_code = ExitCode.USAGE


class ConfigError(UnpdError):
    """The configuration is refused.

    ``problems``: every fault that was found, not only the first.
    """

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class AddressError(UnpdError):
    """unpd cannot listen on an address.

    It is in use, it belongs to another host, or its path is a file that unpd must not
    replace.
    """

    exit_code = ExitCode.ADDRESS


class CannotCreateError(UnpdError):
    """unpd cannot create the pid file, the log file, the control socket or a unit."""

    exit_code = ExitCode.CANNOT_CREATE


class AlreadyRunningError(UnpdError):
    """Another daemon holds the pid file's lock."""

    exit_code = ExitCode.ALREADY_RUNNING


class PrivilegeError(UnpdError):
    """unpd lacks a privilege, or could not give one up."""

    exit_code = ExitCode.PRIVILEGE


def quoted(text: str) -> str:
    """``text`` in double quotes, cut after :data:`MAX_CHARACTERS`; control characters
    and all but ASCII are escaped as in TOML.
    """
    return json.dumps(
        text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
    ).replace("\x7f", "\\u007f")
