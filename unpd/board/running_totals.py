"""The totals of each service over all rows of the board, as the master reads them: for
the history and for the status.

A row keeps its counts when its child dies, so a sum over all rows takes longer the more
children there ever were. Here a sum is kept instead: a reading looks only at the rows
that a child has held since the last one, and in them adds what has changed. The words
of one kind of all services in a row are compared at once.

Owned by the master. Called by :mod:`unpd.master.recording` once a second, and by
:mod:`unpd.master.status`. Raises nothing, whatever a faulty child wrote: a cell
that no honest counter reaches counts as 0.
"""

from array import array
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from unpd.board import layout
from unpd.board.columns import Columns
from unpd.board.layout import Row, Service
from unpd.board.memory import Scoreboard, sane


def _words(area: type[layout.Area], offset: int) -> range:
    span = area.span(offset)
    return range(span.start, span.stop)


SERVICE_FIGURES: Mapping[str, Iterable[int]] = MappingProxyType(
    {
        "accepted": (Service.ACCEPTED,),
        "datagrams": (Service.DATAGRAMS_RECEIVED,),
        "received": (Service.RECEIVED, Service.DATAGRAM_BYTES_RECEIVED),
        "sent": (Service.SENT, Service.DATAGRAM_BYTES_SENT),
        "datagrams_sent": (Service.DATAGRAMS_SENT,),
        "would_refuse": _words(Service, Service.WOULD_REFUSE),
        "rtt_count": _words(Service, Service.RTT_BUCKETS),
        "rtt_sum_ns": (Service.RTT_SUM_NS,),
    }
)
"""The words of a service in a row that make up a figure. A further one, ``refused``, is
the sum of the refusals by reason.
"""
ROW_FIGURES: Mapping[str, Iterable[int]] = MappingProxyType(
    {"lag_count": _words(Row, Row.LAG_BUCKETS), "lag_sum_ns": (Row.LAG_SUM_NS,)}
)
"""The words of a row that make up a figure of the daemon."""


class RunningTotals:
    """``services``: the totals by figure, each with a number for each column of a
    service. ``refused``: those of the refusals by reason. ``rows``: those of the
    daemon, each in a list of one number.
    """

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._columns = 0
        self._changes = -1
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget everything; the next reading looks at all rows."""
        self._unread: Iterable[int] = range(self._board.rows_given)
        self._seen: dict[int, list[memoryview]] = {}
        self.services = {figure: [0] * self._columns for figure in SERVICE_FIGURES}
        self.refused = {reason: [0] * self._columns for reason in layout.REFUSAL_REASONS}
        self.rows = {figure: [0] for figure in ROW_FIGURES}
        first, end = layout.service_cells(0), layout.service_cells(self._columns)
        self._slices = [
            (slice(first + word, end, Service.size), self.services[figure])
            for figure, words in SERVICE_FIGURES.items()
            for word in words
        ]
        self._slices += [
            (slice(first + word, end, Service.size), sums)
            for word, sums in zip(
                _words(Service, Service.REFUSED), self.refused.values(), strict=True
            )
        ]
        self._slices += [
            (slice(word, word + 1), self.rows[figure])
            for figure, words in ROW_FIGURES.items()
            for word in words
        ]
        self._nothing = [memoryview(array("Q", [0] * len(sums))) for _, sums in self._slices]

    def read(self, services: Columns) -> None:
        """Bring the totals up to date. ``services``: their columns. When one of them
        has changed, its counts were moved: all rows are read anew.
        """
        if self._changes != services.changes:
            self._changes = services.changes
            used = max(services.by_name.values(), default=-1) + 1
            self._columns = max(self._columns, used)
            self._begin_anew()
        for row in {*self._unread, *self._board.rows_to_read()}:
            self._read_row(row)
        self._unread = ()
        by_service = zip(*self.refused.values(), strict=True)
        self.services["refused"] = list(map(sum, by_service))

    def _read_row(self, row: int) -> None:
        words = self._board.row(row)
        seen = self._seen.get(row) or self._nothing.copy()
        for place, (cells, sums) in enumerate(self._slices):
            if words[cells] != seen[place]:
                found = memoryview(array("Q", words[cells].tolist()))
                for column, (before, after) in enumerate(zip(seen[place], found, strict=True)):
                    sums[column] += sane(after) - sane(before)
                seen[place] = found
        self._seen[row] = seen
