"""``unpd install-units``: writes the units of systemd for an unpd that pip, pipx or uv
installed; a package brings its own.

Called by dispatch. Reads unpd/units, a link to systemd/ in the source, replaces the
path of the program, and writes the files, each in one step. Each ends with a checksum,
by which the next call knows whether somebody changed the file since. The drop-ins are
written as examples, like those of the packages, because they need another
configuration: systemd ignores a name that does not end in .conf (systemd.unit(5)).
Starts no program and creates no user: it prints the commands that do. Errors:
UnpdError, before a file is written unless the disk is full.
"""

import argparse
import contextlib
import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import unpd
from unpd.cli.output import show
from unpd.config.wording import file_shown
from unpd.errors import CannotCreateError, PrivilegeError, UnpdError
from unpd.names import ExitCode

UNITS = Path(unpd.__file__).parent / "units"
SYSTEM = Path("/etc/systemd/system")
PACKAGED = Path("/usr/lib/unpd")
"""Where the packages install unpd."""
SHIPPED_PROGRAM = "/usr/bin/unpd"
"""The program in the units as they are shipped."""
EXAMPLE = ".example"
"""The end of the name of a drop-in that the administrator may copy."""
HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108
"""What a system unit does not see: ProtectHome= and PrivateTmp= (systemd.exec(5))."""
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._+@~=-]+")
_SEAL = "# unpd install-units wrote this file, with the checksum"

Plan = Mapping[Path, tuple[str, str]]
"""The text of each file to write, and what becomes of the file, in a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The unpd that runs. ``program``: how a unit starts it. ``parts``: the paths
    without which it does not start, with no link in them.
    """

    program: Path
    parts: tuple[Path, ...]


def install_units(args: argparse.Namespace) -> int:
    """``unpd install-units``: write the units, and print what was done."""
    return install(args, this_installation())


def this_installation() -> Installation:
    """Find the program of this process. UnpdError."""
    scripts = Path(sysconfig.get_path("scripts"), "unpd")
    for program in (Path(sys.argv[0]), scripts):
        if program.name == "unpd" and program.is_file() and os.access(program, os.X_OK):
            absolute = program.absolute()
            parts = (absolute, Path(sys.executable), UNITS.parent)
            return Installation(program=absolute, parts=tuple(part.resolve() for part in parts))
    raise UnpdError(f"there is no program unpd beside {file_shown(Path(sys.executable))}")


def install(args: argparse.Namespace, installation: Installation) -> int:
    """Write the units for this installation. UnpdError."""
    _refuse_odd_path(installation.program)
    if not args.user:
        _refuse_hidden(installation)
    directory = _directory(args).absolute()
    source = UNITS / "user" if args.user else UNITS
    plan = dict(_plan(source, directory, installation.program, force=args.force))
    if not args.dry_run:
        _make(directory, is_system=not args.user)
        for path, (text, act) in plan.items():
            if act != "unchanged":
                _write(path, text)
    lines = [f"{'dry run, ' * args.dry_run}{act}: {path}" for path, (_, act) in plan.items()]
    if not args.dry_run and args.directory is None:
        lines += ["next:", *(f"  {step}" for step in _steps(user=args.user))]
    return ExitCode.DONE if show("\n".join(lines)) else ExitCode.FAILED


def _refuse_odd_path(program: Path) -> None:
    if not _PLAIN_PATH.fullmatch(str(program)):
        raise UnpdError(
            f"{file_shown(program)}: systemd gives a meaning to some characters of this path:"
            " install unpd at a path of letters, digits and ._+@~=-"
        )


def _refuse_hidden(installation: Installation) -> None:
    for part in installation.parts:
        if part.is_relative_to(PACKAGED):
            raise UnpdError(
                "this unpd comes from a package, which has its units in /usr/lib/systemd/system"
                " already; --user writes one for the systemd of this user"
            )
        for place in HIDDEN:
            if part.is_relative_to(place):
                raise UnpdError(
                    f"{file_shown(part)}: a system unit sees nothing in {place}: install unpd"
                    " elsewhere, such as with python3 -m venv /opt/unpd, or write a unit of your"
                    " own with --user"
                )


