"""The metrics of programs: how they ended, how long they ran, and what they used.

Owns their names, labels and helps. Called by :mod:`unpd.metrics.catalog.table`.
"""

from collections.abc import Callable, Iterator

from unpd.board import layout
from unpd.metrics.catalog.row import Counter, Gauge, Histogram, Metric, Series, Value
from unpd.metrics.reading import ProgramCounts, Reading
from unpd.names import PROGRAM_KINDS


def _services(reading: Reading) -> Iterator[tuple[str, ProgramCounts]]:
    """The services of programs: those of the configuration, and those that were."""
    for service in reading.services:
        servers = reading.labels.served_by.get(service.name, frozenset())
        if any(service.programs.ended) or any(server.kind in PROGRAM_KINDS for server in servers):
            yield service.name, service.programs


def _per_service(value: Callable[[ProgramCounts], Value]) -> Callable[[Reading], Series[Value]]:
    """One series for each service of programs."""
    return lambda reading: (((name,), value(programs)) for name, programs in _services(reading))


def _ended(reading: Reading) -> Series[float]:
    return (
        ((name, result.value), count)
        for name, programs in _services(reading)
        for result, count in zip(layout.PROGRAM_RESULTS, programs.ended, strict=True)
    )


ROWS: tuple[Metric, ...] = (
    Counter(
        "unpd_programs_ended_total",
        ("service", "result"),
        "Programs that served a connection and have ended, by result.",
        _ended,
    ),
    Histogram(
        "unpd_program_seconds",
        ("service",),
        "How long programs ran.",
        _per_service(lambda programs: programs.durations),
    ),
    Counter(
        "unpd_program_cpu_seconds_total",
        ("service",),
        "Processor time of programs that have ended, with that of the children that they waited"
        " for.",
        _per_service(lambda programs: programs.cpu_ns / layout.NS),
    ),
    Gauge(
        "unpd_program_peak_memory_bytes",
        ("service",),
        "Peak resident memory of the program that had the most, but not less than that of the"
        " launcher that forked it.",
        _per_service(lambda programs: programs.peak_bytes),
    ),
)
"""In the order of the exposition."""
