"""Samples what the services do, once a second: their open connections and their totals.
Writes the sample into the history, and the peaks on the board.

Called by the shell's sweep, which may come more often; then most calls do nothing.
Nothing else of the master reads these words for samples: the status takes its rates
from the history. Reads the board, and writes the memory that
:mod:`unpd.board.history` owns, and ``CONNECTION_PEAKS``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace

from unpd.board.history import NAMES, Figures
from unpd.board.layout import Master
from unpd.board.memory import sane
from unpd.kernel.clock import since_boot_ns
from unpd.loop import now
from unpd.master.runtime import Runtime
from unpd.names import METRICS


def record(runtime: Runtime) -> None:
    """Take a sample if one is due."""
    now_ns = since_boot_ns()
    if not runtime.history.due(now_ns):
        return
    names = runtime.columns.services.by_name
    runtime.counts.take(runtime.columns.services)
    opened, totals = runtime.counts.active.by_service, runtime.counts.totals
    _write_peaks(runtime, opened)
    counts = {figure: sums for figure, sums in totals.services.items() if figure in NAMES}
    services = {
        column: Figures(**dict(zip(counts, of_column, strict=True)))
        for column, of_column in enumerate(zip(*counts.values(), strict=True))
    }
    queued = _queued(runtime)
    for name, column in names.items():
        services[column] = replace(services[column], open=opened[name], queued=queued.get(name, 0))
    lags = {figure: number for figure, (number,) in totals.rows.items()}
    runtime.history.write(now_ns, replace(sum_of(services.values()), **lags), services)


def _write_peaks(runtime: Runtime, opened: Mapping[str, int]) -> None:
    """Write the peak of each service."""
    columns = runtime.columns.services.by_name
    for name, peak in runtime.peaks.take(opened, now()).items():
        runtime.board.words[Master.CONNECTION_PEAKS + columns[name]] = peak


def sum_of(parts: Iterable[Figures]) -> Figures:
    """The sums of all figures."""
    every = list(parts)
    names = [each.name for each in fields(Figures)]
    return Figures(**{name: sum(getattr(part, name) for part in every) for name in names})


def _queued(runtime: Runtime) -> dict[str, int]:
    """How many clients wait in the accept queues of each service, as sampled before."""
    queued: dict[str, int] = {}
    for key, listener in runtime.deployment.listeners.opened.items():
        if (service := listener.wanted.service) != METRICS:
            word = Master.LISTEN_QUEUES + 2 * runtime.columns.listeners.column(key)
            queued[service] = queued.get(service, 0) + sane(runtime.board.words[word])
    return queued
