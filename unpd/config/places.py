"""The places in the file system that a configuration needs, tried with the rights of
this process: the log file, and the directories of the sockets and the pid file.

``unpd check --as-daemon`` calls it, as the daemon's user and in the daemon's view of
the file system. Changes nothing. Calls and raises nothing of its own: it returns
problems.

Known gap: whether an address is free, only a start or a reload can tell.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from unpd.config.addresses import FileAddress
from unpd.config.schema import Config
from unpd.config.wording import file_shown
from unpd.errors import Problem


def unusable(config: Config, source: str) -> tuple[Problem, ...]:
    """One problem for each place that this process could not use. ``source`` is the
    configuration's file.
    """
    return tuple(
        Problem(source, None, key, sentence)
        for key, path, is_file in _places(config)
        if (sentence := _why_unusable(path, is_file=is_file))
    )


def _places(config: Config) -> Iterator[tuple[str, Path, bool]]:
    """The key of each place, its path, and whether a plain file may be there."""
    yield "daemon.pid_file", config.daemon.pid_file, True
    yield "daemon.control", config.daemon.control, False
    if config.log.file:
        yield "log.file", Path(config.log.file), True
    for name, service in config.services.items():
        for address in service.listen:
            if isinstance(address, FileAddress) and not address.path.startswith("@"):
                yield f"services.{name}.listen", Path(address.path), False


def _why_unusable(path: Path, *, is_file: bool) -> str:
    """Say why no file can be opened or made at ``path``; "" if one can."""
    directory, shown = path.parent, file_shown(path)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        mode = 0
    except OSError as error:
        return f"{shown} cannot be reached: {error.strerror}"
    if is_file and mode:
        if not stat.S_ISREG(mode):
            return f"{shown} is not a plain file"
        return "" if os.access(path, os.W_OK) else f"{shown} cannot be written to by this user"
    if not directory.is_dir():
        return f"there is no directory {file_shown(directory)}"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"nothing can be made in {file_shown(directory)} by this user"
    return ""
