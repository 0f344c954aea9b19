"""The metrics of services: connections, datagrams, and the queues of listeners.

Owns their names, labels and helps. Called by :mod:`unpd.metrics.catalog.table`.
"""

from collections.abc import Callable

from unpd.board import layout
from unpd.board.layout import Master
from unpd.metrics.catalog.row import Counter, Gauge, Histogram, Metric, Series, Value
from unpd.metrics.reading import Reading, ServiceCounts
from unpd.names import ACCEPT_ERRNOS, METRICS, RefusalReason


def per_service(value: Callable[[ServiceCounts], Value]) -> Callable[[Reading], Series[Value]]:
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


def _refused(reading: Reading) -> Series[float]:
    for service in reading.services:
        for reason, count in zip(layout.REFUSAL_REASONS, service.refused, strict=True):
            yield (service.name, reason.value), count
    yield (METRICS, RefusalReason.ALLOW.value), reading.readers_refused


def _would_refuse(reading: Reading) -> Series[float]:
    return (
        ((service.name, reason.value), count)
        for service in reading.services
        for reason, count in zip(layout.REFUSAL_REASONS, service.would_refuse, strict=True)
    )


def _proxy_headers(reading: Reading) -> Series[float]:
    return (
        ((service.name, result.value), count)
        for service in reading.services
        for result, count in zip(layout.HEADER_RESULTS, service.proxy_headers, strict=True)
    )


def _sessions_reaped(reading: Reading) -> Series[float]:
    return (
        ((service.name, reason.value), count)
        for service in reading.services
        for reason, count in zip(layout.REAP_REASONS, service.sessions.reaped, strict=True)
    )


def _kernel_drops(reading: Reading) -> Series[float]:
    return (
        ((service,), reading.master[Master.KERNEL_DROPS + column])
        for service, column in reading.labels.services
    )


def _peaks(reading: Reading) -> Series[float]:
    return (
        ((service,), reading.master[Master.CONNECTION_PEAKS + column])
        for service, column in reading.labels.services
    )


def _limits(reading: Reading) -> Series[float]:
    """No sample of a service without a limit."""
    return (
        ((service,), limit)
        for service, column in reading.labels.services
        if (limit := reading.master[Master.LIMITS + column])
    )


def _halted(reading: Reading) -> Series[float]:
    return (
        ((service,), reading.master[Master.HALTED + column])
        for service, column in reading.labels.services
    )


def _sources_tracked(reading: Reading) -> Series[float]:
    yield (), reading.sources_tracked


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


ROWS: tuple[Metric, ...] = (
    Counter(
        "unpd_connections_accepted_total",
        ("service",),
        "Connections accepted.",
        per_service(lambda service: service.accepted),
    ),
    Gauge(
        "unpd_connections_active",
        ("service",),
        "Connections open now: accepted and not ended.",
        per_service(lambda service: service.active),
    ),
    Gauge(
        "unpd_connections_peak",
        ("service",),
        "Most connections that were open at one of the samples of the last 60 seconds, one a"
        " second.",
        _peaks,
    ),
    Gauge(
        "unpd_connections_limit",
        ("service",),
        "How many connections may be open (max_connections); absent without a limit.",
        _limits,
    ),
    Gauge(
        "unpd_service_halted",
        ("service",),
        "1 while an operator keeps new clients of the service out (unpd pause, unpd drain), else"
        " 0.",
        _halted,
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
        per_service(lambda service: service.durations),
    ),
    Histogram(
        "unpd_connection_rtt_seconds",
        ("service",),
        "Round-trip time to the client when a connection over TCP ended, smoothed by the kernel; a"
        " connection that unpd closes at once, as daytime does, knows only that of the handshake."
        " A connection that lasted a second is always asked, of shorter ones at least every"
        " eighth, which counts for those left out before it; programs are not.",
        per_service(lambda service: service.round_trips),
    ),
    Counter(
        "unpd_retransmitted_segments_total",
        ("service",),
        "Segments that the kernel sent to clients again, counted when connections over TCP end; an"
        " estimate of those that lasted less than a second, as in unpd_connection_rtt_seconds.",
        per_service(lambda service: service.retransmitted),
    ),
    Gauge(
        "unpd_oldest_connection_seconds",
        ("service",),
        "How long the oldest connection of the service is open, 0 if none is; looked for once a"
        " second, or less often with more than 1,000 connections.",
        per_service(lambda service: service.oldest_age_s),
    ),
    Counter(
        "unpd_received_bytes_total",
        ("service",),
        "Bytes received from clients.",
        per_service(lambda service: service.received_bytes),
    ),
    Counter(
        "unpd_sent_bytes_total",
        ("service",),
        "Bytes that the kernel accepted for clients.",
        per_service(lambda service: service.sent_bytes),
    ),
    Counter(
        "unpd_accept_errors_total",
        ("service", "errno"),
        "Errors of accept(2), by errno.",
        _accept_errors,
    ),
    Counter(
        "unpd_refused_total",
        ("service", "reason"),
        "Connections and datagrams refused, by reason; those to the exporter, by metrics.allow,"
        " have the service metrics.",
        _refused,
    ),
    Counter(
        "unpd_would_refuse_total",
        ("service", "reason"),
        "Connections and datagrams that were let in, because the reason to refuse them is only"
        " observed, by reason.",
        _would_refuse,
    ),
    Counter(
        "unpd_proxy_headers_total",
        ("service", "result"),
        "Headers of the PROXY protocol that load balancers had to send, by what came of them.",
        _proxy_headers,
    ),
    Counter(
        "unpd_session_processes_spawned_total",
        ("service",),
        "Processes forked for one connection each, by services that fork.",
        per_service(lambda service: service.sessions.forked),
    ),
    Counter(
        "unpd_session_processes_reaped_total",
        ("service", "reason"),
        "Such processes that have ended and were reaped, by how they ended.",
        _sessions_reaped,
    ),
    Counter(
        "unpd_session_fork_failures_total",
        ("service",),
        "Forks of such processes that the kernel refused. The connection waits for the next.",
        per_service(lambda service: service.sessions.fork_failures),
    ),
    Counter(
        "unpd_datagrams_received_total",
        ("service",),
        "Datagrams received.",
        per_service(lambda service: service.datagrams.received),
    ),
    Counter(
        "unpd_datagrams_sent_total",
        ("service",),
        "Datagrams that the kernel accepted as answers.",
        per_service(lambda service: service.datagrams.sent),
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
        per_service(lambda service: service.datagrams.received_bytes),
    ),
    Counter(
        "unpd_datagram_sent_bytes_total",
        ("service",),
        "Bytes in the datagrams sent, without headers.",
        per_service(lambda service: service.datagrams.sent_bytes),
    ),
    Counter(
        "unpd_datagram_receive_errors_total",
        ("service",),
        "Errors that a datagram socket returned in the place of a datagram.",
        per_service(lambda service: service.datagrams.receive_errors),
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
        "unpd_sources_tracked",
        (),
        "Sources of connections and datagrams that are counted for limits now, once for each child"
        " and service.",
        _sources_tracked,
    ),
)
"""In the order of the exposition."""
