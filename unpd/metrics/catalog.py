"""The one table of metrics: name, type, labels, help, and where a reading holds the
values.

Owns: the table. The collector walks it; the manual page and the tests read it, because
the names are public interface. Every label value of a fixed set is shown from the
start, with 0, so that rate() sees the first event. No label ever holds anything that a
peer sent. Calls nothing but the reading that it is given, and raises nothing.
"""

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from unpd.board import layout
from unpd.board.layout import Master
from unpd.metrics.reading import Distribution, Reading, ServiceCounts
from unpd.names import ACCEPT_ERRNOS

Value = TypeVar("Value", float, Distribution)
Series = Iterable[tuple[tuple[str, ...], Value]]
"""A metric's series: the label values of each, in the order of the row's labels, and
its value.
"""


@dataclass(frozen=True, slots=True)
class MetricRow(Generic[Value]):
    """One metric. ``name``: as in the exposition. ``series`` finds its series in a
    reading.
    """

    name: str
    labels: tuple[str, ...]
    help: str
    series: Callable[[Reading], Series[Value]]


class Counter(MetricRow[float]):
    """Goes up for as long as the master lives."""


class Gauge(MetricRow[float]):
    """Goes up and down."""


class Info(MetricRow[float]):
    """Is always 1; the labels hold the content."""


class Histogram(MetricRow[Distribution]):
    """Counts observations by size, and sums them."""


def _word(at: int, scale: int = 1) -> Callable[[Reading], Series[float]]:
    """A single series: a word of the master area, divided by ``scale``."""

    def series(reading: Reading) -> Series[float]:
        value = reading.master[at]
        yield (), value if scale == 1 else value / scale

    return series


def _sampled(at: int, scale: int = 1) -> Callable[[Reading], Series[float]]:
    """As :func:`_word`, but no series while the word is 0: the master could not take
    the sample, as without /proc.
    """
    word = _word(at, scale)
    return lambda reading: word(reading) if reading.master[at] else ()


def _per_service(value: Callable[[ServiceCounts], Value]) -> Callable[[Reading], Series[Value]]:
    """One series for each service."""

    def series(reading: Reading) -> Series[Value]:
        return (((service.name,), value(service)) for service in reading.services)

    return series


def _ended(reading: Reading) -> Series[float]:
    return (
        ((service.name, cause.value), count)
        for service in reading.services
        for cause, count in zip(layout.END_CAUSES, service.ended, strict=True)
    )


def _accept_errors(reading: Reading) -> Series[float]:
    return (
        ((service.name, errno), count)
        for service in reading.services
        for errno, count in zip(ACCEPT_ERRNOS, service.accept_errors, strict=True)
    )


def _unanswered(reading: Reading) -> Series[float]:
    return (
        ((service.name, reason.value), count)
        for service in reading.services
        for reason, count in zip(layout.UNANSWERED, service.datagrams.unanswered, strict=True)
    )


def _kernel_drops(reading: Reading) -> Series[float]:
    return (
        ((service,), reading.master[Master.KERNEL_DROPS + column])
        for service, column in reading.labels.services
    )


def _queue(offset: int) -> Callable[[Reading], Series[float]]:
    """One series for each TCP listener: the length of its accept queue (offset 0) or
    the limit of it (offset 1).
    """

    def series(reading: Reading) -> Series[float]:
        for listener in reading.labels.listeners:
            if listener.is_tcp:
                yield (
                    (listener.service, listener.address),
                    reading.master[Master.LISTEN_QUEUES + 2 * listener.column + offset],
                )

    return series


def _workers(reading: Reading) -> Series[float]:
    return (
        ((pool, phase.value), reading.workers.get((column, phase), 0))
        for pool, column in reading.labels.pools
        for phase in layout.PHASES
    )


def _wanted_workers(reading: Reading) -> Series[float]:
    return (
        ((pool,), reading.master[Master.WANTED_WORKERS + column])
        for pool, column in reading.labels.pools
    )


def _faults(reading: Reading) -> Series[float]:
    return (
        ((fault.value,), reading.master[Master.FAULTS + index])
        for index, fault in enumerate(layout.FAULTS)
    )


def _spawns(reading: Reading) -> Series[float]:
    return (
        ((pool,), reading.master[Master.SPAWNS + column]) for pool, column in reading.labels.pools
    )


