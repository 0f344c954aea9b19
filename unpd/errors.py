"""The failures that unpd tells its operator about; each carries its exit code and
speaks in whole sentences.
"""

from dataclasses import dataclass

from unpd.names import ExitCode


class UnpdError(Exception):
    """A failure whose text is one clear sentence for the operator; ``exit_code`` is how
    the program then ends.
    """

    exit_code: ExitCode = ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where (file, 1-based line or None, dotted
    key or "") and what would be right.
    """

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(UnpdError):
    """The configuration is refused; ``problems`` holds every fault found, not only the
    first.
    """

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class AddressError(UnpdError):
    """An address cannot be listened on: in use, not on this host, or not a socket of
    ours to replace.
    """

    exit_code = ExitCode.ADDRESS


class CannotCreateError(UnpdError):
    """The pid file, the log file or the control socket cannot be made."""

    exit_code = ExitCode.CANNOT_CREATE


class AlreadyRunningError(UnpdError):
    """Another instance holds the pid file's lock."""

    exit_code = ExitCode.ALREADY_RUNNING


class PrivilegeError(UnpdError):
    """A privilege is missing, or one could not be given up."""

    exit_code = ExitCode.PRIVILEGE
