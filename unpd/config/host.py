"""What the configuration asks of the machine that it is checked on, read once and
passed on, so that checks and tests see plain values.

Called by :mod:`unpd.config.load`; reads the environment, /proc and the user database,
and writes nothing.
"""

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unpd.kernel.cpus import usable_cpus
from unpd.kernel.privileges import user_name

ROOT_RUNTIME_DIR = "/run/unpd"
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


@dataclass(frozen=True, slots=True)
class Host:
    """``uid``, ``user``: who runs unpd. ``runtime_dir``: where pid file and control
    socket lie unless configured. ``somaxconn``: None if it cannot be read.
    """

    uid: int
    user: str
    runtime_dir: str
    somaxconn: int | None
    cpus: int
    accounts: bool = False
    """Whether to look users and groups up: the user database may be a network away, and
    a running master does not wait for it.
    """

    def daemon_defaults(self) -> dict[str, str]:
        """Defaults of ``[daemon]`` that depend on who runs unpd: root drops to nobody,
        anybody else has only one user to be.
        """
        return {
            "user": "nobody" if self.uid == 0 else self.user,
            "pid_file": f"{self.runtime_dir}/unpd.pid",
            "control": f"{self.runtime_dir}/control.sock",
        }


def this_host() -> Host:
    """The machine and user at hand."""
    uid = os.geteuid()
    return Host(
        uid,
        user_name(uid),
        runtime_dir(uid, os.environ),
        read_somaxconn(SOMAXCONN),
        usable_cpus(),
        accounts=True,
    )


def runtime_dir(
    uid: int, environment: Mapping[str, str], run_user: Path = Path("/run/user")
) -> str:
    """Root: /run/unpd. Others: the RuntimeDirectory= of our unit, else
    $XDG_RUNTIME_DIR/unpd, else /run/user/UID/unpd if that user has it, else unpd-UID
    under $TMPDIR or /tmp.
    """
    if uid == 0:
        return ROOT_RUNTIME_DIR
    allotted = environment.get("RUNTIME_DIRECTORY", "").partition(":")[
        0
    ]  # systemd.exec(5): the unit may have several
    if allotted.startswith("/"):
        return posixpath.normpath(allotted)
    named = environment.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/"):
        return posixpath.normpath(f"{named}/unpd")
    own = run_user / str(uid)
    # Path.is_dir() raises where /run/user is barred, as by ProtectHome= of
    # systemd.exec(5).
    if os.path.isdir(own):
        return str(own / "unpd")
    temporary = environment.get("TMPDIR", "")
    # only a name: whoever makes the directory checks that it is ours
    parent = temporary if temporary.startswith("/") else "/tmp"  # noqa: S108
    return posixpath.normpath(f"{parent}/unpd-{uid}")


def read_somaxconn(path: Path) -> int | None:
    """The kernel's ceiling of a listen backlog (listen(2)); None where it cannot be
    read, as in some containers.
    """
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