def _reaped(reading: Reading) -> Series[float]:
    pairs = ((kind.value, reason.value) for kind in layout.KINDS for reason in layout.REAP_REASONS)
    return ((pair, reading.master[Master.REAPED + index]) for index, pair in enumerate(pairs))


def _reap_delay(reading: Reading) -> Series[Distribution]:
    counts = reading.master[
        Master.REAP_BUCKETS : Master.REAP_BUCKETS + len(layout.REAP_BOUNDS_S) + 1
    ]
    yield (), Distribution(layout.REAP_BOUNDS_S, counts, reading.master[Master.REAP_SUM_NS])


def _zombies(reading: Reading) -> Series[float]:
    """No sample where /proc hides the master's children: 0 would be a lie."""
    return () if reading.zombies is None else (((), reading.zombies),)


def _beat_age(reading: Reading) -> Series[float]:
    """No sample before the first heartbeat."""
    return () if reading.beat_age_s is None else (((), reading.beat_age_s),)


def _reloads(reading: Reading) -> Series[float]:
    return (
        ((result.value,), reading.master[Master.RELOADS + index])
        for index, result in enumerate(layout.RELOAD_RESULTS)
    )


def _log_lines_dropped(reading: Reading) -> Series[float]:
    yield (), reading.log_lines_dropped


def _build(reading: Reading) -> Series[float]:
    yield (reading.labels.version, platform.python_version()), 1


