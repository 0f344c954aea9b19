"""Writes a sample of the history once a second: the figures of the daemon, and those of
each service.

Called by the shell's sweep, which may come more often; then most calls do nothing.
Reads the board, and writes the memory that :mod:`unpd.board.history` owns.

A sample costs 1 ms with 16 workers and 64 services: the words of one kind of all
services of a row are copied at once.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from operator import add
from types import MappingProxyType

from unpd.board import layout
from unpd.board.active import active_by_service, sane_cells
from unpd.board.history import Figures
from unpd.board.layout import Master, Row, Service
from unpd.board.memory import Scoreboard, sane
from unpd.master.listening.listener import METRICS
from unpd.master.runtime import Runtime

_RTT_PARTS = (*layout.RTT_BOUNDS_S, "above")
_LAG_PARTS = (*layout.LAG_BOUNDS_S, "above")
_WORDS: Mapping[str, Sequence[int]] = MappingProxyType(
    {
        "accepted": (Service.ACCEPTED,),
        "datagrams": (Service.DATAGRAMS_RECEIVED,),
        "received": (Service.RECEIVED, Service.DATAGRAM_BYTES_RECEIVED),
        "sent": (Service.SENT, Service.DATAGRAM_BYTES_SENT),
        "refused": tuple(range(Service.REFUSED, Service.REFUSED + len(layout.REFUSAL_REASONS))),
        "rtt_count": tuple(range(Service.RTT_BUCKETS, Service.RTT_BUCKETS + len(_RTT_PARTS))),
        "rtt_sum_ns": (Service.RTT_SUM_NS,),
    }
)
"""The words of a service in a row that make up a figure."""


def record(runtime: Runtime) -> None:
    """Write a sample if one is due."""
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    if not runtime.history.due(now_ns):
        return
    names = runtime.columns.services.by_name
    board, rows = runtime.board, range(runtime.board.rows_given)
    opened = active_by_service(board, names, rows)
    columns = max(names.values(), default=-1) + 1
    counts = {figure: _sums(board, words, rows, columns) for figure, words in _WORDS.items()}
    queued = _queued(runtime)
    services = {
        column: Figures(
            open=opened[name],
            queued=queued.get(name, 0),
            **{figure: sums[column] for figure, sums in counts.items()},
        )
        for name, column in names.items()
    }
    total = replace(sum_of(services.values()), **_lags(board, rows))
    runtime.history.write(now_ns, total, services)


def sum_of(parts: Iterable[Figures]) -> Figures:
    """The sums of all figures."""
    total = Figures()
    for part in parts:
        total = replace(
            total,
            **{
                each.name: getattr(total, each.name) + getattr(part, each.name)
                for each in fields(Figures)
            },
        )
    return total


def _lags(board: Scoreboard, rows: Iterable[int]) -> dict[str, int]:
    """How many turns of the loops of workers were measured, and their sum."""
    count = total_ns = 0
    for row in rows:
        words = board.row(row)
        buckets = words[Row.LAG_BUCKETS : Row.LAG_BUCKETS + len(_LAG_PARTS)].tolist()
        count += sum(sane_cells(buckets))
        total_ns += sane(words[Row.LAG_SUM_NS])
    return {"lag_count": count, "lag_sum_ns": total_ns}


def _sums(board: Scoreboard, words: Sequence[int], rows: Iterable[int], columns: int) -> list[int]:
    """The sums of these words over the rows, for each of the first ``columns`` columns
    of services.
    """
    totals = [0] * columns
    for row in rows:
        for word in words:
            start = layout.row_start(row) + layout.service_cells(0) + word
            stop = start + columns * Service.size
            cells = sane_cells(board.words[start : stop : Service.size].tolist())
            totals = list(map(add, totals, cells))
    return totals


def _queued(runtime: Runtime) -> dict[str, int]:
    """How many clients wait in the accept queues of each service, as sampled before."""
    queued: dict[str, int] = {}
    for key, listener in runtime.deployment.listeners.opened.items():
        if (service := listener.wanted.service) != METRICS:
            word = Master.LISTEN_QUEUES + 2 * runtime.columns.listeners.column(key)
            queued[service] = queued.get(service, 0) + sane(runtime.board.words[word])
    return queued
