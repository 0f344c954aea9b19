"""Makes the directories of the pid file, the control socket and the file of live
denials.

Called by the commands that start a daemon, before it makes the three, by a reload,
which may name another file of denials, and by the master's sweep, when something has
removed a directory. Raises CannotCreateError.
"""

import os
from pathlib import Path

from unpd.config.schema import Config
from unpd.errors import CannotCreateError
from unpd.kernel import privileges


def make_parents(config: Config) -> None:
    """Make the directories of the pid file, the control socket and the file of live
    denials if they are missing. CannotCreateError if one cannot be made, or if that of
    the first two belongs to another user.
    """
    make_parent(config.daemon.pid_file)
    make_parent(config.daemon.control)
    make_state_directory(config)


def make_state_directory(config: Config) -> None:
    """Make the directory of the file of live denials if it is missing.
    CannotCreateError.
    """
    path = Path(config.access.state_file)
    if config.access.state_file and not path.parent.exists():
        make_parent(path)


def make_parent(path: Path) -> None:
    """Make the directory of ``path``, but no directory above it. In /tmp another user
    may have made it first. CannotCreateError.

    The directory may outlive this daemon, so its mode must not depend on the umask of
    one start. A directory that exists keeps its mode.
    """
    directory = path.parent
    uid = os.geteuid()
    old_umask = os.umask(0)
    try:
        directory.mkdir(mode=0o755 if uid == 0 else 0o700, exist_ok=True)
        owner = directory.stat().st_uid
    except OSError as error:
        raise CannotCreateError(
            f"cannot make the directory {directory}: {error.strerror}"
        ) from error
    finally:
        os.umask(old_umask)
    # A user namespace has no number for most users, and its root no power over them.
    if (uid != 0 and owner not in (0, uid)) or not privileges.is_mapped(owner, "uid"):
        raise CannotCreateError(f"the directory {directory} belongs to another user")
