"""The log events about redirects and their targets.

Owns their names and fields. Called by :mod:`unpd.log_events.table`.
"""

from unpd.log_events.row import LogEvent

ROWS: tuple[LogEvent, ...] = (
    LogEvent(
        "target.failed",
        "warning",
        ("service", "target", "reason", "retry_in_s"),
        "No connection could be made to a target of a redirect, for `reason`; while another one"
        " can be reached, clients of this worker are not sent there for `retry_in_s`.",
        "Look at the target; `unpd_target_connect_failures_total` counts its failures by errno.",
    ),
    LogEvent(
        "target.back",
        "info",
        ("service", "target"),
        "A connection to a target of a redirect was made again.",
    ),
    LogEvent(
        "redirect.no_target",
        "warning",
        ("service", "peer", "suppressed"),
        "A client was reset because none of the targets could be reached; each redirect of a worker"
        " has one such line a second at most, which left out `suppressed` since the one before it.",
        "Look for the lines `target.failed` before it.",
    ),
)
"""In the order of the manual page."""
