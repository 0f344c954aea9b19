"""Which configuration a command means, and where its daemon's control socket is. Imports no pydantic: the verbs answer at once."""

import argparse
import tomllib
from pathlib import Path

from unpd.config.host import this_host
from unpd.errors import ConfigError, Problem

DEFAULT_CONFIG = Path("/etc/unpd/unpd.toml")


def config_path(args: argparse.Namespace) -> Path | None:
    """The file that the arguments mean, absolute; None for the built-in default."""
    if args.config is not None:
        return Path(args.config).absolute()
    return None if getattr(args, "builtin", False) or not _is_there(DEFAULT_CONFIG) else DEFAULT_CONFIG


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True  # something is; who reads it will say that it may not be read


def control_path(args: argparse.Namespace) -> Path:
    """Where the daemon of these arguments listens for control.

    A configuration that is broken by now must not keep anybody from the daemon that still runs with the old one: only ``daemon.control`` is read from it, and where
    that cannot be had the default holds.
    """
    if args.control is not None:
        return Path(args.control)
    path = config_path(args)
    if path is None:
        return Path(this_host().daemon_defaults()["control"])
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError((Problem(str(path), None, "", "there is no such file"),)) from None
    except (OSError, ValueError, RecursionError):
        said = {}
    daemon = said.get("daemon")
    control = daemon.get("control") if isinstance(daemon, dict) else None
    return Path(control if isinstance(control, str) else this_host().daemon_defaults()["control"])
