"""Loads a configuration, the main file and its drop-ins: reads, parses, merges, builds
and checks it, and reports all faults together.

Called by the command line and, at a reload, by the master. Calls the other modules of
unpd.config. Has no side effects: it writes and binds nothing, and waits for the network
only if the user database is there (see Host.check_accounts). Raises ConfigError and
nothing else, whatever the files hold: a reload must not end a daemon.
"""

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unpd.config import dropins, source
from unpd.config.build import build
from unpd.config.checks import check
from unpd.config.dropins import DropIns
from unpd.config.findings import Findings, bounded, problems
from unpd.config.host import Host, this_host
from unpd.config.merge import Table, merge
from unpd.config.schema import Config
from unpd.config.source import Source, Used
from unpd.config.wording import file_shown
from unpd.errors import ConfigError, Problem

BUILTIN = Source(
    "the built-in default",
    """
[services.daytime]
listen = ["tcp://127.0.0.1:10013"]

[services.echo]
listen = ["tcp://127.0.0.1:10007"]
""",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration and its origin.

    ``path``: the main file, None for the built-in default. ``warnings``: sentences with
    file and line. ``drop_ins``: how many were read.
    """

    config: Config
    path: Path | None
    warnings: tuple[str, ...] = ()
    drop_ins: int = 0

    @property
    def source(self) -> str:
        """The name of the origin, for messages."""
        return str(self.path or BUILTIN.file)


def load(path: Path, host: Host | None = None) -> Loaded:
    """Load the configuration file at ``path`` and its drop-ins.

    ``host``: the machine to check against, by default this one. ConfigError with every
    fault in the files.
    """
    with _refusing(file_shown(path)):
        host = host or this_host(path)
        drop_ins, files = _read(path, trusted_only=host.uid == 0)
        config, warnings = _build_and_check(files, host)
    return Loaded(config, path, drop_ins.warnings + warnings, len(drop_ins.files))


def builtin(host: Host | None = None) -> Loaded:
    """Load the built-in default: daytime, echo and metrics on loopback ports that need
    no privilege.
    """
    with _refusing(BUILTIN.file):
        config, warnings = _build_and_check([_parsed(BUILTIN)], host or this_host())
    return Loaded(config, None, warnings)


def loads(text: str, host: Host, file: str = "unpd.toml") -> Loaded:
    """Load the configuration in ``text``; messages call it ``file``. ConfigError."""
    with _refusing(file):
        config, warnings = _build_and_check([_parsed(Source(file, text))], host)
    return Loaded(config, None, warnings)


@contextlib.contextmanager
def _refusing(file: str) -> Iterator[None]:
    """Turn every exception of a load into a ConfigError about ``file``.

    This includes faults of our own. A load changes nothing, so the daemon can go on
    with the configuration that it has.
    """
    try:
        yield
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError((Problem(file, None, "", _reason(error)),)) from error


def _reason(error: BaseException) -> str:
    """A sentence about an exception that no part of a load expects. It repeats no text
    of the exception, which may hold a value of the file.
    """
    if isinstance(error, MemoryError):
        return "there is not enough memory to load the configuration"
    if isinstance(error, RecursionError):
        return "the nesting is too deep"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"unpd fails on this configuration ({type(error).__name__} in"
        f" {Path(place.filename).name}:{place.lineno}): please report it"
    )


def _read(path: Path, *, trusted_only: bool) -> tuple[DropIns, list[tuple[Source, Table]]]:
    """Read and parse the main file and its drop-ins.

    One ConfigError for all files that cannot be read or are not TOML. Nothing is
    checked then: the meaning of the other files depends on these.
    """
    drop_ins = DropIns()
    files: list[tuple[Source, Table]] = []
    refused: list[Problem] = []
    try:
        drop_ins = dropins.find(path, trusted_only=trusted_only)
    except ConfigError as error:
        refused += error.problems
    used = Used()
    for file in (path, *drop_ins.files):
        try:
            text = source.read(file, trusted_only=trusted_only)
            files.append((text, source.parse(text, used)))
        except ConfigError as error:
            refused += error.problems
        if used.too_much:
            break
    if refused:
        raise ConfigError(bounded(refused, len(refused), file_shown(path)))
    return drop_ins, files


def _parsed(text: Source) -> tuple[Source, Table]:
    return text, source.parse(text)


def _build_and_check(
    files: Sequence[tuple[Source, Table]], host: Host
) -> tuple[Config, tuple[str, ...]]:
    """The configuration in ``files``, and the warnings about both."""
    findings = Findings()
    raw, origins = merge(files, findings)
    config = build(raw, origins.place, host, findings)
    check(
        config,
        frozenset(raw["pools"]) if isinstance(raw.get("pools"), dict) else frozenset(),
        host,
        findings,
    )
    if findings.errors:
        raise ConfigError(problems(findings.errors, origins))
    about_files = (f"{text.file}: {warning}" for text, _ in files for warning in text.warnings)
    return config, (*about_files, *map(str, problems(findings.warnings, origins)))
