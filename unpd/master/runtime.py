"""What the master owns while it runs: descriptors, children, the scoreboard, the log.
No behaviour; the shell and the performers work on it.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from unpd.board import memory as sb
from unpd.board.memory import Columns, Scoreboard
from unpd.config.load import Loaded
from unpd.config.plan import worker_count
from unpd.config.schema import Config, is_name
from unpd.control.server import ControlServer
from unpd.core import events as ev
from unpd.core.model import Child, Limits, Wanted
from unpd.kernel.privileges import Identity
from unpd.kernel.signals import Reaper, SignalQueue
from unpd.logs import Log
from unpd.loop import Loop
from unpd.master.listening.listener import METRICS, WantedListener
from unpd.master.listening.table import Listeners


@dataclass(frozen=True, slots=True)
class Deployment:
    """One configuration with its open listeners: what a generation of children is born
    with.
    """

    config: Config
    listeners: Listeners


@dataclass(slots=True)
class ChildProcess:
    """A forked child. ``ready_fd`` is None once it has reported."""

    child: Child
    pid: int
    pidfd: int | None
    row: int
    ready_fd: int | None


class BoardColumns:
    """The columns of a scoreboard by name, for the board's life."""

    def __init__(self, board: Scoreboard) -> None:
        """BoardRefusedError if what stands there makes no sense."""
        self.services = Columns(
            "services", board.names(sb.SERVICE_NAMES_AT, sb.MAX_SERVICES), is_name
        )
        self.pools = Columns("pools", board.names(sb.POOL_NAMES_AT, sb.MAX_POOLS), is_name)
        self.listeners = Columns("listeners", board.names(sb.LISTENER_NAMES_AT, sb.MAX_LISTENERS))

    def check(self, config: Config, wanted_listeners: Collection[WantedListener]) -> None:
        """ColumnsExhausted if there is no room for all names of the configuration: what
        is refused must not take any.
        """
        self.services.check(config.services)
        self.pools.check(service.pool for service in config.services.values())
        self.listeners.check(wanted.key for wanted in wanted_listeners if wanted.service != METRICS)

    def take(self, config: Config, wanted_listeners: Collection[WantedListener]) -> None:
        """Give every name of the configuration its column. ColumnsExhausted if there is
        no room for all.
        """
        self.check(config, wanted_listeners)
        for name, service in config.services.items():
            self.services.column(name)
            self.pools.column(service.pool)
        for wanted in wanted_listeners:
            if wanted.service != METRICS:
                self.listeners.column(wanted.key)


@dataclass(slots=True)
class Runtime:
    """Everything the master owns. ``events`` is what the performers have to tell the
    core; ``on_ready`` and ``load`` come from whoever started the master.
    """

    deployment: Deployment
    load: Callable[[], Loaded]
    identity: Identity | None
    log: Log
    board: Scoreboard
    columns: BoardColumns
    loop: Loop
    reaper: Reaper
    signal_queue: SignalQueue
    on_ready: Callable[[], None]
    master_pid: int
    started_at: float
    generation: int = 1
    """Of the deployment: the master's own truth, not the scoreboard's, which children
    can write.
    """
    control: ControlServer | None = None
    candidate: Deployment | None = None
    living: dict[int, ChildProcess] = field(default_factory=dict)
    births: dict[int, int] = field(default_factory=dict)
    """Birth by pid, of the children that are not reaped yet."""
    events: deque[ev.Event] = field(default_factory=deque)


def wanted(config: Config) -> Wanted:
    """What the core has to know of a configuration. A pool that no service uses gets no
    workers.
    """
    used = {service.pool for service in config.services.values()}
    workers = {name: worker_count(pool) for name, pool in config.pools.items() if name in used}
    daemon = config.daemon
    limits = Limits(
        daemon.grace_s, daemon.reload_grace_s, daemon.start_timeout_s, daemon.heartbeat_timeout_s
    )
    return Wanted(workers, config.metrics.listen is not None, limits)
