"""The runtime: everything that the master owns while it runs, such as descriptors,
children, the scoreboard and the log.

Made by boot. It has hardly any behaviour: the shell, the performers and the other
modules of ``unpd.master`` work on it.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unpd.board.ended import EndedEntry, EndedRing
from unpd.board.history import HistoryWriter
from unpd.board.memory import Scoreboard
from unpd.board.sources import Sources
from unpd.channel import ChannelEnd
from unpd.config.load import Loaded
from unpd.config.schema import Config
from unpd.control.server import ControlServer
from unpd.core import events as ev
from unpd.core.model import Child
from unpd.errors import CannotCreateError
from unpd.kernel.pidfile import PidFile
from unpd.kernel.privileges import Identity
from unpd.kernel.signals import Reaper, SignalQueue
from unpd.logs import Log
from unpd.loop import Loop
from unpd.master.busyness import Busyness
from unpd.master.children.lanes import Lanes
from unpd.master.columns import BoardColumns
from unpd.master.counts import Counts
from unpd.master.deny_list import DenyList
from unpd.master.listening.table import Listeners
from unpd.master.live_changes import LiveChanges
from unpd.master.page_feed import PageFeed
from unpd.master.peaks import Peaks
from unpd.master.recent_events import RecentEvents
from unpd.master.reload_log import ReloadLog
from unpd.master.reload_report import ReloadReport
from unpd.master.sensor_lines import SensorLines
from unpd.master.usages import Usages
from unpd.master.zombies import Zombies
from unpd.metrics.page.files import PageFiles
from unpd.names import Fault
from unpd.worker.selection import Kick


@dataclass(frozen=True, slots=True)
class Deployment:
    """One configuration with its open listeners. Each reload makes another one."""

    config: Config
    listeners: Listeners


@dataclass(slots=True)
class Question:
    """A question for a child. ``on_answer`` is called once: with the answer, or with
    None if there is none. ``descriptor`` goes with the message, and is closed when
    the question was sent or dropped.
    """

    message: Mapping[str, Any]
    on_answer: Callable[[dict[str, Any] | None], None]
    descriptor: int | None = None

    def close(self) -> None:
        """Close the descriptor, if that has not been done."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


@dataclass(slots=True)
class ChildProcess:
    """A child that is not reaped yet.

    ``pidfd`` is None if the kernel refused one. ``row``: its row of the board.
    ``reported``: whether it has sent its report. ``unanswered``: its questions, in
    their order; the first was sent. ``log_orders``: how often it has to switch to a new
    log file; the first of these orders was sent. ``log_late_at``: when the master logs
    that it has not switched, None if it has no order or the master has done so.
    ``level_owed``: whether it could not be asked to take the level of the log.
    ``ordered``: whether the master has sent it a signal. ``left_by``: the signal that
    ended it, as it says itself. ``accepted_before``: how many connections the children
    before it in its row had accepted. ``ended``: its ring of connections that have
    ended, if it serves.
    """

    child: Child
    pid: int
    pidfd: int | None
    row: int
    channel: ChannelEnd
    reported: bool = False
    log_orders: int = 0
    log_late_at: float | None = None
    level_owed: bool = False
    ordered: bool = False
    left_by: str = ""
    accepted_before: int = 0
    ended: EndedRing | None = None
    unanswered: deque[Question] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class LastReload:
    """A reload that has ended. ``refused``: the reason, "" for success. ``ended_at``:
    seconds since the epoch. ``generation``: the one that served afterwards.
    """

    refused: str
    ended_at: float
    generation: int


@dataclass(slots=True, eq=False, kw_only=True)
class Round:
    """One question to many children (:mod:`unpd.master.rounds`). ``take`` gets the
    birth of a child and its answer, None if it cannot be asked, and says whether that
    makes sense. ``finish`` is called in the end. ``outlived``: whether what is asked
    for goes on after the death of a child: then the owner of the round settles it.

    ``waiting``: the children that have yet to answer, in words, by birth. ``late_at``:
    when the round is over anyway. ``asking``: the child that is being asked, else 0.
    ``silent``: those that gave no answer that makes sense.
    """

    take: Callable[[int, Mapping[str, Any] | None], bool]
    finish: Callable[[], None]
    waiting: dict[int, str]
    outlived: Callable[[int], bool] = lambda _: False
    late_at: float = 0.0
    asking: int = 0
    silent: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class KickRequest:
    """A request to end connections. ``request``: its number. ``fields``: the rest of
    its answer. ``ended``: how many connections have ended. ``round``: the question to
    the children.
    """

    request: int
    kick: Kick
    fields: Mapping[str, Any]
    ended: int = 0
    round: Round = field(init=False)


@dataclass(slots=True, eq=False, kw_only=True)
class Wait:
    """A request that waits for a condition. ``request``: its number. ``service``: the
    one that it is about, "" for the daemon. ``late_at``: when it is answered anyway,
    inf: never. ``look_at``: when the condition is looked at again, because no event
    tells; inf: at each event.
    """

    request: int
    condition: str
    service: str
    late_at: float
    look_at: float


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """A request for a page of connections that a child has yet to answer. ``request``:
    its number. ``birth``: the child, which is asked for those with numbers above
    ``after``. ``late_at``: when it is answered anyway.
    """

    request: int
    birth: int
    after: int
    late_at: float


PAUSE_S = 0.05
PATIENCE_S = 3.0
"""How long a reload waits for an address that a retired worker has yet to close. A
worker that is not hung closes it within milliseconds.
"""


@dataclass(frozen=True, slots=True)
class Postponed:
    """A load of the configuration that is tried again, at ``again_at``, and no more
    after ``until``.
    """

    again_at: float
    until: float


