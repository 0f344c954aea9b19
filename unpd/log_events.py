"""The table of log events: name, level, fields, meaning, and what the operator does.

Owns the names, levels and fields, which are public interface. :mod:`unpd.logs` takes
the level of each line from here, the tests compare every place that logs with these
rows, and ``packaging/manual.py`` prints them into unpd(8). A new event is a row here.
Imports only :mod:`unpd.names`, and raises nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from unpd.names import ChildKind

Level = Literal["debug", "info", "warning", "error"]
Field = str | int | float | bool | None
"""The types that a field of a log line may have."""

LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
"""The levels, from the least to the most severe."""

CHILD_FIELDS = ("role", "pool", "index", "pid")
"""The first fields of every line that a child logs."""

ABOUT_CHILD = ("pool", "index", "birth", "generation")
"""The first fields of most lines that the master logs about one child."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One row: an event that the master, a child or the command line logs.

    ``fields`` are in the order of the line; those in ``optional`` may be missing.
    ``meaning`` and ``what_to_do`` are one sentence each, with fields, keys and other
    names in backticks; ``what_to_do`` is "" if the operator has nothing to do. If
    ``debug_unless`` names a field, a line in which that field is false has level debug.
    """

    name: str
    level: Level
    fields: tuple[str, ...]
    meaning: str
    what_to_do: str = ""
    optional: tuple[str, ...] = ()
    debug_unless: str = ""

    def level_of(self, fields: Mapping[str, Field]) -> Level:
        """The level of a line with these fields."""
        return self.level if not self.debug_unless or fields.get(self.debug_unless) else "debug"


def _of_each_kind(
    name: str, level: Level, fields: tuple[str, ...], meaning: str, what_to_do: str = ""
) -> Iterator[LogEvent]:
    """A row for each kind of child, such as worker.ready and exporter.ready."""
    return (LogEvent(f"{kind}.{name}", level, fields, meaning, what_to_do) for kind in ChildKind)


_ROWS: tuple[LogEvent, ...] = (
    # the daemon
    LogEvent(
        "config.loaded",
        "info",
        ("source", "drop_ins"),
        "The daemon starts with this configuration file and this number of drop-ins.",
    ),
    LogEvent(
        "config.warning",
        "warning",
        ("text",),
        "The configuration is accepted, but a part of it is probably not what was meant.",
        "Correct what `text` names, then reload.",
    ),
    LogEvent(
        "service.note",
        "info",
        ("service", "text"),
        "The protocol of this service has a limit that its clients will meet.",
    ),
    LogEvent(
        "master.started",
        "info",
        ("version", "pid", "user"),
        "The main process has opened its listeners and begins to start its children.",
    ),
    LogEvent(
        "master.ready",
        "info",
        ("generation",),
        "Every service has a ready worker for the first time: the daemon serves.",
    ),
    LogEvent(
        "master.start_failed",
        "error",
        ("reason",),
        "A pool had no ready worker within `daemon.start_timeout_s`: the daemon stops.",
        "Remove the cause that `reason` and the lines before it name; on a slow machine raise"
        " `daemon.start_timeout_s`.",
    ),
    LogEvent(
        "master.refused",
        "error",
        ("reason",),
        "The daemon ends because it could not start; without a log file the command says this"
        " itself.",
        "Remove the cause that `reason` names, then start the daemon again.",
    ),
    LogEvent(
        "master.crashed",
        "error",
        ("error", "trace"),
        "A fault in unpd itself ended the main process, and its children with it.",
        "Start the daemon again if the service manager has not, and report `trace`.",
    ),
    LogEvent(
        "master.stopping",
        "info",
        ("quick", "by"),
        "A signal or the control socket asked for a stop: the listeners are closed, and a quick"
        " stop ends every connection at once.",
    ),
    LogEvent(
        "master.stopped",
        "info",
        ("code", "reason"),
        "No child is left, and the daemon ends with the exit status `code`.",
    ),
    LogEvent(
        "control.asked",
        "info",
        ("verb", "by_uid", "by_pid"),
        "The process `by_pid` of the user `by_uid` asked over the control socket for `verb`.",
    ),
    # children
    LogEvent(
        "control.refused",
        "warning",
        ("by_uid", "by_pid", "reason"),
        "The process `by_pid` of the user `by_uid` may not control the daemon.",
        "If it is a child of the daemon, it may have been taken over: find out what the process"
        " does.",
    ),
    LogEvent(
        "child.spawned",
        "debug",
        ("kind", "slot", "birth", "generation", "pid"),
        "The main process forked a child.",
    ),
    *_of_each_kind("ready", "info", ABOUT_CHILD, "The child is ready to serve."),
    *_of_each_kind(
        "failed",
        "error",
        (*ABOUT_CHILD, "reason"),
        "The child cannot serve and ends; a worker that fails at the start stops the daemon, and a"
        " failure during a reload refuses the new configuration.",
        "Remove the cause that `reason` names.",
    ),
    *_of_each_kind(
        "start_timed_out",
        "error",
        (*ABOUT_CHILD, "after_s"),
        "The child was not ready within `daemon.start_timeout_s` and is killed.",
        "Look for a lack of processor time or memory, or raise `daemon.start_timeout_s`.",
    ),
    *_of_each_kind(
        "died",
        "warning",
        (*ABOUT_CHILD, "ended", "respawn_in_s"),
        "The child ended although it is wanted; another one starts after `respawn_in_s`.",
        "If it happens again and again, look at `ended`, at the lines of the child before, and for"
        " a kill by the kernel for lack of memory.",
    ),
    *_of_each_kind(
        "hung",
        "error",
        (*ABOUT_CHILD, "kill_in_s"),
        "The child gave no sign of life for `daemon.heartbeat_timeout_s`: it is told to print its"
        " stack and is replaced.",
        "Report the stack that follows, unless the machine itself stood still.",
    ),
    *_of_each_kind(
        "crashed",
        "error",
        ("error", "trace"),
        "A fault in unpd itself ended the child; another one takes its place.",
        "Report `trace`, unless somebody shut a listener down at that moment.",
    ),
    *_of_each_kind(
        "drain_cut",
        "info",
        ABOUT_CHILD,
        "A retired child has drained for `daemon.reload_grace_s`, or eight later reloads have"
        " children that drain: its last connections end now.",
    ),
    *_of_each_kind(
        "drain_timed_out",
        "warning",
        ABOUT_CHILD,
        "The child did not end in the time that it had to drain and is killed; its connections"
        " are lost.",
        "If it happens at every stop, raise `daemon.grace_s`.",
    ),
    LogEvent(
        "child.reaped",
        "info",
        ("kind", "slot", "birth", "pid", "reason", "ended", "connections_lost"),
        "A child ended in the way that `ended` tells, and took `connections_lost` open connections"
        " with it.",
    ),
    LogEvent(
        "child.unknown",
        "debug",
        ("pid", "ended"),
        "The main process reaped an orphan that it had not forked: of a container whose process"
        " 1 it is, or of a child.",
    ),
    LogEvent(
        "channel.broken",
        "warning",
        ("birth", "pid", "reason"),
        "The channel between the main process and a child carried no message: it is closed.",
        "Report it with the lines before it: the child may have been taken over.",
        optional=("birth", "pid"),
    ),
    LogEvent(
        "fork.failed",
        "error",
        (*ABOUT_CHILD, "reason", "respawn_in_s"),
        "A child could not be forked; the next attempt follows after `respawn_in_s`.",
        "Free memory, or raise the limit of processes (`TasksMax=` of the unit, `pids.max` of the"
        " cgroup).",
    ),
    LogEvent(
        "pool.resized",
        "info",
        ("pool", "workers"),
        "A signal changed the number of workers of the pool until the next reload.",
    ),
    LogEvent(
        "pool.not_resized",
        "warning",
        ("pool", "delta", "workers"),
        "A signal asked for a number of workers that the pool cannot have.",
        "If you need another number, set `pools.NAME.workers` in the configuration and reload.",
    ),
    # reloads
    LogEvent(
        "reload.proving",
        "info",
        ("generation",),
        "The new configuration is valid, and new children start beside the old ones in the pools"
        " that it changes.",
    ),
    LogEvent(
        "reload.succeeded",
        "info",
        ("generation", "replaced"),
        "The new configuration is in use; the pools in `replaced` have new children, and their"
        " old ones drain.",
    ),
    LogEvent(
        "reload.refused",
        "error",
        ("reason", "generation"),
        "The new configuration is not in use: the daemon serves on as before, as `generation`.",
        "Correct what `reason` names, then reload.",
    ),
    # listeners and connections
    LogEvent(
        "listener.opened",
        "info",
        ("service", "address"),
        "The daemon listens on `address` for `service`; the service metrics is the exporter.",
    ),
    LogEvent(
        "listener.without_ipv6",
        "warning",
        ("service", "wanted", "address"),
        "The kernel has no IPv6: the service listens on the IPv4 `address` instead.",
        "Configure an IPv4 address if that is what you want, or enable IPv6.",
    ),
    LogEvent(
        "listener.closed",
        "info",
        ("address",),
        "The configuration names `address` no longer, and the daemon has closed it.",
    ),
    LogEvent(
        "listener.broken",
        "error",
        ("service", "address", "reason"),
        "No new client is served at `address`, and the daemon could not repair that for `reason`;"
        " it tries again every second.",
        "Remove the cause that `reason` names; the daemon logs `listener.mended` or"
        " `listener.renewed` afterwards.",
    ),
    LogEvent(
        "listener.mended",
        "warning",
        ("service", "address"),
        "Another process shut the listener down, or it was broken; clients are served at `address`"
        " again.",
        "Find out who uses `ss --kill` or shares the socket.",
    ),
    LogEvent(
        "listener.renewed",
        "warning",
        ("service", "address", "reason"),
        "No client reached the listener for `reason`, and the daemon has opened it anew; a reload"
        " with the running configuration starts the children that serve it.",
        "Find out who removes the file of the socket or the interface; exclude sockets from"
        " programs that clean directories.",
    ),
    LogEvent(
        "listener.dropped",
        "warning",
        ("item", "reason"),
        "The descriptor store of the unit had an `item` that is of no use for `reason`; the daemon"
        " removed it there, and opens the listener anew if the configuration has it.",
        "If the same line comes at each start, stop the unit once: that empties its store.",
    ),
    LogEvent(
        "control.lost",
        "error",
        ("path", "reason"),
        "The file of the control socket was removed or replaced, and cannot be made again for"
        " `reason`; the daemon tries again every second, and `unpd status`, `reload` and `stop` do"
        " not reach it.",
        "Remove the cause that `reason` names; signals reach the daemon meanwhile.",
    ),
    LogEvent(
        "control.renewed",
        "warning",
        ("path", "reason"),
        "The control socket can be reached again, after `reason`; the daemon has made a new file if"
        " it had to.",
        "Find out who removes it; exclude sockets from programs that clean directories.",
    ),
    LogEvent(
        "accept.failed",
        "warning",
        ("service", "address", "errno", "paused"),
        "A connection could not be accepted; where `paused` is true, this worker leaves the"
        " listener alone for up to a second.",
        "For EMFILE or ENFILE raise the limit of open files (`LimitNOFILE=` of the unit), for"
        " ENOBUFS or ENOMEM free memory, for EINVAL look for `listener.broken`.",
        debug_unless="paused",
    ),
    LogEvent(
        "connection.ended",
        "debug",
        ("service", "cause", "received", "sent", "duration_s", "peer"),
        "A connection ended after `received` and `sent` bytes; the causes are those of the metric"
        " `unpd_connections_ended_total`.",
    ),
    LogEvent(
        "datagram.failed",
        "error",
        ("service", "error"),
        "A service raised `error` for a datagram, which gets no answer; logged once a second at"
        " most for each socket.",
        "Report it with this line; of a service of your own, look for the fault there.",
    ),
    LogEvent(
        "connection.failed",
        "error",
        ("service", "error"),
        "A fault in unpd itself ended one connection; the worker serves on.",
        "Report `error`.",
    ),
    LogEvent(
        "exporter.http",
        "warning",
        ("message", "error", "at", "suppressed"),
        "The HTTP server of the exporter complains, mostly about a client; it left out `suppressed`"
        " messages since the last line.",
        "If scrapes fail, look at `message`, and report `error` and `at` if they are there.",
        optional=("error", "at"),
    ),
    # the log itself
    LogEvent(
        "log.reopened",
        "info",
        ("file",),
        "The main process writes to the new `file` from here on, and its children follow.",
    ),
    LogEvent(
        "log.kept",
        "info",
        ("reason",),
        "A signal asked for the log file to be reopened, but the log goes elsewhere.",
    ),
    LogEvent(
        "log.not_reopened",
        "error",
        ("file", "error", "pid"),
        "The main process, or its child `pid`, cannot write to the new `file` and goes on with the"
        " old one; the daemon is degraded until it can.",
        "Remove the cause that `error` names, then send SIGUSR1 again.",
        optional=("pid",),
    ),
    LogEvent(
        "signal.ignored",
        "warning",
        ("signal", "suppressed"),
        "A signal came that means nothing to the daemon; it left out `suppressed` lines about such"
        " signals since the last one.",
        "Find out which program sends it, and which signal it should send.",
    ),
    # the service manager
    LogEvent(
        "watchdog.withheld",
        "error",
        ("reason",),
        "The daemon does not do its work and gives the service manager no sign of life, which"
        " restarts it if this lasts.",
        "Look at `reason` and at the lines of the workers before.",
    ),
    LogEvent(
        "watchdog.resumed",
        "info",
        (),
        "The daemon does its work again and gives the service manager its sign of life.",
    ),
    LogEvent(
        "scoreboard.taken_over",
        "info",
        (),
        "The counters of the metrics go on where the last run of the daemon left them.",
    ),
    LogEvent(
        "scoreboard.dropped",
        "warning",
        ("reason",),
        "The counters of the last run cannot be used, so the metrics begin at 0.",
        "After an upgrade this is to be expected; otherwise report `reason`.",
    ),
)

EVENTS: Mapping[str, LogEvent] = MappingProxyType({row.name: row for row in _ROWS})
"""Every event by its name, in the order of the manual page."""
