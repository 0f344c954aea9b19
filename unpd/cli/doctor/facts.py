"""The facts about a host, a configuration and a daemon, over which the checks of
``unpd doctor`` are pure functions. Read by :mod:`unpd.cli.doctor.gather`.

A fact that could not be read is None, or missing. The properties and methods here raise
UnknownFactError for one that a check needs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from unpd.config.schema import Config
from unpd.kernel.clock import Clock
from unpd.kernel.socket_diag import BoundSocket


class UnknownFactError(Exception):
    """A check cannot be made; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
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
class Daemon:
    """The daemon that runs. ``listeners``: the service of each address. ``inodes``: of
    its sockets, empty where this user may not see them.
    """

    pid: int
    listeners: Mapping[str, str]
    inodes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The unit of systemd. ``user``: User=, "" for root. ``stop_s``: TimeoutStopSec=,
    inf for none.
    """

    name: str
    type: str
    kill_mode: str
    stop_s: float
    user: str = ""


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
    ListenDrops. ``holder``: names the process that has the socket of an inode.
    ``unusable``: what the daemon's user could not use. ``memory``: /proc/meminfo in kB.
    ``daemon_unknown`` and ``unit_unknown``: why there is none.
    """

    configured: Config | None
    refusal: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    uid: int = 0
    gid: int = 0
    cpus: int = 1
    daemon: Daemon | None = None
    daemon_unknown: str = ""
    unit: Unit | None = None
    unit_unknown: str = "no unit of systemd runs unpd here"
    limits: Limits | None = None
    pids: tuple[PidsLimit, ...] = ()
    sysctl: Mapping[str, str] = field(default_factory=dict)
    losses: tuple[int, int] | None = None
    sockets: tuple[BoundSocket, ...] | None = None
    holder: Callable[[int], str] = lambda _: "a process elsewhere"
    clock: Clock | None = None
    entries: tuple[Entry, ...] = ()
    unusable: tuple[str, ...] = ()
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
    def open_sockets(self) -> tuple[BoundSocket, ...]:
        """The sockets of this network namespace. UnknownFactError."""
        if self.sockets is None:
            raise UnknownFactError("the kernel does not list its sockets to this user")
        return self.sockets