@dataclass(slots=True, kw_only=True)
class Runtime:
    """Everything that the master owns.

    ``load`` reads the configuration again. ``on_ready`` is called once, when every
    service is ready. Both come from the command that started the master. ``candidate``
    is the deployment that a reload proves. ``postponed``: a reload waits for an address
    that a retired worker has yet to close. ``events`` wait for the core. ``generation``
    is that of ``deployment``; the master does not read it from the scoreboard, which
    children can write. ``processes`` has the children that are not reaped yet, by
    birth; ``birth_by_pid`` has their births by pid. ``lanes``: what dispatchers leave
    to their successors. ``sources``: the counts for the limits. ``deny_list``: the live
    denials; ``rounds``: the questions to many children that not all have answered;
    ``kicks``: the requests to end connections that are not answered yet;
    ``listings``: those for pages of connections; ``waits``: those that wait for a
    condition. ``live``: the live changes. ``ended``: the last ends of children that
    have died, the latest first. ``sensed``: the reports about clients of sensors that
    wait for their turn: service and address. ``faults`` has one sentence for each fault
    that the core does not see, by the fault and the part that has it. ``config_names``
    are the absolute names of the configuration file, none for the built-in default.
    ``last_reload`` is the last one that has ended, ``report`` what the last one that
    succeeded has changed, ``reload_log`` the lines of the last one. ``peaks``: the
    samples of open connections, ``busyness`` those of how busy the workers are.
    ``losses_seen``: the kernel's own counts of clients that it turned away
    (:mod:`unpd.kernel.procnet`). ``queue_peaks``: the longest accept queue at a sample
    since the start, by the key of the listener. ``usages``: what the children use.
    ``recent_events``: the last ones that the log got. ``sensor_lines``: the lines about
    sensors. ``counts``: what the services do and have done; ``zombies``: how many there
    are; ``history``: the samples of the counts, ``page_feed`` the rest that the status
    page needs of the master, and ``page_files`` its files.
    """

    deployment: Deployment
    load: Callable[[], Loaded]
    identity: Identity | None
    log: Log
    board: Scoreboard
    sources: Sources
    columns: BoardColumns
    loop: Loop
    reaper: Reaper
    signal_queue: SignalQueue
    on_ready: Callable[[], None]
    master_pid: int
    started_at: float
    config_names: tuple[str, ...] = ()
    generation: int = 1
    last_reload: LastReload | None = None
    report: ReloadReport = field(default_factory=ReloadReport)
    reload_log: ReloadLog = field(default_factory=ReloadLog)
    control: ControlServer | None = None
    pid_file: PidFile | None = None
    candidate: Deployment | None = None
    postponed: Postponed | None = None
    processes: dict[int, ChildProcess] = field(default_factory=dict)
    birth_by_pid: dict[int, int] = field(default_factory=dict)
    faults: dict[tuple[Fault, str], str] = field(default_factory=dict)
    events: deque[ev.Event] = field(default_factory=deque)
    peaks: Peaks = field(default_factory=Peaks)
    queue_peaks: dict[str, int] = field(default_factory=dict)
    usages: Usages = field(default_factory=Usages)
    recent_events: RecentEvents = field(default_factory=RecentEvents)
    rounds: list[Round] = field(default_factory=list)
    kicks: list[KickRequest] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    busyness: Busyness = field(default_factory=Busyness)
    losses_seen: tuple[int, int] | None = None
    ended: list[EndedEntry] = field(default_factory=list)
    sensed: dict[tuple[str, str], None] = field(default_factory=dict)
    page_feed: PageFeed = field(default_factory=PageFeed)
    page_files: PageFiles = field(default_factory=PageFiles.read)
    history: HistoryWriter = field(init=False)
    counts: Counts = field(init=False)
    zombies: Zombies = field(init=False)
    deny_list: DenyList = field(init=False)
    live: LiveChanges = field(init=False)
    sensor_lines: SensorLines = field(init=False)
    lanes: Lanes = field(init=False)

    def __post_init__(self) -> None:
        """Begin without lanes, denials, live changes and history. CannotCreateError if
        the kernel refuses their memory.
        """
        self.live = LiveChanges(self.board)
        self.history = make_history()
        self.counts = Counts(self.board)
        self.zombies = Zombies(self.board, self.master_pid)
        self.deny_list = DenyList(self.board, self.log, self.faults)
        self.sensor_lines = SensorLines(self.log)
        self.lanes = Lanes(
            self.board, self.sources, lambda: self.columns.services.by_name, self.log
        )

    def renewed_counts(self) -> Counts:
        """The counts of all services, of this moment or of shortly before."""
        self.counts.renew(self.columns.services)
        return self.counts

    def renewed_feed(self) -> PageFeed:
        """The feed of the status page, with every event until now."""
        feed = self.page_feed
        if feed.seen < self.recent_events.last:
            feed.take(self.recent_events.after(feed.seen))
        return feed

    def open_connections(self, birth: int) -> int:
        """How many connections a child has open, by the same counts."""
        process = self.processes.get(birth)
        return self.renewed_counts().active.by_row.get(process.row, 0) if process else 0

    def postpone(self, at: float) -> bool:
        """Have the configuration loaded again soon; False if that has lasted too long
        at the time ``at``.
        """
        until = self.postponed.until if self.postponed else at + PATIENCE_S
        if at >= until:
            self.postponed = None
            return False
        self.postponed = Postponed(at + PAUSE_S, until)
        return True


def make_history() -> HistoryWriter:
    """Make the memory of the history. CannotCreateError if the kernel refuses it."""
    try:
        return HistoryWriter()
    except OSError as error:
        raise CannotCreateError(
            f"cannot make the shared memory of the history: {error.strerror}; it needs Linux 5.1"
        ) from error
