"""The metrics of the daemon as a whole, its configuration and its main process.

Owns their names, labels and helps. Called by :mod:`unpd.metrics.catalog.table`.
"""

import platform

from unpd.board import layout
from unpd.board.layout import Master
from unpd.metrics.catalog.row import Counter, Gauge, Info, Metric, Series, sampled, word
from unpd.metrics.reading import Reading


def _faults(reading: Reading) -> Series[float]:
    return (
        ((fault.value,), reading.master[Master.FAULTS + index])
        for index, fault in enumerate(layout.FAULTS)
    )


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


ROWS: tuple[Metric, ...] = (
    Gauge(
        "unpd_degraded",
        ("reason",),
        "1 while the daemon is degraded for this reason, else 0; sampled once a second.",
        _faults,
    ),
    Gauge(
        "unpd_master_heartbeat_age_seconds",
        (),
        "Time since the master's last heartbeat, one a second; it grows while the master is"
        " stopped or hung.",
        _beat_age,
    ),
    Counter(
        "unpd_kernel_listen_overflows_total",
        (),
        "Times that the kernel dropped a client because an accept queue was full, while the daemon"
        " ran; of all listeners in its network namespace, also those of other programs.",
        word(Master.LISTEN_OVERFLOWS),
    ),
    Counter(
        "unpd_kernel_listen_drops_total",
        (),
        "Times that the kernel dropped a client of a listener, for that or any other reason; as in"
        " unpd_kernel_listen_overflows_total.",
        word(Master.LISTEN_DROPS),
    ),
    Gauge(
        "unpd_denied_addresses",
        (),
        "Networks, and single addresses, that operators and sensors deny now.",
        word(Master.DENIALS),
    ),
    Counter(
        "unpd_sensor_reports_lost_total",
        (),
        "Clients of sensors that were not denied because too many came; each is denied when it"
        " comes again.",
        word(Master.REPORTS_LOST),
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
        word(Master.LAST_RELOAD_OK),
    ),
    Gauge(
        "unpd_config_last_reload_success_timestamp_seconds",
        (),
        "When the configuration was last loaded with success, in seconds since the epoch.",
        word(Master.LAST_RELOAD_WALL_NS, layout.NS),
    ),
    Gauge(
        "unpd_generation",
        (),
        "The generation of the configuration in use; it goes up at each reload.",
        word(Master.GENERATION),
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
        word(Master.START_WALL_NS, layout.NS),
    ),
    Counter(
        "process_cpu_seconds_total",
        (),
        "User and system CPU time of the master.",
        word(Master.CPU_NS, layout.NS),
    ),
    Gauge(
        "process_resident_memory_bytes",
        (),
        "Resident memory of the master.",
        sampled(Master.RESIDENT_BYTES),
    ),
    Gauge(
        "process_virtual_memory_bytes",
        (),
        "Virtual memory of the master.",
        sampled(Master.VIRTUAL_BYTES),
    ),
    Gauge(
        "process_open_fds",
        (),
        "Open file descriptors of the master.",
        sampled(Master.OPEN_FDS),
    ),
    Gauge(
        "process_max_fds",
        (),
        "Limit of the master's open file descriptors.",
        sampled(Master.MAX_FDS),
    ),
    Gauge(
        "process_start_time_seconds",
        (),
        "When the master started, in seconds since the epoch.",
        word(Master.START_WALL_NS, layout.NS),
    ),
)
"""In the order of the exposition."""
