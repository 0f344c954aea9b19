"""One reading of the scoreboard: sums over the rows, the directory, the master's own
figures. The collector, /readyz and the master's status call it; it writes nothing.

It trusts nothing that a child can write: a cell that no honest counter reaches counts
as 0, and an entry with an index outside its table is left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Self

from unpd.board import layout
from unpd.board.layout import Board, Master, Row, Service
from unpd.board.memory import Entry, Scoreboard
from unpd.kernel.procfs import zombie_children
from unpd.loop import now
from unpd.metrics.labels import Labels
from unpd.names import ChildKind, ChildPhase, MasterPhase

COPIES = 5
"""How often a service's cells of one row are copied, at most. A worker that ends 30,000
connections a second ends one every 33 us; a copy and its check take 2 or 3 us.
"""


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
class ServiceCounts:
    """One service's counts over all rows, in the order of the tables in
    :mod:`unpd.board.memory`.
    """

    name: str
    accepted: int
    active: int
    ended: Sequence[int]
    durations: Distribution
    received_bytes: int
    sent_bytes: int
    accept_errors: Sequence[int]
    datagrams: DatagramCounts


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that one scrape shows. ``master``: the words of the master area;
    ``workers``: living workers by pool column and phase. ``beat_age_s``: how long ago
    the master's last heartbeat was.
    """

    labels: Labels
    services: Sequence[ServiceCounts]
    workers: Mapping[tuple[int, ChildPhase], int]
    master: Sequence[int]
    log_lines_dropped: int
    zombies: int | None
    beat_age_s: float | None

    @classmethod
    def take(cls, board: Scoreboard, labels: Labels) -> Self:
        """Read the board now."""
        rows = range(board.rows_shown())
        master = _sane(board.words[: Board.DIRECTORY].tolist())
        return cls(
            labels=labels,
            services=[count_service(board, name, column, rows) for name, column in labels.services],
            workers=Counter((entry.pool, entry.phase) for entry in _workers(board)),
            master=master,
            log_lines_dropped=master[Master.LOG_DROPPED] + lines_dropped(board, rows),
            zombies=zombie_children(labels.master_pid),
            beat_age_s=_beat_age_s(board),
        )


def _beat_age_s(board: Scoreboard) -> float | None:
    """How old the master's last heartbeat is; None before the first one. Only a faulty
    child could write one from the future.
    """
    beat_ns = board.words[Master.BEAT_NS]
    return max(0.0, now() - beat_ns / layout.NS) if beat_ns else None


def lines_dropped(board: Scoreboard, rows: Iterable[int]) -> int:
    """How many log lines the children of these rows have dropped."""
    words = [board.words[Board.ROWS + row * Row.size + Row.LOG_DROPPED] for row in rows]
    return sum(_sane(words))


def why_not_ready(board: Scoreboard, labels: Labels) -> str:
    """Say why not every configured service has a ready worker and a listener that
    clients reach; "" when each has both.
    """
    phase = board.words[Master.PHASE]
    if phase >= len(layout.MASTER_PHASES):
        return "the scoreboard is damaged"
    if layout.MASTER_PHASES[phase] in (MasterPhase.STARTING, MasterPhase.STOPPING):
        return layout.MASTER_PHASES[phase].value
    ready = {entry.pool for entry in _workers(board) if entry.phase is ChildPhase.READY}
    ready_pools = {name for name, column in labels.pools if column in ready}
    waiting = [service for service, pool in labels.service_pools.items() if pool not in ready_pools]
    if waiting:
        return f"no ready worker for service {', '.join(waiting)}"
    columns = dict(labels.services)
    unreachable = [
        service
        for service in labels.service_pools
        if board.words[Master.UNREACHABLE + columns[service]]
    ]
    return f"clients reach no listener of service {', '.join(unreachable)}" if unreachable else ""


def _workers(board: Scoreboard) -> list[Entry]:
    return [entry for entry in board.entries() if entry.kind is ChildKind.WORKER]


def count_service(board: Scoreboard, name: str, column: int, rows: Iterable[int]) -> ServiceCounts:
    """Sum up one service over ``rows``. ``active`` is computed row by row: only damage
    makes a row's count negative, and such a row counts as 0.
    """
    totals = [0] * Service.size
    active = 0
    for row in rows:
        cells = _sane(_copied(board, row, column))
        active += _active(cells)
        totals = list(map(add, totals, cells))
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
        received_bytes=totals[Service.RECEIVED],
        sent_bytes=totals[Service.SENT],
        accept_errors=totals[Service.span(Service.ACCEPT_ERRORS)],
        datagrams=DatagramCounts(
            received=totals[Service.DATAGRAMS_RECEIVED],
            sent=totals[Service.DATAGRAMS_SENT],
            received_bytes=totals[Service.DATAGRAM_BYTES_RECEIVED],
            sent_bytes=totals[Service.DATAGRAM_BYTES_SENT],
            receive_errors=totals[Service.DATAGRAM_RECEIVE_ERRORS],
            unanswered=totals[Service.span(Service.UNANSWERED)],
        ),
    )


def count_active(board: Scoreboard, column: int, rows: Iterable[int]) -> int:
    """Count the open connections of a service: ``active`` of :func:`count_service` at
    half the cost.
    """
    return sum(count_in_row(board, row, column) for row in rows)


def count_in_row(board: Scoreboard, row: int, column: int) -> int:
    """Count the open connections of a service in one row: those of its child."""
    return _active(_sane(_copied(board, row, column)))


def _active(cells: Sequence[int]) -> int:
    return max(
        0,
        cells[Service.ACCEPTED]
        - sum(cells[Service.ENDED : Service.ENDED + len(layout.END_CAUSES)]),
    )


def _copied(board: Scoreboard, row: int, column: int) -> list[int]:
    """Copy one service's cells of a row. The copy goes upwards, so it reads the ends
    before the accepts. If more connections ended meanwhile it is made again: a reader
    that the scheduler interrupts in the middle would count connections that came and
    went as open (191 for a single one, with both processors busy).
    """
    start = Board.ROWS + row * Row.size + layout.service_cells(column)
    cells: list[int] = []
    for _ in range(COPIES):
        cells = board.words[start : start + Service.size].tolist()
        if (
            board.words[start : start + len(layout.END_CAUSES)].tolist()
            == cells[: len(layout.END_CAUSES)]
        ):
            break
    return cells


def _sane(cells: list[int]) -> list[int]:
    """The cells, with 0 in place of each that no honest counter reaches."""
    if max(cells, default=0) < layout.SANE_COUNT:
        return cells
    return [cell if cell < layout.SANE_COUNT else 0 for cell in cells]
