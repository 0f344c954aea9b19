"""The counts of all services on the scoreboard, taken at once for answers about the
daemon: the totals of each service, and the open connections of each row.

Called by :mod:`unpd.master.counts`. Owns nothing; raises nothing, whatever a faulty
child wrote: a cell that no honest counter reaches counts as 0.

The words of one kind of all services of a row are copied at once, and a row without
counts costs next to nothing. 64 services in 16 busy rows take 3 ms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add
from types import MappingProxyType

from unpd.board import layout
from unpd.board.active import count_in_row, sane_cells
from unpd.board.layout import Service
from unpd.board.memory import Scoreboard, sane

_REASONS = len(layout.REFUSAL_REASONS)
_ENDED = range(Service.ENDED, Service.ENDED + len(layout.END_CAUSES))
_WORDS: Mapping[str, Sequence[int]] = MappingProxyType(
    {
        "accepted": (Service.ACCEPTED,),
        "received_bytes": (Service.RECEIVED,),
        "sent_bytes": (Service.SENT,),
        "refused": range(Service.REFUSED, Service.REFUSED + _REASONS),
        "would_refuse": range(Service.WOULD_REFUSE, Service.WOULD_REFUSE + _REASONS),
        "datagrams_received": (Service.DATAGRAMS_RECEIVED,),
        "datagrams_sent": (Service.DATAGRAMS_SENT,),
    }
)
"""The words of a service in a row that make up a total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTally:
    """The totals of a service. ``active``: how many connections are open."""

    active: int = 0
    accepted: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    refused: int = 0
    would_refuse: int = 0
    datagrams_received: int = 0
    datagrams_sent: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """One count. ``services``: by name. ``open_in_row``: the open connections of each
    row that has any.
    """

    services: Mapping[str, ServiceTally]
    open_in_row: Mapping[int, int]

    @property
    def active(self) -> int:
        """How many connections are open."""
        return sum(service.active for service in self.services.values())


def take(board: Scoreboard, columns: Mapping[str, int]) -> Tally:
    """Count now. ``columns``: those of the services, by name."""
    width = max(columns.values(), default=-1) + 1
    active = [0] * width
    totals = {total: [0] * width for total in _WORDS}
    open_in_row = {}
    nothing = bytes(8 * width * Service.size)
    for row in range(board.rows_given):
        start = layout.row_start(row) + layout.service_cells(0)
        if board.words[start : start + width * Service.size].tobytes() == nothing:
            continue
        opened = active_in_row(board, row, width)
        if any(opened):
            active = list(map(add, active, opened))
            open_in_row[row] = sum(opened[column] for column in columns.values())
        for total, words in _WORDS.items():
            for word in words:
                cells = _cells(board, row, word, width)
                if any(cells):
                    totals[total] = list(map(add, totals[total], cells))
    services = {
        name: ServiceTally(
            active=active[column],
            **{total: sane(sums[column]) for total, sums in totals.items()},
        )
        for name, column in columns.items()
    }
    return Tally(services, open_in_row)


def active_in_row(board: Scoreboard, row: int, width: int) -> list[int]:
    """Count the open connections in one row, for each of the first ``width`` columns of
    services. Where connections ended meanwhile the column is counted alone, as
    :func:`unpd.board.active.copied` explains.
    """
    if not any(_cells(board, row, Service.ACCEPTED, width)):
        return [0] * width
    before = _ended_in_row(board, row, width)
    accepted = _cells(board, row, Service.ACCEPTED, width)
    after = _ended_in_row(board, row, width)
    return [
        max(0, accepted[column] - before[column])
        if before[column] == after[column]
        else count_in_row(board, row, column)
        for column in range(width)
    ]


def _ended_in_row(board: Scoreboard, row: int, width: int) -> list[int]:
    ended = [0] * width
    for word in _ENDED:
        cells = _cells(board, row, word, width)
        if any(cells):
            ended = list(map(add, ended, cells))
    return ended


def _cells(board: Scoreboard, row: int, word: int, width: int) -> list[int]:
    """One word of each of the first ``width`` columns of services."""
    start = layout.row_start(row) + layout.service_cells(0) + word
    return sane_cells(board.words[start : start + width * Service.size : Service.size].tolist())
