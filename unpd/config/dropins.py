"""Finds the drop-ins of a configuration: the files ``conf.d/NAME.toml`` beside it, in
the order of the bytes of their names.

Called by :mod:`unpd.config.load` and, to find a daemon, by the verbs; imports nothing
heavy for their sake. What a name begins with a dot or ends otherwise (an editor's
backup, what a package manager left) is no drop-in. Only names are read here;
:mod:`unpd.config.source` reads the files.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from unpd.config.source import distrust, open_to_all
from unpd.config.wording import file_shown
from unpd.errors import ConfigError, Problem

DIRECTORY = "conf.d"
SUFFIX = ".toml"
MAX_DROP_INS = 256
"""More than anybody writes by hand; a directory that fills up without end must not keep
a running master busy.
"""


@dataclass(frozen=True, slots=True)
class DropIns:
    """``files``: in the order in which they merge. ``warnings``: what is doubtful about
    the directory, each a sentence with its place.
    """

    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()


def find(main: Path, *, wary: bool) -> DropIns:
    """The drop-ins of the configuration file ``main``; none without the directory.

    ``wary``: refuse a directory that others than root may change. ConfigError for such
    a one, for one that cannot be read, and for more than :data:`MAX_DROP_INS` files.
    """
    path = main.parent / DIRECTORY
    directory = file_shown(path)
    try:
        names, status = _listed(path)
    except FileNotFoundError:
        return DropIns()
    except OSError as error:
        raise _refusal(directory, f"the directory cannot be read: {error.strerror}") from None
    if wary and (objections := distrust(status.st_mode, status.st_uid, status.st_gid)):
        raise _refusal(directory, *objections)
    chosen = sorted(
        (name for name in names if name.endswith(SUFFIX) and not name.startswith(".")),
        key=os.fsencode,
    )
    if len(chosen) > MAX_DROP_INS:
        raise _refusal(
            directory, f"{len(chosen)} drop-ins are here, but {MAX_DROP_INS} are the most"
        )
    return DropIns(
        tuple(path / name for name in chosen),
        tuple(f"{directory}: {sentence}" for sentence in open_to_all(status.st_mode)),
    )


def _listed(path: Path) -> tuple[list[str], os.stat_result]:
    """The names in a directory, and its own mode and owner: of the same directory, even
    if another takes its place meanwhile.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.listdir(fd), os.fstat(fd)
    finally:
        os.close(fd)


def _refusal(directory: str, *messages: str) -> ConfigError:
    return ConfigError(tuple(Problem(directory, None, "", message) for message in messages))
