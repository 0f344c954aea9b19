"""Finds the configuration that a command means, and the control socket of its daemon.

Called by every command but the clients; calls the reading part of :mod:`unpd.config`,
and not its schema: the verbs must answer without the time that pydantic takes. Errors:
ConfigError.
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
    """Return the file that the arguments mean, absolute; None for the built-in
    default.
    """
    if args.config is not None:
        try:
            return Path(args.config).absolute()
        except FileNotFoundError:
            sentence = "the working directory was removed: give the whole path"
            raise ConfigError((Problem(file_shown(args.config), None, "", sentence),)) from None
    if getattr(args, "builtin", False) or not _exists(DEFAULT_CONFIG):
        return None
    return DEFAULT_CONFIG


def _exists(path: Path) -> bool:
    # Path.exists() of Python 3.14 takes every failure for a file that is not there.
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # it may exist; reading it will give the reason why it cannot be read
    return True


def control_path(args: argparse.Namespace) -> Path:
    """Return the path at which the daemon of these arguments listens for control.

    The configuration may have been broken since the daemon started, and must not keep
    the operator from the daemon that still runs. So only ``daemon.control`` is read
    from it, the file's owner and mode do not matter, and broken files are passed over.
    Without the key the default holds. ConfigError if the file does not exist, or if a
    broken one may have hidden the key: the default could then be the socket of another
    daemon. Only the system's own configuration falls back to the default even so.
    """
    if args.control is not None:
        return Path(args.control)
    path = config_path(args)
    if path is None:
        return default_control(None)
    if not _exists(path):
        raise _unknown(path, (Problem(file_shown(path), None, "", "there is no such file"),))
    control, problems = _last_control((path, *_drop_ins(path)))
    if control is not None:
        return control
    if problems and path != DEFAULT_CONFIG:
        raise _unknown(path, problems)
    return default_control(path)


def _unknown(path: Path, problems: tuple[Problem, ...]) -> ConfigError:
    sentence = "so its control socket is not known: name it with --control"
    return ConfigError((*problems, Problem(file_shown(path), None, "", sentence)))


def default_control(config: Path | None) -> Path:
    """Return the path of the control socket of a daemon that this user starts with the
    configuration file ``config`` (None: the built-in one), without ``daemon.control``.
    """
    return Path(this_host(config).daemon_defaults()["control"])


def _drop_ins(path: Path) -> tuple[Path, ...]:
    with contextlib.suppress(ConfigError):
        return dropins.find(path, trusted_only=os.geteuid() == 0).files
    return ()


def _last_control(files: tuple[Path, ...]) -> tuple[Path | None, tuple[Problem, ...]]:
    """Return the control socket that the last file with the key names, and the problems
    of the broken files.
    """
    control: Path | None = None
    problems: tuple[Problem, ...] = ()
    for file in files:
        try:
            control = _control(file) or control
        except ConfigError as error:
            problems += error.problems
    return control, problems


def _control(file: Path) -> Path | None:
    """Return the control socket that the file names, if it names one. ConfigError if it
    is broken, or names what no control socket can be.
    """
    daemon = source.parse(source.read(file, trusted_only=False)).get("daemon", {})
    if not isinstance(daemon, dict):
        raise _broken(file, "daemon", "must be a table, written as [daemon]")
    control = daemon.get("control")
    if control is None:
        return None
    if not isinstance(control, str) or not control.startswith("/") or "\0" in control:
        raise _broken(
            file, "daemon.control", 'must be an absolute path, such as "/run/unpd/control.sock"'
        )
    return Path(control)


def _broken(file: Path, key: str, sentence: str) -> ConfigError:
    return ConfigError((Problem(file_shown(file), None, key, sentence),))
