"""The log events about programs (services of type exec).

Owns their names and fields. Called by :mod:`unpd.log_events.table`.
"""

from unpd.log_events.row import LogEvent

ROWS: tuple[LogEvent, ...] = (
    LogEvent(
        "program.not_started",
        "error",
        ("service", "peer", "step", "reason", "suppressed", "path", "user"),
        "The program of one connection could not be started, because the kernel refused `step` for"
        " `reason`, and the client got nothing; the line left out `suppressed` since the one"
        " before, and names the program or directory `path` if it was refused to `user`.",
        "Compare the keys of the service with the rights of `user`; a `path` that is there may be"
        " hidden by the sandbox of the unit.",
        optional=("path", "user"),
    ),
    LogEvent(
        "program.failed",
        "warning",
        (
            "service",
            "session_pid",
            "peer",
            "ended",
            "result",
            "duration_s",
            "suppressed",
            "last_line",
        ),
        "The program of one connection ended with another exit code than 0, or by a signal that"
        " unpd did not send; `last_line` is the last line of its standard error, where"
        " `stderr` is `log`, and `suppressed` lines were left out since the one before.",
        "Look at `ended` and `last_line`, and for the exit codes in the manual of the program.",
        optional=("last_line",),
    ),
    LogEvent(
        "function.raised",
        "error",
        ("service", "session_pid", "peer", "error", "duration_s", "suppressed", "trace"),
        "The function of a service raised `error`, which ended one connection; `trace` is the end"
        " of its traceback, and the line left out `suppressed` others since the one before it.",
        "Look at the file and the line in `trace`.",
    ),
    LogEvent(
        "program.terminated",
        "debug",
        ("service", "session_pid", "peer", "cause", "kill_in_s"),
        "The process group of a program got SIGTERM for `cause`, one of those of the metric"
        " `unpd_connections_ended_total`; what is left of it is killed after `kill_in_s`.",
    ),
    LogEvent(
        "program.killed",
        "warning",
        ("service", "session_pid", "peer", "suppressed"),
        "A program did not end within `kill_after_s` after SIGTERM, and its process group was"
        " killed; the line left out `suppressed` since the one before.",
        "If that happens again and again, raise `services.NAME.kill_after_s`, or look why the"
        " program ignores SIGTERM.",
    ),
    LogEvent(
        "program.stderr",
        "info",
        ("service", "session_pid", "text", "suppressed"),
        "A program, or a process that it started, wrote a line to its standard error; a service"
        " has at most 100 such lines a second, and this one left out `suppressed` since the one"
        " before; `session_pid` is the program as far as it is known: a writer that has ended"
        " counts as one of the only program that runs, and stands for itself if there are several.",
    ),
    LogEvent(
        "program.stderr_renewed",
        "warning",
        ("service", "suppressed"),
        "A program has shut down its standard error, a socket that it shared with the other"
        " programs of its service; those that run get SIGPIPE at their next line, those that begin"
        " from now on have a new one, and the line left out `suppressed` since the one before.",
        "Find the program that calls shutdown(2) for descriptor 2, and restart those of its"
        " service that have to log.",
    ),
)
"""In the order of the manual page."""
