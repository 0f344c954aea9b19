"""Describes the machine and the user of a configuration in plain values, so that checks
and tests need no real machine.

Reads the environment, /proc and the user database; writes nothing. Called by
:mod:`unpd.config.load` and the command line. Calls unpd.kernel for CPUs, users and the
load of the machine.
Raises nothing: an unknown limit is None.
"""

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unpd.kernel import pressure
from unpd.kernel.cpus import usable_cpus
from unpd.kernel.privileges import Identity, uid_outside, unprivileged_user, user_name
from unpd.kernel.processes import descriptor_limit
from unpd.names import Resource

ROOT_RUNTIME_DIR = "/run/unpd"
CONFIG_DIR = Path("/etc/unpd")
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


@dataclass(frozen=True, slots=True)
class Host:
    """The machine and the user that run unpd.

    ``uid``, ``user``: the user. ``runtime_dir``: the default directory of the pid file
    and the control socket. ``somaxconn``: the kernel's limit of a backlog
    (net.core.somaxconn), None if it cannot be read. ``cpus``: usable CPUs, at least 1.
    """

    uid: int
    user: str
    runtime_dir: str
    somaxconn: int | None
    cpus: int
    gid: int | None = None
    """The group of this process, which the control socket gets; None: not known."""
    open_files: int | None = None
    """How many descriptors a process of this user may have at most (RLIMIT_NOFILE, the
    hard limit: the daemon raises the soft one); None if there is no such limit.
    """
    pressures: frozenset[Resource] = frozenset(Resource)
    """The resources whose pressure can be read."""
    tells_load: bool = True
    """Whether the load average can be read."""
    check_accounts: bool = False
    """Whether the checks look up the users and groups of the daemon and of programs. A
    running master does not: the user database may be at the other end of a network.
    Names in access rules and in control.read_group every load looks up.
    """
    drops_to: str = "nobody"
    """The user that the children of root become by default."""
    children: Identity | None = None
    """The user and group of root's children, where that is settled; None: a load looks
    daemon.user up if it needs them.
    """
    check_interfaces: bool = False
    """Whether the checks look for the interfaces of link-local addresses. Only ``unpd
    check`` does: an interface may come up later than the daemon, and a reload keeps a
    listener that is open.
    """
    check_files: bool = False
    """Whether the checks look at the files that the daemon would replace."""

    def daemon_defaults(self) -> dict[str, str]:
        """The defaults of ``[daemon]`` that depend on the user: root drops to
        ``drops_to``, other users cannot change to another user.
        """
        return {
            "user": self.drops_to if self.uid == 0 else self.user,
            "pid_file": f"{self.runtime_dir}/unpd.pid",
            "control": f"{self.runtime_dir}/control.sock",
        }


def this_host(config: Path | None = None) -> Host:
    """Describe the machine and the user of this process, for the instance that the
    configuration file ``config`` belongs to.
    """
    uid = os.geteuid()
    return Host(
        uid,
        user_name(uid),
        runtime_dir(_outside(uid), os.environ, instance=instance_of(config)),
        read_somaxconn(SOMAXCONN),
        usable_cpus(),
        gid=os.getegid(),
        open_files=descriptor_limit(),
        pressures=frozenset(filter(_tells_pressure, Resource)),
        tells_load=_tells_load(),
        check_accounts=True,
        check_files=True,
        drops_to=unprivileged_user(),
    )


def _tells_pressure(resource: Resource) -> bool:
    try:
        pressure.read(resource)
    except OSError:
        return False
    return True


def _tells_load() -> bool:
    try:
        pressure.load_average()
    except OSError:
        return False
    return True


def _outside(uid: int) -> int:
    """The user whose default directory to use. The root of a user namespace
    (unshare -Ur) may not write to /run, unless /run is its own, as in a container.
    """
    place = ROOT_RUNTIME_DIR if os.path.isdir(ROOT_RUNTIME_DIR) else "/run"
    return uid_outside(uid) if uid == 0 and not os.access(place, os.W_OK) else uid


def instance_of(config: Path | None) -> str:
    """The instance NAME of unpd@NAME.service that /etc/unpd/NAME/unpd.toml belongs to;
    "" for any other file, and without one.
    """
    place = Path(os.path.normpath(config)) if config else CONFIG_DIR
    return place.parent.name if place == CONFIG_DIR / place.parent.name / "unpd.toml" else ""


def runtime_dir(
    uid: int,
    environment: Mapping[str, str],
    run_user: Path = Path("/run/user"),
    instance: str = "",
) -> str:
    """The directory of the pid file and the control socket.

    For root: /run/unpd. For other users: RuntimeDirectory= of our unit, else
    $XDG_RUNTIME_DIR/unpd, else /run/user/UID/unpd if /run/user/UID exists, else
    unpd-UID in $TMPDIR or /tmp. For an instance, -NAME follows, except in the unit's,
    which names it already.
    """
    # The unit may have several directories, separated by colons (systemd.exec(5)).
    of_unit = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if uid != 0 and of_unit.startswith("/"):
        return posixpath.normpath(of_unit)
    shared = ROOT_RUNTIME_DIR if uid == 0 else _users_runtime_dir(uid, environment, run_user)
    return f"{shared}-{instance}" if instance else shared


def _users_runtime_dir(uid: int, environment: Mapping[str, str], run_user: Path) -> str:
    of_session = environment.get("XDG_RUNTIME_DIR", "")
    if of_session.startswith("/"):
        return posixpath.normpath(f"{of_session}/unpd")
    of_user = run_user / str(uid)
    # Path.is_dir() raises where /run/user is inaccessible, for instance because of
    # ProtectHome= (systemd.exec(5)).
    if os.path.isdir(of_user):
        return str(of_user / "unpd")
    temporary = environment.get("TMPDIR", "")
    # This is only a name: the code that makes the directory checks that it is ours.
    parent = temporary if temporary.startswith("/") else "/tmp"  # noqa: S108
    return posixpath.normpath(f"{parent}/unpd-{uid}")


def read_somaxconn(path: Path) -> int | None:
    """The kernel's limit of a listen backlog (listen(2)); None if it cannot be read, as
    in some containers.
    """
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
