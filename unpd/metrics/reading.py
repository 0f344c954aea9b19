"""One reading of the scoreboard: sums over the rows, the directory, the master's own
figures. The collector, /readyz and the master's status call it; it writes nothing.

It trusts nothing that a child can write: a cell that no honest counter reaches counts
as 0, and an entry with an index outside its table is left out.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Self

from unpd.board import layout
from unpd.board.active import active_of, copied, sane_cells
from unpd.board.layout import Board, Master, Row, Service, Target
from unpd.board.memory import Entry, Scoreboard
from unpd.kernel.procfs import possible_children, zombies_among
from unpd.loop import now
from unpd.metrics.labels import Labels, Server, TargetLabels
from unpd.names import FORKING_KINDS, UNREADY_PHASES, ChildKind, ChildPhase, MasterPhase


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram's cells: one count for each bound, one for everything above the last,
    and the sum of all observations.
    """

    bounds_s: Sequence[float]
    counts: Sequence[int]
    sum_ns: int

    @property
    def sum_s(self) -> float:
        """The sum of all observations in seconds."""
        return self.sum_ns / layout.NS


@dataclass(frozen=True, slots=True)
class DatagramCounts:
    """One service's counts of datagrams over all rows."""

    received: int
    sent: int
    received_bytes: int
    sent_bytes: int
    receive_errors: int
    unanswered: Sequence[int]


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """One service's counts of session processes over all rows."""

    forked: int
    reaped: Sequence[int]
    fork_failures: int


@dataclass(frozen=True, slots=True)
class ProgramCounts:
    """One service's counts of programs over all rows. ``peak_bytes``: of the program
    that had the most.
    """

    ended: Sequence[int]
    durations: Distribution
    cpu_ns: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """One service's counts over all rows, in the order of the tables in
    :mod:`unpd.board.memory`. ``oldest_age_s``: how long its oldest connection is open;
    0 if none is.
    """

    name: str
    accepted: int
    active: int
    ended: Sequence[int]
    durations: Distribution
    round_trips: Distribution
    retransmitted: int
    oldest_age_s: float
    received_bytes: int
    sent_bytes: int
    accept_errors: Sequence[int]
    refused: Sequence[int]
    would_refuse: Sequence[int]
    proxy_headers: Sequence[int]
    datagrams: DatagramCounts
    sessions: SessionCounts
    programs: ProgramCounts


