"""Loads a configuration, the main file and its drop-ins: read, parse, merge, build,
check; everything that is wrong is said at once.

Called by the command line and, at a reload, by the master. No side effects: nothing is
written, bound or looked up on the network.
"""

from collections.abc import Sequence
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
from unpd.config.source import Source
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
    """A configuration that can be used. Each warning is a sentence with its place;
    ``path`` is None for the built-in default; ``drop_ins``: how many were read.
    """

    config: Config
    path: Path | None
    warnings: tuple[str, ...] = ()
    drop_ins: int = 0

    @property
    def source(self) -> str:
        """Where it is from, for a sentence."""
        return str(self.path or BUILTIN.file)


def load(path: Path, host: Host | None = None) -> Loaded:
    """The configuration file at ``path`` and its drop-ins. ConfigError with every fault
    in them. ``host``: the machine to check against, this one unless given.
    """
    host = host or this_host()
    found, files = _read(path, wary=host.uid == 0)
    config, warnings = _checked(files, host)
    return Loaded(config, path, found.warnings + warnings, len(found.files))


def builtin(host: Host | None = None) -> Loaded:
    """The built-in default: daytime, echo and metrics on loopback ports that need no
    privilege.
    """
    config, warnings = _checked([_parsed(BUILTIN)], host or this_host())
    return Loaded(config, None, warnings)


def loads(text: str, host: Host, file: str = "unpd.toml") -> Loaded:
    """The configuration in ``text``, which errors call ``file``."""
    config, warnings = _checked([_parsed(Source(file, text))], host)
    return Loaded(config, None, warnings)


def _read(path: Path, *, wary: bool) -> tuple[DropIns, list[tuple[Source, Table]]]:
    """The main file and its drop-ins. One ConfigError for all that cannot be read or is
    no TOML: what the others mean without it, nobody knows.
    """
    found = DropIns()
    files: list[tuple[Source, Table]] = []
    refused: list[Problem] = []
    try:
        found = dropins.find(path, wary=wary)
    except ConfigError as error:
        refused += error.problems
    for file in (path, *found.files):
        try:
            files.append(_parsed(source.read(file, wary=wary)))
        except ConfigError as error:
            refused += error.problems
    if refused:
        raise ConfigError(bounded(refused, file_shown(path)))
    return found, files


def _parsed(taken: Source) -> tuple[Source, Table]:
    return taken, source.parse(taken)


def _checked(files: Sequence[tuple[Source, Table]], host: Host) -> tuple[Config, tuple[str, ...]]:
    """The configuration in ``files``, and the warnings about them and it."""
    findings = Findings()
    raw, origins = merge(files, findings)
    config = build(raw, host, findings)
    check(
        config,
        frozenset(raw["pools"]) if isinstance(raw.get("pools"), dict) else frozenset(),
        host,
        findings,
    )
    if findings.errors:
        raise ConfigError(problems(findings.errors, origins))
    of_files = (f"{taken.file}: {warning}" for taken, _ in files for warning in taken.warnings)
    return config, (*of_files, *map(str, problems(findings.warnings, origins)))