METRICS: tuple[Counter | Gauge | Info | Histogram, ...] = (
    Counter(
        "unpd_connections_accepted_total",
        ("service",),
        "Connections accepted.",
        _per_service(lambda service: service.accepted),
    ),
    Gauge(
        "unpd_connections_active",
        ("service",),
        "Connections open now: accepted and not ended.",
        _per_service(lambda service: service.active),
    ),
    Counter(
        "unpd_connections_ended_total",
        ("service", "cause"),
        "Connections that ended, by cause.",
        _ended,
    ),
    Histogram(
        "unpd_connection_duration_seconds",
        ("service",),
        "How long connections lasted, from accept to end, without those that a dead worker left.",
        _per_service(lambda service: service.durations),
    ),
    Counter(
        "unpd_received_bytes_total",
        ("service",),
        "Bytes received from clients.",
        _per_service(lambda service: service.received_bytes),
    ),
    Counter(
        "unpd_sent_bytes_total",
        ("service",),
        "Bytes that the kernel accepted for clients.",
        _per_service(lambda service: service.sent_bytes),
    ),
    Counter(
        "unpd_accept_errors_total",
        ("service", "errno"),
        "Errors of accept(2), by errno.",
        _accept_errors,
    ),
    Counter(
        "unpd_datagrams_received_total",
        ("service",),
        "Datagrams received.",
        _per_service(lambda service: service.datagrams.received),
    ),
    Counter(
        "unpd_datagrams_sent_total",
        ("service",),
        "Datagrams that the kernel accepted as answers.",
        _per_service(lambda service: service.datagrams.sent),
    ),
    Counter(
        "unpd_datagrams_unanswered_total",
        ("service", "reason"),
        "Datagrams received that got no answer, by reason.",
        _unanswered,
    ),
    Counter(
        "unpd_datagram_received_bytes_total",
        ("service",),
        "Bytes in the datagrams received, without headers.",
        _per_service(lambda service: service.datagrams.received_bytes),
    ),
    Counter(
        "unpd_datagram_sent_bytes_total",
        ("service",),
        "Bytes in the datagrams sent, without headers.",
        _per_service(lambda service: service.datagrams.sent_bytes),
    ),
    Counter(
        "unpd_datagram_receive_errors_total",
        ("service",),
        "Errors that a datagram socket returned in the place of a datagram.",
        _per_service(lambda service: service.datagrams.receive_errors),
    ),
    Counter(
        "unpd_datagram_kernel_drops_total",
        ("service",),
        "Datagrams that the kernel dropped before a worker read them, most often because the"
        " socket's buffer was full; sampled once a second.",
        _kernel_drops,
    ),
    Gauge(
        "unpd_listen_queue_length",
        ("service", "listener"),
        "Connections waiting in a TCP listener's accept queue, sampled once a second.",
        _queue(0),
    ),
    Gauge(
        "unpd_listen_queue_limit",
        ("service", "listener"),
        "Limit of a TCP listener's accept queue.",
        _queue(1),
    ),
    Gauge(
        "unpd_workers", ("pool", "state"), "Workers that are not reaped yet, by state.", _workers
    ),
    Gauge(
        "unpd_workers_wanted",
        ("pool",),
        "Workers that the pool should have, by the configuration and SIGTTIN or SIGTTOU.",
        _wanted_workers,
    ),
    Gauge(
        "unpd_degraded",
        ("reason",),
        "1 while the daemon is degraded for this reason, else 0; sampled once a second.",
        _faults,
    ),
    Counter(
        "unpd_worker_spawns_total",
        ("pool",),
        "Workers spawned and respawned.",
        _spawns,
    ),
    Counter(
        "unpd_children_reaped_total",
        ("kind", "reason"),
        "Children of the master that were reaped, by how they ended.",
        _reaped,
    ),
    Counter(
        "unpd_unknown_children_reaped_total",
        (),
        "Reaped processes that the master had not forked: orphans that came to it.",
        _word(Master.UNKNOWN_REAPED),
    ),
    Gauge(
        "unpd_zombies",
        (),
        "Children of the master that are dead and not reaped at this moment; absent where /proc"
        " hides them.",
        _zombies,
    ),
    Histogram(
        "unpd_reap_delay_seconds",
        (),
        "Time from a child's last act to its reaping, without children that were killed.",
        _reap_delay,
    ),
    Counter(
        "unpd_sigchld_total",
        (),
        "Runs of the SIGCHLD handler; one run can reap many children.",
        _word(Master.SIGCHLD),
    ),
    Counter(
        "unpd_fork_failures_total",
        (),
        "Forks that the kernel refused.",
        _word(Master.FORK_FAILURES),
    ),
    Gauge(
        "unpd_master_heartbeat_age_seconds",
        (),
        "Time since the master's last heartbeat, one a second; it grows while the master is"
        " stopped or hung.",
        _beat_age,
    ),
    Counter(
        "unpd_config_reloads_total",
        ("result",),
        "Reloads of the configuration, by result.",
        _reloads,
    ),
    Gauge(
        "unpd_config_last_reload_successful",
        (),
        "1 if the last load of the configuration succeeded, else 0.",
        _word(Master.LAST_RELOAD_OK),
    ),
    Gauge(
        "unpd_config_last_reload_success_timestamp_seconds",
        (),
        "When the configuration was last loaded with success, in seconds since the epoch.",
        _word(Master.LAST_RELOAD_WALL_NS, layout.NS),
    ),
    Gauge(
        "unpd_generation",
        (),
        "The generation of the configuration in use; it goes up at each reload.",
        _word(Master.GENERATION),
    ),
    Counter(
        "unpd_log_lines_dropped_total",
        (),
        "Log lines dropped by master and children because the log was full or gone.",
        _log_lines_dropped,
    ),
    Info(
        "unpd_build_info",
        ("version", "python"),
        "The running version of unpd and of Python; always 1.",
        _build,
    ),
    Gauge(
        "unpd_start_time_seconds",
        (),
        "When the master started, in seconds since the epoch.",
        _word(Master.START_WALL_NS, layout.NS),
    ),
    Counter(
        "process_cpu_seconds_total",
        (),
        "User and system CPU time of the master.",
        _word(Master.CPU_NS, layout.NS),
    ),
    Gauge(
        "process_resident_memory_bytes",
        (),
        "Resident memory of the master.",
        _sampled(Master.RESIDENT_BYTES),
    ),
    Gauge(
        "process_virtual_memory_bytes",
        (),
        "Virtual memory of the master.",
        _sampled(Master.VIRTUAL_BYTES),
    ),
    Gauge(
        "process_open_fds",
        (),
        "Open file descriptors of the master.",
        _sampled(Master.OPEN_FDS),
    ),
    Gauge(
        "process_max_fds",
        (),
        "Limit of the master's open file descriptors.",
        _sampled(Master.MAX_FDS),
    ),
    Gauge(
        "process_start_time_seconds",
        (),
        "When the master started, in seconds since the epoch.",
        _word(Master.START_WALL_NS, layout.NS),
    ),
)
