"""Whether ``access.state_file`` names a file that the daemon may replace.

The daemon replaces the file at each change of the live denials, and moves a damaged one
away. So the path must lead to nothing, to an empty file, or to one with live denials
(:mod:`unpd.access.stored_denials`): a slip in the key must cost nobody another file.

Called by unpd.config.checks, and by unpd.config.places as the daemon's user. Reads the
beginning of the file and changes nothing. Raises nothing: it returns sentences.
"""

import os
import stat
from pathlib import Path

from unpd.access.stored_denials import BEGINNING, may_be_ours
from unpd.config.wording import file_shown

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def why_foreign(path: Path, *, as_daemon: bool = False) -> str:
    """Say why the daemon may not replace what is at ``path``; "" if it may.
    ``as_daemon``: this process has the daemon's rights. If another user may not look,
    that says nothing.
    """
    shown = file_shown(path)
    try:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            return _why_foreign_content(path)
    except FileNotFoundError:
        return _why_no_place(path.parent)
    except NotADirectoryError:
        return f"{file_shown(path.parent)} is no directory"
    except PermissionError as error:
        return f"{shown} cannot be read: {error.strerror}" if as_daemon else ""
    except OSError as error:
        return f"{shown} cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return f"{shown} is a directory: name a file in it, such as {file_shown(path / 'denials')}"
    if stat.S_ISLNK(mode):
        return f"{shown} is a symbolic link, which unpd does not follow: name the file itself"
    return f"{shown} is no plain file: name a file of its own, which need not exist"


def _why_no_place(directory: Path) -> str:
    """Say why no file can come into a directory; "" if one can: a start makes this
    directory, but none above it.
    """
    if directory.parent.is_dir():
        return ""
    return f"there is no directory {file_shown(directory)}"


def _why_foreign_content(path: Path) -> str:
    with open(os.open(path, _READ), "rb") as file:
        beginning = file.read(len(BEGINNING))
    if may_be_ours(beginning):
        return ""
    return (
        f"{file_shown(path)} holds something else than live denials, and unpd would replace it:"
        " name a file of its own, which need not exist"
    )
