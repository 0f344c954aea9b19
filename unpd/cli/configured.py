"""Which configuration a command means, and where its daemon's control socket is.
Imports no pydantic: the verbs answer at once.
"""

import argparse
import contextlib
import os
from pathlib import Path

from unpd.config import dropins, source
from unpd.config.host import this_host
from unpd.config.wording import file_shown
from unpd.errors import ConfigError, Problem

DEFAULT_CONFIG = Path("/etc/unpd/unpd.toml")


def config_path(args: argparse.Namespace) -> Path | None:
    """The file that the arguments mean, absolute; None for the built-in default."""
    if args.config is not None:
        return Path(args.config).absolute()
    return (
        None if getattr(args, "builtin", False) or not _is_there(DEFAULT_CONFIG) else DEFAULT_CONFIG
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # something is, perhaps; who reads it will say why it cannot be read


def control_path(args: argparse.Namespace) -> Path:
    """Where the daemon of these arguments listens for control.

    A configuration that is broken by now must not keep anybody from the daemon that
    still runs with the old one: only ``daemon.control`` is read from it, whoever may
    write it, and where that cannot be had the default holds. But only for the system's
    own configuration, whose daemon is the one at the default: a command for another one
    must not reach that. ConfigError then.
    """
    if args.control is not None:
        return Path(args.control)
    path = config_path(args)
    if path is not None and not _is_there(path):
        raise ConfigError((Problem(file_shown(path), None, "", "there is no such file"),))
    files = (path, *_drop_ins(path)) if path is not None else ()
    said: list[str] = []
    problems: list[Problem] = []
    for file in files:
        try:
            control = _control(file)
        except ConfigError as error:
            problems += error.problems
        else:
            said += [control] if control is not None else []
    if not said and problems and path != DEFAULT_CONFIG:
        problems.append(
            Problem(
                file_shown(path or DEFAULT_CONFIG),
                None,
                "",
                "so its control socket is not known: name it with --control",
            )
        )
        raise ConfigError(tuple(problems))
    return Path(said[-1] if said else this_host().daemon_defaults()["control"])


def _drop_ins(path: Path) -> tuple[Path, ...]:
    with contextlib.suppress(ConfigError):
        return dropins.find(path, trusted_only=os.geteuid() == 0).files
    return ()


def _control(file: Path) -> str | None:
    """What the file says of it. ConfigError for one that is broken."""
    daemon = source.parse(source.read(file, trusted_only=False)).get("daemon")
    control = daemon.get("control") if isinstance(daemon, dict) else None
    return control if isinstance(control, str) else None
