"""Finds the drop-ins of a configuration: the files ``conf.d/NAME.toml`` beside it,
sorted by the bytes of their names.

Files whose names begin with a dot, or do not end in .toml, are ignored: editors and
package managers leave such files behind.

Owns the name of the directory and the number of drop-ins. Called by unpd.config.load,
and by the command line to find a daemon, for which it imports no slow module. Calls
:mod:`unpd.config.source` for the rules of trust; that module also reads the files.
Raises ConfigError.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from unpd.config.source import distrust, world_writable
from unpd.config.wording import file_shown
from unpd.errors import ConfigError, Problem
from unpd.kernel.privileges import owner_here, user_name

DIRECTORY = "conf.d"
SUFFIX = ".toml"
MAX_DROP_INS = 256
"""More than anybody writes by hand. A directory that fills up must not keep a running
master busy.
"""


@dataclass(frozen=True, slots=True)
class DropIns:
    """The drop-ins of one configuration.

    ``files``: in the order of the merge. ``warnings``: sentences about the directory,
    each with its path.
    """

    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()


def find(main: Path, *, trusted_only: bool) -> DropIns:
    """Find the drop-ins of the configuration file ``main``; none if the directory does
    not exist.

    ``trusted_only``: refuse a directory that other users than root can change.
    ConfigError for such a directory, for one that cannot be read, and for more than
    :data:`MAX_DROP_INS` files.
    """
    path = main.parent / DIRECTORY
    directory = file_shown(path)
    try:
        names, status = _list_directory(path)
    except FileNotFoundError:
        return DropIns()
    except PermissionError:
        user = user_name(os.geteuid())
        sentence = f"the directory cannot be read by user {user}: permission denied"
        raise _refusal(directory, sentence) from None
    except OSError as error:
        raise _refusal(directory, f"the directory cannot be read: {error.strerror}") from None
    owner = owner_here(status.st_uid)
    if trusted_only and (objections := distrust(status.st_mode, owner, status.st_gid)):
        raise _refusal(directory, *objections)
    chosen = sorted(
        (name for name in names if name.endswith(SUFFIX) and not name.startswith(".")),
        key=os.fsencode,
    )
    if len(chosen) > MAX_DROP_INS:
        raise _refusal(
            directory,
            f"{len(chosen)} drop-ins are here, but at most {MAX_DROP_INS} are allowed",
        )
    return DropIns(
        tuple(path / name for name in chosen),
        tuple(f"{directory}: {sentence}" for sentence in world_writable(status.st_mode)),
    )


def _list_directory(path: Path) -> tuple[list[str], os.stat_result]:
    """The names in a directory, and the status of that same directory, even if another
    takes its place meanwhile.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.listdir(fd), os.fstat(fd)
    finally:
        os.close(fd)


def _refusal(directory: str, *messages: str) -> ConfigError:
    return ConfigError(tuple(Problem(directory, None, "", message) for message in messages))
