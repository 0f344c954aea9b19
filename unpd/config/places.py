"""The places in the file system that a configuration needs, tried with the rights of
this process: the log file, and the directories of the sockets, the pid file and the
state file.

``unpd check --as-daemon`` calls it, as the daemon's user and in the daemon's view of
the file system. Changes nothing. Calls :mod:`unpd.sinks`, so that the reasons about the
log file are those of a start. Raises nothing of its own: it returns problems.

Known gap: whether an address is free, only a start or a reload can tell.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from unpd import sinks
from unpd.config.addresses import FileAddress
from unpd.config.denials_file import why_foreign
from unpd.config.schema import Config, ServiceConfig
from unpd.config.wording import file_shown
from unpd.errors import Problem
from unpd.kernel.privileges import user_name

Owner = tuple[int, int]
"""A user and a group, as numbers."""


def unusable(
    config: Config, source: str, owner: Owner | None = None, given: frozenset[Path] = frozenset()
) -> tuple[Problem, ...]:
    """One problem for each place that this process could not use. ``source`` is the
    configuration's file, ``owner`` that of a new log file (None: this process).
    ``given``: directories that the service manager makes before a start, or gives to
    the user with all that is in them. One that the user has already stays as it is.
    """
    return tuple(
        Problem(source, None, key, sentence)
        for key, sentence in _sentences(config, owner, given)
        if sentence
    )


def _sentences(
    config: Config, owner: Owner | None, given: frozenset[Path]
) -> Iterator[tuple[str, str]]:
    """The key of each place, and why it cannot be used; "" if it can. What lies in a
    directory that is made for a start can be used.
    """
    daemon, made = config.daemon, _made(config, given)
    for key, path in (("daemon.pid_file", daemon.pid_file), ("daemon.control", daemon.control)):
        if path.parent in made:
            continue
        if os.path.exists(path.parent):
            yield key, _why_unusable(path, is_file=path is daemon.pid_file)
        else:
            yield key, _why_no_directory(path.parent)
    if config.log.file and Path(config.log.file).parent not in made:
        yield "log.file", _why_no_log(config.log.file, owner)
    state_file = Path(config.access.state_file)
    if config.access.state_file and state_file.parent not in made:
        yield "access.state_file", _why_no_state(state_file)
    for name, service in config.services.items():
        for path in map(Path, _paths(service)):
            if path.parent not in made:
                yield f"services.{name}.listen", _why_unusable(path, is_file=False)


def _paths(service: ServiceConfig) -> Iterator[str]:
    """The paths of the UNIX sockets on which a service listens."""
    for address in service.listen:
        if isinstance(address, FileAddress) and not address.path.startswith("@"):
            yield address.path


def _made(config: Config, given: frozenset[Path]) -> frozenset[Path]:
    """The directories of ``given``, and those that are missing and that a start makes
    before all else (:mod:`unpd.master.parents`), as far as this process could.
    """
    made = {directory for directory in given if not _is_own(directory)}
    files = [config.daemon.pid_file, config.daemon.control]
    files += [Path(config.access.state_file)] if config.access.state_file else []
    for directory in (file.parent for file in files):
        if not os.path.exists(directory) and (
            directory.parent in made or not _why_no_directory(directory)
        ):
            made.add(directory)
    return frozenset(made)


def _is_own(directory: Path) -> bool:
    """Whether a directory is there and has the user and group of this process."""
    try:
        found = directory.stat()
    except OSError:
        return False
    return (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


def _why_unusable(path: Path, *, is_file: bool) -> str:
    """Say why no file can be opened or made at ``path``; "" if one can. ``is_file``: a
    plain file may be there.
    """
    shown = file_shown(path)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        mode = 0
    except OSError as error:
        return f"{shown} cannot be reached: {error.strerror}"
    if not (is_file and mode):
        return _why_nothing_in(path.parent)
    if not stat.S_ISREG(mode):
        return f"{shown} is not a plain file"
    return "" if os.access(path, os.W_OK) else f"the user {_user()} may not write {shown}"


def _why_no_state(path: Path) -> str:
    """Say why the live denials cannot be kept at ``path``: a new file takes the place
    of the old one there.
    """
    if not os.path.isdir(path.parent):
        return _why_no_directory(path.parent)
    return why_foreign(path, as_daemon=True) or _why_nothing_in(path.parent)


def _why_no_directory(directory: Path) -> str:
    """Say why a start could not make this directory, which is missing; "" if it could.
    It makes no directory above it.
    """
    shown = file_shown(directory)
    try:
        directory.lstat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return f"{shown} cannot be reached: {error.strerror}"
    else:
        return f"{shown} is a link that leads nowhere"
    if not os.path.exists(directory.parent):
        return _why_nothing_in(directory)
    reason = _why_nothing_in(directory.parent)
    return f"there is no directory {shown}, and {reason}" if reason else ""


def _why_nothing_in(directory: Path) -> str:
    shown = file_shown(directory)
    match _refused(directory):
        case 0:
            return ""
        case errno.ENOENT | errno.ENOTDIR:
            return f"there is no directory {shown}"
        case errno.EROFS:
            return f"{shown} is read-only here"
        case errno.EACCES:
            return f"the user {_user()} may make nothing in {shown}"
        case number:
            return f"{shown} cannot be reached: {os.strerror(number)}"


def _refused(directory: Path) -> int:
    """The errno of an open(2) that makes a file in a directory; 0 if none."""
    try:
        mode = directory.stat().st_mode
    except OSError as error:  # Path.is_dir() of Python 3.11 raises most of them
        return error.errno or errno.ENOENT
    if not stat.S_ISDIR(mode):
        return errno.ENOTDIR
    if os.access(directory, os.W_OK | os.X_OK):
        return 0
    return errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES


def _why_no_log(path: str, owner: Owner | None) -> str:
    """Say why the log file cannot be opened or made, as a start says; "" if it can."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISFIFO(mode):  # an open and a close would be the end for its reader
            return sinks.refusal(path, OSError(errno.ENXIO, os.strerror(errno.ENXIO)))
        os.close(sinks.find_file(path, owner))
    except FileNotFoundError:
        number = _refused(Path(path).parent)
        return sinks.refusal(path, OSError(number, os.strerror(number))) if number else ""
    except OSError as error:
        return sinks.refusal(path, error)
    return ""


def _user() -> str:
    return user_name(os.geteuid())
