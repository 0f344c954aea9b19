"""Programs (``type = "exec"``): a program of the host is started for each connection,
as xinetd does, and talks to its client itself.

Owns the keys that only such services have. No engine serves them: a launcher starts the
programs (:mod:`unpd.dispatcher.programs`). Whether this host has the program and its
user is checked by :mod:`unpd.config.programs`. Called by the table of services. Raises
ValueError with one sentence, which pydantic collects.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from unpd.libraries import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
)
from unpd.services.base import Options

MAX_ARGUMENTS = 256
MAX_VARIABLES = 256
MAX_TEXT_BYTES = 16 * 1024
"""The longest argument, and the longest value of a variable."""
MAX_GROUPS = 64
MAX_KEPT = 1000
"""The most programs that are kept for one address."""
MAX_NAME_BYTES = 256
HOUR_S = 3600
MAX_NUMBER = 1 << 31
MAX_MB = 1 << 24
LIMITS = (
    "a table such as { nofile = 256, cpu_s = 60 }, with whole numbers for nofile, nproc, cpu_s,"
    " as_mb and core_mb"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def listed(value: object) -> object:
    """A TOML array as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _text(value: str) -> str:
    """A text that the kernel takes as an argument or as a variable (execve(2))."""
    if "\0" in value:
        raise ValueError("must not contain a zero byte")
    if (size := len(value.encode("utf-8", "surrogateescape"))) > MAX_TEXT_BYTES:
        raise ValueError(f"has {size} bytes, but may have at most {MAX_TEXT_BYTES}")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError('must be an absolute path, such as "/var/lib/mysqlchk"')
    return _text(value)


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and not value[0].startswith("/"):
        raise ValueError(
            "must begin with the absolute path of the program; no shell looks for it, and none"
            " reads the arguments"
        )
    return value


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name) or len(name) > MAX_NAME_BYTES:
        raise ValueError(
            "the name of a variable has letters, digits and underscores, and no digit first"
        )
    return name


Text = Annotated[str, AfterValidator(_text)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Variable = Annotated[str, AfterValidator(_variable)]
Account = Annotated[str, Field(pattern=r"^[^\s:/\x00-\x1f\x7f]{0,256}$")]
GroupName = Annotated[str, Field(pattern=r"^[^\s:/\x00-\x1f\x7f]{1,256}$")]


class ProgramLimits(BaseModel):
    """What one program may use (setrlimit(2)); None: as much as the daemon.

    ``nofile``: open files. ``nproc``: processes of its user. ``cpu_s``: seconds of
    processor time. ``as_mb``: address space. ``core_mb``: a core dump.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    nofile: int | None = Field(None, ge=3, le=MAX_NUMBER)
    nproc: int | None = Field(None, ge=0, le=MAX_NUMBER)
    cpu_s: int | None = Field(None, ge=1, le=MAX_NUMBER)
    as_mb: int | None = Field(None, ge=1, le=MAX_MB)
    core_mb: int | None = Field(None, ge=0, le=MAX_MB)


class ProcessOptions(Options):
    """The keys about the process of a connection, whatever runs in it.

    ``user``, ``group``: "" for those of the daemon's children; ``group`` is that of
    another ``user`` if only that is given. ``umask``: "" for the daemon's. ``nice`` is
    added to the daemon's.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    user: Account = Field("", description='the name of a user, such as "nobody"')
    group: Account = Field("", description='the name of a group, such as "nogroup"')
    groups: Annotated[tuple[GroupName, ...], BeforeValidator(listed)] = Field(
        (), max_length=MAX_GROUPS, description='a list of names of groups, such as ["mail"]'
    )
    umask: str = Field(
        "",
        pattern=r"^(0?[0-7]{3})?$",
        description='a string of three octal digits, or of 0 and three, such as "0027"',
    )
    nice: int = Field(0, ge=-40, le=39, description="a whole number from -40 to 39")
    directory: AbsolutePath = Field(
        "/", description='an absolute path, such as "/var/lib/mysqlchk"'
    )
    limits: ProgramLimits = Field(ProgramLimits(), description=LIMITS)
    environment: dict[Variable, Text] = Field(
        {},
        max_length=MAX_VARIABLES,
        description='a table of texts, such as { LANG = "C.UTF-8" }',
    )
    pass_environment: Annotated[tuple[Variable, ...], BeforeValidator(listed)] = Field(
        (), max_length=MAX_VARIABLES, description='a list of names of variables, such as ["LANG"]'
    )
    kill_after_s: float = Field(
        5.0, ge=0.1, le=HOUR_S, description="a number of seconds from 0.1 to 3600"
    )

    # These hold for a function; programs have keys about them.

    @property
    def takes_socket(self) -> bool:
        """Whether the process gets the socket itself, and takes the clients itself."""
        return False

    @property
    def is_kept(self) -> bool:
        """Whether processes are kept running, whether clients come or not."""
        return False

    @property
    def is_passed_as_by_systemd(self) -> bool:
        """Whether the connection or the socket is descriptor 3, and not 0, 1 and 2."""
        return True

    @property
    def logs_stderr(self) -> bool:
        """Whether standard error goes to the log: it has to if no client is there."""
        return True


# No class statement can name this key: it is a keyword of Python.
_PASS: Any = {
    "pass": (
        Literal["standard", "systemd"],
        Field("standard", description='"standard" or "systemd"'),
    )
}
_Passing: Any = create_model("_Passing", __base__=ProcessOptions, **_PASS)


class ProgramOptions(_Passing):
    """The keys that only services of type exec have.

    ``wait``: one program at a time gets the socket itself; ``keep``: so many programs
    do, from the start.
    """

    command: Annotated[tuple[Text, ...], BeforeValidator(listed), AfterValidator(_command)] = Field(
        min_length=1,
        max_length=MAX_ARGUMENTS,
        description=(
            "a list of the absolute path of a program and its arguments, such as"
            ' ["/usr/bin/git", "daemon", "--inetd"]'
        ),
    )
    stderr: Literal["socket", "log"] = Field("socket", description='"socket" or "log"')
    wait: bool = Field(False, description="true or false")
    keep: int = Field(
        0, ge=0, le=MAX_KEPT, description=f"a whole number from 0 (none) to {MAX_KEPT}"
    )

    @property
    def takes_socket(self) -> bool:
        """Whether programs get the socket itself, and take the clients themselves."""
        return self.wait or self.is_kept

    @property
    def is_kept(self) -> bool:
        """Whether programs are kept running, whether clients come or not."""
        return self.keep > 0

    @property
    def is_passed_as_by_systemd(self) -> bool:
        """Whether the connection or the socket is descriptor 3, and not 0, 1 and 2."""
        return bool(getattr(self, "pass") == "systemd")

    @property
    def logs_stderr(self) -> bool:
        """Whether standard error goes to the log: it has to if no client is there."""
        return self.stderr == "log" or self.takes_socket or self.is_passed_as_by_systemd


def why_not_tried(options: Options) -> str:
    """Why ``unpd try`` cannot start a program for a service with these options, as the
    end of a sentence; "" if it can.
    """
    if not isinstance(options, ProgramOptions):
        return "is no service of type exec, and has no program"
    if options.takes_socket or options.is_passed_as_by_systemd:
        return "has a program that expects a socket, and not standard input and output"
    return ""


@dataclass(frozen=True, slots=True)
class Program:
    """A service of type exec, as its launcher gets it."""

    options: ProgramOptions
