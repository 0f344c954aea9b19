"""The facts about a host, a configuration and a daemon, over which the checks of
``unpd doctor`` are pure functions. Read by :mod:`unpd.cli.doctor.gather`.

A fact that could not be read is None, or missing. The properties and methods here raise
UnknownFactError for one that a check needs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unpd.config.schema import Config
from unpd.kernel.clock import Clock
from unpd.kernel.socket_diag import BoundSocket

SPAN_S = 2.0
"""How long apart the two looks at the drops of a socket are."""


class UnknownFactError(Exception):
    """A check cannot be made; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """The limits of a process. ``source``: the process or the unit that has them.
    ``open_files``: RLIMIT_NOFILE, the hard limit, which unpd raises its soft one to;
    ``processes``: RLIMIT_NPROC. None: no limit.
    """

    source: str
    open_files: int | None
    processes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PidsLimit:
    """A limit of the number of processes: of a cgroup, or of the kernel. ``current``:
    how many there are. ``key``: what raises it.
    """

    where: str
    limit: int
    current: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningDaemon:
    """The daemon that runs. ``listeners``: the service of each address. ``inodes``: of
    its sockets, empty where this user may not see them.
    """

    pid: int
    listeners: Mapping[str, str]
    inodes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that has a socket. ``title``: of its command line, or its name."""

    pid: int
    title: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.title})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The unit of systemd. ``user``: User=, "" for root. ``group``: Group=, "" for that
    of the user. ``groups``: SupplementaryGroups=. ``stop_s``: TimeoutStopSec=, inf for
    none. ``ambient``: the names in AmbientCapabilities=. ``systemd``: the version of
    systemd, 0 if it is not known. ``directories``: those that systemd makes before a
    start, in its order. ``stored``: how many descriptors it keeps for the next one.
    """

    name: str
    type: str
    kill_mode: str
    stop_s: float
    user: str = ""
    group: str = ""
    groups: tuple[str, ...] = ()
    ambient: frozenset[str] = frozenset()
    systemd: int = 0
    directories: tuple[Path, ...] = ()
    stored: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file, or a directory on the way to it. ``key``: what names the file. ``mode``
    as in stat(2). ``owners``: the users that may own it.
    """

    key: str
    path: str
    uid: int
    gid: int
    mode: int
    owners: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the checks read.

    ``refusal``: why there is no configuration. ``warnings``: about it. ``uid``,
    ``gid``: of the main process, or of the one that would start. ``cpus``: that it may
    use. ``sysctl``: settings of the kernel, by name. ``losses``: ListenOverflows and
    ListenDrops. ``holder``: finds the process that has the socket of an inode, None if
    it cannot be seen. ``drops_before``: the drops of each socket SPAN_S before those in
    ``sockets``, by inode. ``hidden``: the entries that cannot be looked at, as key and
    path. ``refused_to_user``: why a load with the rights of the daemon's user fails,
    although this one does not. ``unusable``: what that user could not use.
    ``memory``: /proc/meminfo in kB. ``daemon_unknown``, ``unit_unknown`` and
    ``unusable_unknown``: why nothing is known of these.
    """

    configured: Config | None
    refusal: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    uid: int = 0
    gid: int = 0
    cpus: int = 1
    daemon: RunningDaemon | None = None
    daemon_unknown: str = ""
    unit: Unit | None = None
    unit_unknown: str = "no unit of systemd runs unpd here"
    limits: ProcessLimits | None = None
    pids: tuple[PidsLimit, ...] = ()
    sysctl: Mapping[str, str] = field(default_factory=dict)
    losses: tuple[int, int] | None = None
    sockets: tuple[BoundSocket, ...] | None = None
    holder: Callable[[int], Holder | None] = lambda _: None
    drops_before: Mapping[int, int] = field(default_factory=dict)
    clock: Clock | None = None
    entries: tuple[Entry, ...] = ()
    hidden: tuple[tuple[str, str], ...] = ()
    refused_to_user: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    unusable_unknown: str = ""
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """The configuration. UnknownFactError if it is refused."""
        if self.configured is None:
            raise UnknownFactError("the configuration is refused")
        return self.configured

    def number(self, name: str) -> int:
        """A setting of the kernel. UnknownFactError."""
        try:
            return int(self.sysctl[name])
        except (KeyError, ValueError):
            raise UnknownFactError(f"{name} cannot be read") from None

    @property
    def asked_daemon(self) -> RunningDaemon | None:
        """The daemon, None if none runs. UnknownFactError if that is not known."""
        if self.daemon is None and self.daemon_unknown:
            raise UnknownFactError(f"the daemon could not be asked: {self.daemon_unknown}")
        return self.daemon

    @property
    def open_sockets(self) -> tuple[BoundSocket, ...]:
        """The sockets of this network namespace. UnknownFactError."""
        if self.sockets is None:
            raise UnknownFactError("the kernel does not list its sockets to this user")
        return self.sockets