@dataclass(frozen=True, slots=True)
class TargetCounts:
    """The counts of one target of a redirect over all rows."""

    service: str
    target: str
    connected: int
    failed: Sequence[int]


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that one scrape shows. ``master``: the words of the master area;
    ``children``: living children by kind, pool column and phase. ``worker_lag``:
    the longest turns of the loops of workers. ``beat_age_s``: how long ago the master's
    last heartbeat was. ``sources_tracked``: how many sources of
    connections are counted (:meth:`unpd.board.sources.SourceCounts.tracked`).
    ``readers_refused``: how many clients the exporters have refused.
    """

    labels: Labels
    services: Sequence[ServiceCounts]
    targets: Sequence[TargetCounts]
    children: Mapping[tuple[ChildKind, int, ChildPhase], int]
    master: Sequence[int]
    worker_lag: Distribution
    log_lines_dropped: int
    zombies: int | None
    beat_age_s: float | None
    sources_tracked: int
    readers_refused: int

    @classmethod
    def take(cls, board: Scoreboard, labels: Labels, sources_tracked: int) -> Self:
        """Read the board now."""
        rows = range(board.rows_shown())
        master = sane_cells(board.words[: Board.DIRECTORY].tolist())
        return cls(
            labels=labels,
            services=[count_service(board, name, column, rows) for name, column in labels.services],
            targets=[_count_target(board, target, rows) for target in labels.targets],
            children=Counter((each.kind, each.pool, each.phase) for each in _living(board)),
            master=master,
            worker_lag=_worker_lag(board, rows),
            log_lines_dropped=master[Master.LOG_DROPPED] + lines_dropped(board, rows),
            zombies=zombies(board, labels.master_pid),
            beat_age_s=_beat_age_s(board),
            sources_tracked=sources_tracked,
            readers_refused=_sum_of(board, rows, Row.READERS_REFUSED),
        )


def _count_target(board: Scoreboard, labels: TargetLabels, rows: Iterable[int]) -> TargetCounts:
    totals = [0] * Target.size
    for row in rows:
        start = layout.row_start(row) + layout.target_cells(labels.column)
        cells = sane_cells(board.words[start : start + Target.size].tolist())
        totals = list(map(add, totals, cells))
    return TargetCounts(
        service=labels.service,
        target=labels.target,
        connected=totals[Target.CONNECTED],
        failed=totals[Target.span(Target.FAILED)],
    )


def _worker_lag(board: Scoreboard, rows: Iterable[int]) -> Distribution:
    """The lags of the loops of all workers that there ever were."""
    totals = [0] * (len(layout.LAG_BOUNDS_S) + 2)
    for row in rows:
        start = layout.row_start(row) + Row.LAG_BUCKETS
        cells = sane_cells(board.words[start : start + len(totals)].tolist())
        totals = list(map(add, totals, cells))
    return Distribution(layout.LAG_BOUNDS_S, totals[:-1], totals[-1])


def _beat_age_s(board: Scoreboard) -> float | None:
    """How old the master's last heartbeat is; None before the first one. Only a faulty
    child could write one from the future.
    """
    beat_ns = board.words[Master.BEAT_NS]
    return max(0.0, now() - beat_ns / layout.NS) if beat_ns else None


def child_beat_age_s(beat_ns: int, born_ns: int, at_s: float) -> float | None:
    """How old the last heartbeat of a child is at the time ``at_s`` (monotonic
    seconds); None if it gave none since its birth: an older one is of an earlier child
    in its row. One from the future is of a faulty child.
    """
    return round(max(0.0, at_s - beat_ns / layout.NS), 1) if beat_ns >= born_ns else None


def lines_dropped(board: Scoreboard, rows: Iterable[int]) -> int:
    """How many log lines the children of these rows have dropped."""
    return _sum_of(board, rows, Row.LOG_DROPPED)


def _sum_of(board: Scoreboard, rows: Iterable[int], word: int) -> int:
    """The sum of one of the words of :class:`Row`."""
    return sum(sane_cells([board.words[layout.row_start(row) + word] for row in rows]))


def _living(board: Scoreboard) -> list[Entry]:
    """The children that are not reaped yet."""
    return [entry for entry in board.entries() if not entry.reaped]


def zombies(board: Scoreboard, master_pid: int, most: float = math.inf) -> int | None:
    """The zombies of the master and of its dispatchers. None where /proc hides them, or
    where more than ``most`` processes would have to be looked at, each for about 10 us:
    the search ends at the parent with which they are too many.
    """
    parents = [entry.pid for entry in _living(board) if entry.kind in FORKING_KINDS]
    found = looked_at = 0
    for parent in (master_pid, *parents):
        pids = possible_children(parent)
        if pids is None and parent == master_pid:
            return None
        looked_at += len(pids or ())
        if looked_at > most:
            return None
        found += zombies_among(pids or (), parent)
    return found


def why_not_ready(board: Scoreboard, labels: Labels) -> str:
    """Say why not every configured service has a ready worker and a listener that
    clients reach; "" when each has both.
    """
    phase = board.words[Master.PHASE]
    if phase >= len(layout.MASTER_PHASES):
        return "the scoreboard is damaged"
    if (unready := layout.MASTER_PHASES[phase]) in UNREADY_PHASES:
        return "the daemon will stop soon" if unready is MasterPhase.LAME else unready.value
    pools = {column: name for name, column in labels.pools}
    ready = {
        Server(entry.kind, pools.get(entry.pool, ""), index)
        for entry in board.entries()
        if entry.phase is ChildPhase.READY
        for index in (None, entry.index)
    }
    waiting = [service for service, children in labels.served_by.items() if not children <= ready]
    if waiting:
        return f"no ready worker for service {', '.join(waiting)}"
    columns = dict(labels.services)
    unreachable = [
        service
        for service in labels.served_by
        if board.words[Master.UNREACHABLE + columns[service]]
    ]
    return f"clients reach no listener of service {', '.join(unreachable)}" if unreachable else ""


def count_service(board: Scoreboard, name: str, column: int, rows: Iterable[int]) -> ServiceCounts:
    """Sum up one service over ``rows``. ``active`` is computed row by row: only damage
    makes a row's count negative, and such a row counts as 0.
    """
    every: list[list[int]] = [[0] * Service.size]
    active = peak_bytes = oldest_ns = 0
    for row in rows:
        cells = sane_cells(copied(board, row, column))
        if not any(cells):
            continue
        every.append(cells)
        active += active_of(cells)
        peak_bytes = max(peak_bytes, cells[Service.PROGRAM_PEAK_BYTES])
        if row_oldest_ns := cells[Service.OLDEST_NS]:
            oldest_ns = min(oldest_ns or row_oldest_ns, row_oldest_ns)
    totals = list(map(sum, zip(*every, strict=True)))
    return ServiceCounts(
        name=name,
        accepted=totals[Service.ACCEPTED],
        active=active,
        ended=totals[Service.span(Service.ENDED)],
        durations=Distribution(
            layout.DURATION_BOUNDS_S,
            totals[Service.span(Service.DURATION_BUCKETS)],
            totals[Service.DURATION_SUM_NS],
        ),
        round_trips=Distribution(
            layout.RTT_BOUNDS_S,
            totals[Service.span(Service.RTT_BUCKETS)],
            totals[Service.RTT_SUM_NS],
        ),
        retransmitted=totals[Service.RETRANSMITTED],
        oldest_age_s=max(0.0, now() - oldest_ns / layout.NS) if active and oldest_ns else 0.0,
        received_bytes=totals[Service.RECEIVED],
        sent_bytes=totals[Service.SENT],
        accept_errors=totals[Service.span(Service.ACCEPT_ERRORS)],
        refused=totals[Service.span(Service.REFUSED)],
        would_refuse=totals[Service.span(Service.WOULD_REFUSE)],
        proxy_headers=totals[Service.span(Service.PROXY_HEADERS)],
        datagrams=DatagramCounts(
            received=totals[Service.DATAGRAMS_RECEIVED],
            sent=totals[Service.DATAGRAMS_SENT],
            received_bytes=totals[Service.DATAGRAM_BYTES_RECEIVED],
            sent_bytes=totals[Service.DATAGRAM_BYTES_SENT],
            receive_errors=totals[Service.DATAGRAM_RECEIVE_ERRORS],
            unanswered=totals[Service.span(Service.UNANSWERED)],
        ),
        sessions=SessionCounts(
            forked=totals[Service.SESSIONS_FORKED],
            reaped=totals[Service.span(Service.SESSIONS_REAPED)],
            fork_failures=totals[Service.SESSION_FORK_FAILURES],
        ),
        programs=ProgramCounts(
            ended=totals[Service.span(Service.PROGRAMS_ENDED)],
            durations=Distribution(
                layout.DURATION_BOUNDS_S,
                totals[Service.span(Service.PROGRAM_BUCKETS)],
                totals[Service.PROGRAM_SUM_NS],
            ),
            cpu_ns=totals[Service.PROGRAM_CPU_NS],
            peak_bytes=peak_bytes,
        ),
    )