def _directory(args: argparse.Namespace) -> Path:
    if args.directory is not None:
        return Path(args.directory)
    if not args.user:
        return SYSTEM
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    if configured.startswith("/"):
        return Path(configured, "systemd/user")
    try:
        return Path.home() / ".config/systemd/user"
    except RuntimeError:
        raise UnpdError(
            "the home directory of this user is not known: name a directory with --directory"
        ) from None


def _plan(
    source: Path, directory: Path, program: Path, *, force: bool
) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Each file with its text and its act. CannotCreateError, with a sentence for each
    file that may not be replaced.
    """
    refused: list[str] = []
    for unit in sorted(_shipped(source)):
        text = sealed(unit.read_text().replace(SHIPPED_PROGRAM, str(program)))
        path = directory / unit.relative_to(source)
        if unit.suffix == ".conf":
            path = path.with_name(f"{path.name}{EXAMPLE}")
        try:
            act = _act(path, text, force=force)
        except CannotCreateError as error:
            refused.append(str(error))
        else:
            yield path, (text, act)
    if refused:
        raise CannotCreateError("\n".join(refused))


def _shipped(source: Path) -> Iterator[Path]:
    """The units, and their drop-ins."""
    for pattern in ("*.service", "*.socket", "*.service.d/*.conf"):
        yield from source.glob(pattern)


def _act(path: Path, text: str, *, force: bool) -> str:
    """What becomes of the file. CannotCreateError if it may not be replaced."""
    shown = file_shown(path)
    try:
        is_plain = path.is_file() and not path.is_symlink()
        present = path.read_bytes() if is_plain else None
    except OSError as error:
        raise CannotCreateError(f"{shown} cannot be read: {error.strerror}") from error
    if present is None:
        if os.path.lexists(path):
            raise CannotCreateError(
                f"{shown} is no plain file; a link may be the work of systemctl mask or enable:"
                " remove it first"
            )
        return "written"
    if present == text.encode():
        return "unchanged"
    if is_untouched(present):
        return "renewed"
    if force:
        return "replaced"
    if path.suffix == EXAMPLE:
        advice = "keep it under another name if you need it"
    else:
        advice = f"move the changes to a drop-in (systemctl edit {path.name})"
    raise CannotCreateError(
        f"{shown} was changed, or comes from elsewhere: {advice}, then replace the file with"
        " --force"
    )


def sealed(text: str) -> str:
    """The text of a unit with its checksum in a comment behind it."""
    return f"{text}{_seal(text.encode())}"


def _seal(body: bytes) -> str:
    return f"{_SEAL} {hashlib.sha256(body).hexdigest()}.\n"


def is_untouched(content: bytes) -> bool:
    """Whether a file is as an earlier ``unpd install-units`` wrote it."""
    body, found, rest = content.rpartition(_SEAL.encode())
    return bool(found) and found + rest == _seal(body).encode()


def _make(directory: Path, *, is_system: bool) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreateError(
            f"cannot make the directory {file_shown(directory)}: {error.strerror}"
        ) from error
    if is_system and directory == SYSTEM and not os.access(directory, os.W_OK):
        raise PrivilegeError(
            f"only root may write in {directory}; --user writes a unit for the systemd of this user"
        )


def _write(path: Path, text: str) -> None:
    """Write a file in one step; all can read it. CannotCreateError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not path.parent.exists():  # that of the drop-ins
            path.parent.mkdir()
            path.parent.chmod(0o755)
        with open(beside, "x", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise CannotCreateError(f"cannot write {file_shown(path)}: {error.strerror}") from error


def _steps(*, user: bool) -> tuple[str, ...]:
    """The commands that follow."""
    if user:
        return (
            "write ~/.config/unpd/unpd.toml, with ports from 1024 on",
            "systemctl --user daemon-reload",
            "systemctl --user enable --now unpd.service",
            "loginctl enable-linger   # to serve without a session",
        )
    account = (UNITS / "unpd.sysusers").read_text().splitlines()[-1]
    return (
        f"systemd-sysusers --inline '{account}'",
        "write /etc/unpd/unpd.toml",
        "systemctl daemon-reload",
        "systemctl enable --now unpd.service",
    )
