"""Makes the dashboard for Grafana, monitoring/dashboard.json, from the catalogue of
metrics. Run by ``make dashboard``; a test compares the file with it.

:data:`SECTIONS` says which metrics each panel shows, and by which of their labels.
grafana.py beside this module turns that into JSON.

The dashboard needs Grafana 9 or later. It finds its Prometheus, the instances and the
services by variables, so that nobody has to edit it. Errors: those of grafana.py.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grafana import CATALOG, RATE, Panel, Query, Steps, dashboard, selected

PLACE = Path(__file__).parent / "monitoring/dashboard.json"

ANY_IS_BAD: Steps = ((0, "green"), (1, "red"))
NEAR_LIMIT: Steps = ((0, "green"), (0.8, "orange"), (0.95, "red"))
LATE: Steps = ((0, "green"), (3, "orange"), (10, "red"))


def stat(title: str, expr: str, description: str, **more: Any) -> Panel:
    """One figure that is computed, at the top of the dashboard."""
    query = Query("", expr=expr, name=more.pop("name", ""))
    return Panel(title, (query,), kind="stat", width=4, description=description, **more)


def shown(metric: str, *by: str, title: str, **more: Any) -> Panel:
    """One metric over time, by these labels."""
    return Panel(title, (Query(metric, by),), **more)


_UP = (
    'min(up{instance=~"$instance"} and on (job, instance)'
    " last_over_time(unpd_start_time_seconds[30d]))"
)
_ALERTS = (
    'count(ALERTS{alertname=~"Unpd.+", alertstate="firing", instance=~"$instance"}) or vector(0)'
)
OVERVIEW = (
    stat(
        "State",
        _UP,
        "Whether every chosen instance answers Prometheus.",
        unit="short",
        steps=((0, "red"), (1, "green")),
        words=(("0", "down"), ("1", "up")),
    ),
    stat(
        "Degraded",
        f"sum({selected('unpd_degraded')})",
        "How many faults stand now; the section Daemon names them.",
        unit="short",
        steps=ANY_IS_BAD,
        words=(("0", "no"),),
    ),
    stat(
        "Alerts",
        _ALERTS,
        "How many alerts of unpd's rules fire, if Prometheus has them.",
        unit="short",
        steps=ANY_IS_BAD,
    ),
    stat(
        "Heartbeat of the master",
        f"max({selected('unpd_master_heartbeat_age_seconds')})",
        "Time since the last heartbeat, one a second.",
        unit="s",
        steps=LATE,
    ),
    stat(
        "Up since",
        f"max(time() - {selected('unpd_start_time_seconds')})",
        "The time since the start; of several instances, the longest.",
        unit="dtdurations",
    ),
    stat(
        "Last reload",
        f"min({selected('unpd_config_last_reload_successful')})",
        "Whether the last load of the configuration succeeded.",
        unit="short",
        steps=((0, "red"), (1, "green")),
        words=(("0", "refused"), ("1", "succeeded")),
    ),
    stat(
        "Open connections",
        f"sum({selected('unpd_connections_active')})",
        "Connections open now.",
        unit="short",
    ),
    stat(
        "Accepted",
        f"sum(rate({selected('unpd_connections_accepted_total')}[{RATE}]))",
        "Connections accepted each second.",
        unit="suffix: /s",
    ),
    stat(
        "Refused",
        f"sum(rate({selected('unpd_refused_total')}[{RATE}]))",
        "Connections and datagrams refused each second.",
        unit="suffix: /s",
        steps=((0, "green"), (0.01, "orange")),
    ),
    stat(
        "Nearest to its limit",
        "max({} / {})".format(
            selected("unpd_connections_peak"), selected("unpd_connections_limit")
        ),
        "Of the services with a limit of connections, the one nearest to it in the last minute.",
        unit="percentunit",
        steps=NEAR_LIMIT,
    ),
    stat(
        "Fullest accept queue",
        "max({} / ({} > 0))".format(
            selected("unpd_listen_queue_length"), selected("unpd_listen_queue_limit")
        ),
        "At 100 % the kernel drops new clients.",
        unit="percentunit",
        steps=NEAR_LIMIT,
    ),
    stat(
        "Zombies",
        f"max({selected('unpd_zombies')})",
        CATALOG["unpd_zombies"].help,
        unit="short",
        steps=ANY_IS_BAD,
    ),
)
CONNECTIONS = (
    Panel(
        "Connections: open, peak, limit",
        (
            Query("unpd_connections_active", ("service",), "open"),
            Query("unpd_connections_peak", ("service",), "peak"),
            Query("unpd_connections_limit", ("service",), "limit", dashed=True),
        ),
    ),
    shown("unpd_connections_accepted_total", "service", title="Accepted"),
    shown("unpd_refused_total", "service", "reason", title="Refused, by reason", stacked=True),
    shown("unpd_connections_ended_total", "cause", title="Ended, by cause", stacked=True),
    Panel(
        "Accept queue and its limit",
        (
            Query("unpd_listen_queue_length", ("instance", "listener")),
            Query("unpd_listen_queue_limit", ("instance", "listener"), "limit", dashed=True),
        ),
    ),
    Panel(
        "Bytes",
        (
            Query("unpd_received_bytes_total", ("service",), "received"),
            Query("unpd_sent_bytes_total", ("service",), "sent"),
        ),
    ),
    shown("unpd_connection_duration_seconds", title="How long connections lasted"),
    shown("unpd_connection_rtt_seconds", "service", title="Round-trip time to clients"),
    shown("unpd_retransmitted_segments_total", "service", title="Segments sent to clients again"),
    shown("unpd_oldest_connection_seconds", "service", title="Age of the oldest connection"),
    Panel(
        "Clients dropped by the kernel",
        (
            Query("unpd_kernel_listen_overflows_total", ("instance",), "queue full"),
            Query("unpd_kernel_listen_drops_total", ("instance",), "all"),
        ),
    ),
    shown("unpd_service_halted", "service", title="Halted by an operator"),
    shown("unpd_accept_errors_total", "service", "errno", title="Errors of accept"),
    shown("unpd_would_refuse_total", "service", "reason", title="Would be refused (observed)"),
)
ACCESS = (
    shown("unpd_proxy_headers_total", "service", "result", title="Headers of load balancers"),
    Panel(
        "Denied and counted sources",
        (
            Query("unpd_denied_addresses", (), "denied addresses"),
            Query("unpd_sources_tracked", (), "counted sources"),
        ),
    ),
    shown("unpd_sensor_reports_lost_total", "instance", title="Reports of sensors lost"),
)
DATAGRAMS = (
    Panel(
        "Datagrams",
        (
            Query("unpd_datagrams_received_total", ("service",), "received"),
            Query("unpd_datagrams_sent_total", ("service",), "sent"),
        ),
    ),
    shown(
        "unpd_datagrams_unanswered_total",
        "service",
        "reason",
        title="Not answered, by reason",
        stacked=True,
    ),
    Panel(
        "Bytes of datagrams",
        (
            Query("unpd_datagram_received_bytes_total", ("service",), "received"),
            Query("unpd_datagram_sent_bytes_total", ("service",), "sent"),
        ),
    ),
    shown("unpd_datagram_kernel_drops_total", "service", title="Dropped by the kernel", width=12),
    shown("unpd_datagram_receive_errors_total", "service", title="Errors of sockets", width=12),
)
PROGRAMS = (
    shown(
        "unpd_programs_ended_total",
        "service",
        "result",
        title="Programs ended, by result",
        stacked=True,
    ),
    shown("unpd_program_seconds", "service", title="How long programs ran"),
    shown("unpd_program_cpu_seconds_total", "service", title="Processor time of programs"),
    shown("unpd_program_peak_memory_bytes", "service", title="Peak memory of a program"),
    shown("unpd_session_processes_spawned_total", "service", title="Session processes forked"),
    shown(
        "unpd_session_processes_reaped_total",
        "service",
        "reason",
        title="Session processes reaped",
        stacked=True,
    ),
    shown("unpd_target_connections_total", "service", "target", title="Connections to targets"),
    shown(
        "unpd_target_connect_failures_total",
        "service",
        "target",
        "errno",
        title="Failed connects to targets",
    ),
    shown("unpd_session_fork_failures_total", "service", title="Failed forks of sessions"),
)
CHILDREN = (
    Panel(
        "Children, and how many should be ready",
        (
            Query("unpd_workers", ("kind", "pool", "state")),
            Query("unpd_workers_wanted", ("kind", "pool"), "wanted", dashed=True),
        ),
    ),
    shown("unpd_worker_spawns_total", "instance", "pool", title="Workers spawned and respawned"),
    shown(
        "unpd_children_reaped_total",
        "kind",
        "reason",
        title="Children reaped, by reason",
        stacked=True,
    ),
    shown("unpd_worker_busy_ratio", "instance", "pool", title="How busy the workers are"),
    shown("unpd_loop_lag_seconds", "kind", title="Longest turn of a loop"),
    shown("unpd_zombies", "instance", title="Zombies"),
    shown("unpd_reap_delay_seconds", title="Time to the reaping"),
    Panel(
        "Forks refused, strangers reaped, SIGCHLD",
        (
            Query("unpd_fork_failures_total", ("instance",), "forks refused"),
            Query("unpd_unknown_children_reaped_total", ("instance",), "strangers reaped"),
            Query("unpd_sigchld_total", ("instance",), "SIGCHLD"),
        ),
    ),
)
DAEMON = (
    Panel(
        "Degraded, by reason",
        (Query("unpd_degraded", ("instance", "reason")),),
        kind="state-timeline",
        width=12,
        steps=ANY_IS_BAD,
        words=(("0", "no"), ("1", "yes")),
    ),
    shown("unpd_config_reloads_total", "instance", "result", title="Reloads", width=6),
    shown("unpd_log_lines_dropped_total", "instance", title="Log lines lost", width=6),
    shown("process_cpu_seconds_total", "instance", title="Processor time of the master", width=6),
    Panel(
        "Memory of the master",
        (Query("process_resident_memory_bytes", ("instance",), "resident"),),
        width=6,
    ),
    Panel(
        "Open files of the master",
        (
            Query("process_open_fds", ("instance",), "open"),
            Query("process_max_fds", ("instance",), "limit", dashed=True),
        ),
        width=6,
    ),
    shown(
        "unpd_master_heartbeat_age_seconds",
        "instance",
        title="Age of the master's heartbeat",
        width=6,
        steps=LATE,
    ),
    Panel(
        "Versions, generations, last good reload",
        (
            Query("", expr=selected("unpd_build_info")),
            Query("", expr=selected("unpd_generation")),
            Query(
                "", expr=f"{selected('unpd_config_last_reload_success_timestamp_seconds')} * 1000"
            ),
        ),
        kind="table",
        width=24,
        unit="short",
        description="The running version of unpd and of Python, and the configuration in use.",
    ),
)
SECTIONS: tuple[tuple[str, Sequence[Panel]], ...] = (
    ("", OVERVIEW),
    ("Connections", CONNECTIONS),
    ("Access", ACCESS),
    ("Datagrams", DATAGRAMS),
    ("Programs, sessions and redirects", PROGRAMS),
    ("Children", CHILDREN),
    ("Daemon", DAEMON),
)
"""The sections with their titles, from the top. The first has no line of its own."""
LEFT_OUT = {
    "process_virtual_memory_bytes": "Python reserves much that it never uses",
    "process_start_time_seconds": "the same as unpd_start_time_seconds",
}
"""The metrics that no panel shows, and why."""


def text() -> str:
    """The content of the file."""
    return json.dumps(dashboard(SECTIONS), indent=2) + "\n"


def main() -> None:
    """Write the file anew."""
    PLACE.write_text(text())


if __name__ == "__main__":
    main()
