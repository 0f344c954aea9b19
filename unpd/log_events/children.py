"""The log events about children, listeners and connections.

Owns their names and fields. Called by :mod:`unpd.log_events.table`.
"""

from unpd.log_events.row import ABOUT_CHILD, CONNECTIONS, LogEvent, of_each_kind

_FAILED_SERVICE = (
    "Look at the file and the line in `trace` if they are of a service of your own, else report"
    " `trace`."
)
_GROUNDS = ("value", "limit", "rule", "file", "line")
_REFUSAL = ("service", "peer", "reason", *_GROUNDS, "count")

ROWS: tuple[LogEvent, ...] = (
    # children
    LogEvent(
        "child.spawned",
        "debug",
        ("kind", "slot", "birth", "generation", "pid"),
        "The main process forked a child.",
    ),
    *of_each_kind("ready", "info", ABOUT_CHILD, "The child is ready to serve."),
    *of_each_kind(
        "failed",
        "error",
        (*ABOUT_CHILD, "reason"),
        "The child cannot serve and ends; a worker that fails at the start stops the daemon, and a"
        " failure during a reload refuses the new configuration.",
        "Remove the cause that `reason` names.",
    ),
    *of_each_kind(
        "start_timed_out",
        "error",
        (*ABOUT_CHILD, "after_s"),
        "The child was not ready within `daemon.start_timeout_s` and is killed.",
        "Look for a lack of processor time or memory, or raise `daemon.start_timeout_s`.",
    ),
    *of_each_kind(
        "died",
        "warning",
        (*ABOUT_CHILD, "ended", "respawn_in_s"),
        "The child ended although it is wanted; another one starts after `respawn_in_s`.",
        "If it happens again and again, look at `ended`, at the lines of the child before, and for"
        " a kill by the kernel for lack of memory.",
    ),
    *of_each_kind(
        "hung",
        "error",
        (*ABOUT_CHILD, "kill_in_s"),
        "The child gave no sign of life for `daemon.heartbeat_timeout_s`: it is told to print its"
        " stack and is replaced.",
        "Report the stack that follows, unless the machine itself stood still.",
    ),
    *of_each_kind(
        "crashed",
        "error",
        ("error", "trace"),
        "A fault in unpd itself ended the child; another one takes its place.",
        "Report `trace`, unless somebody shut a listener down at that moment.",
    ),
    *of_each_kind(
        "drain_cut",
        "info",
        ABOUT_CHILD,
        "A retired child has drained for `daemon.reload_grace_s`, eight later reloads have"
        " children that drain, or wanted children need its room: its last connections end now.",
    ),
    *of_each_kind(
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
        recent=False,
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
        "Free memory, or raise the limit that `reason` means: of processes (`TasksMax=` of the"
        " unit, `pids.max` of the cgroup), or of open files (`LimitNOFILE=`).",
        optional=("service",),
    ),
    LogEvent(
        "session.fork_failed",
        "error",
        ("service", "reason", "retry_in_s"),
        "A dispatcher could not fork a process for a connection; it keeps the connection, accepts"
        " no other, and tries again after `retry_in_s`.",
        "Free memory, or raise the limit of processes (`TasksMax=` of the unit, `pids.max` of the"
        " cgroup, `ulimit -u`), or lower `services.NAME.max_connections`.",
    ),
    LogEvent(
        "session.died",
        "warning",
        ("service", "session_pid", "peer", "ended"),
        "The process that served one connection did not end well, and the connection with it.",
        "If nobody killed it, look for a `session.crashed` line before, and for a kill by the"
        " kernel for lack of memory.",
    ),
    LogEvent(
        "session.crashed",
        "error",
        ("error", "trace"),
        "A fault in unpd itself ended the process that served one connection.",
        "Report `trace`.",
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
        "The daemon has closed `address`: the configuration names it no longer, or a reload that"
        " added it was refused.",
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
        ("service", "address", "reason"),
        "The listener was broken, or another process shut it down or changed its options, for"
        " `reason`; it is as before, and clients are served at `address` again.",
        "Find out who uses `ss --kill` or shares the socket; where options were changed, a worker"
        " may have been taken over.",
    ),
    LogEvent(
        "listener.renewed",
        "warning",
        ("service", "address", "reason"),
        "No client reached the listener for `reason`, and the daemon has opened it now; a reload"
        " with the running configuration starts the children that serve it.",
        "Find out who removes the file of the socket or the interface; exclude sockets from"
        " programs that clean directories.",
    ),
    LogEvent(
        "listener.waiting",
        "warning",
        ("service", "address", "pause_s"),
        "The children still lack the listener that was opened anew, because the reload for it was"
        " refused; the next one begins `pause_s` seconds after that.",
        "Remove the cause that the line `reload.refused` before this one names.",
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
        "pidfile.lost",
        "error",
        ("path", "reason"),
        "The pid file was removed or replaced, and cannot be made again for `reason`, so that a"
        " second daemon could start; the daemon tries again every second.",
        "Remove the cause that `reason` names.",
    ),
    LogEvent(
        "pidfile.renewed",
        "warning",
        ("path",),
        "The pid file is there again, with its lock; the daemon has made a new one if it had to.",
        "Find out who removes it; exclude `/run` from programs that clean directories.",
    ),
    LogEvent(
        "accept.failed",
        "warning",
        ("service", "address", "errno", "paused"),
        "A connection could not be accepted; where `paused` is true, this worker leaves the"
        " listener alone for up to three seconds.",
        "For EMFILE or ENFILE raise the limit of open files (`LimitNOFILE=` of the unit), for"
        " ENOBUFS or ENOMEM free memory, for EINVAL look for `listener.broken`;"
        " EINTR means that another process cleared O_NONBLOCK of the listener.",
        debug_unless="paused",
    ),
    LogEvent(
        "connection.started",
        "info",
        ("service", "peer"),
        "The service begins with a client; of a UNIX socket, `peer` is its user, and `none` where a"
        " program gets a whole socket.",
        debug_unless=CONNECTIONS,
    ),
    LogEvent(
        "connection.ended",
        "info",
        ("service", "cause", "received", "sent", "duration_s", "peer", "target", "error"),
        "A connection ended after `received` and `sent` bytes; the section METRICS explains each"
        " `cause`, a redirect names its `target`, and `error` is what failed where the cause is"
        " an error of a socket or `target_lost`.",
        optional=("target", "error"),
        debug_unless=CONNECTIONS,
    ),
    LogEvent(
        "connections.lost",
        "info",
        ("service", "cause", "connections"),
        "A child died and took so many open `connections` of the service with it, of clients that"
        " are not known; they count as ended by `cause`, which is `worker_died`.",
    ),
    LogEvent(
        "connection.refused",
        "info",
        _REFUSAL,
        "A connection or a datagram was refused for `reason`: `value` was compared with `limit`, or"
        " the entry `rule` in `line` of `file` decided; the line stands for `count` refusals of"
        " the host `peer` or its /64, or of the `others` beyond 32.",
        optional=_GROUNDS,
    ),
    LogEvent(
        "connection.would_be_refused",
        "info",
        _REFUSAL,
        "A connection or a datagram was let in, because the `reason` to refuse it is only observed;"
        " the fields are those of `connection.refused`.",
        optional=_GROUNDS,
    ),
    LogEvent(
        "service.at_limit",
        "info",
        ("service", "reason", *_GROUNDS, "waiting"),
        "The limit `reason` keeps at least `waiting` clients in the accept queue of a listener"
        " (`on_limit`), because `value` has reached `limit`; each process has one such line for"
        " each service and second at most.",
        optional=_GROUNDS,
    ),
    LogEvent(
        "connection.no_header",
        "warning",
        ("service", "peer", "reason", "detail", "count"),
        "The load balancer `peer`, which `proxy_protocol` lists, began a connection without a"
        " proper header of the PROXY protocol, which ended it; the reasons are those of the metric"
        " `unpd_proxy_headers_total`, and the line stands for `count` such connections.",
        "Make the load balancer send the header to this address (in HAProxy `send-proxy-v2`), or"
        " take it out of `services.NAME.proxy_protocol`.",
        optional=("detail",),
    ),
    LogEvent(
        "datagram.failed",
        "error",
        ("service", "error", "suppressed", "trace"),
        "A service raised `error` for a datagram, which gets no answer; each socket has one such"
        " line a second at most, which left out `suppressed` since the one before it.",
        _FAILED_SERVICE,
    ),
    LogEvent(
        "datagram.receive_failed",
        "error",
        ("service", "error"),
        "A worker cannot receive from a datagram socket; it tries again once a second, and logs"
        " this once until it can.",
        "Remove the cause that `error` names: most often a filter of system calls in the unit or"
        " the container refuses recvmsg(2).",
    ),
    LogEvent(
        "connection.failed",
        "error",
        ("service", "error", "suppressed", "trace"),
        "A service, or unpd itself, raised `error`, which ended one connection, and the worker"
        " serves on; each service of a worker has one such line a second at most, which left out"
        " `suppressed` since the one before it.",
        _FAILED_SERVICE,
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
)
"""In the order of the manual page."""
