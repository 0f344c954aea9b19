"""Loads a configuration: read, parse, build, check; everything that is wrong is said at once.

Called by the command line and, at a reload, by the master. No side effects: nothing is written, bound or looked up on the network.
"""

from dataclasses import dataclass
from pathlib import Path

from unpd.config import source
from unpd.config.build import build
from unpd.config.checks import check
from unpd.config.findings import Findings, problems
from unpd.config.host import Host, this_host
from unpd.config.schema import Config
from unpd.config.source import Source
from unpd.errors import ConfigError

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
    """A configuration that can be used. ``path`` is None for the built-in default; each warning is a sentence with its place."""

    config: Config
    path: Path | None
    warnings: tuple[str, ...] = ()


def load(path: Path, host: Host | None = None) -> Loaded:
    """The configuration file at ``path``. ConfigError with every fault in it. ``host``: the machine to check against, this one unless given."""
    host = host or this_host()
    return _loaded(source.read(path, host.uid), path, host)


def builtin(host: Host | None = None) -> Loaded:
    """The built-in default: daytime, echo and metrics on loopback ports that need no privilege."""
    return _loaded(BUILTIN, None, host or this_host())


def loads(text: str, host: Host, file: str = "unpd.toml") -> Loaded:
    """The configuration in ``text``, which errors call ``file``."""
    return _loaded(Source(file, text), None, host)


def _loaded(taken: Source, path: Path | None, host: Host) -> Loaded:
    raw = source.parse(taken)
    findings = Findings()
    config = build(raw, host, findings)
    check(config, frozenset(raw["pools"]) if isinstance(raw.get("pools"), dict) else frozenset(), host, findings)
    if findings.errors:
        raise ConfigError(problems(findings.errors, taken.file, taken.text))
    warnings = (*(f"{taken.file}: {warning}" for warning in taken.warnings), *map(str, problems(findings.warnings, taken.file, taken.text)))
    return Loaded(config, path, warnings)
