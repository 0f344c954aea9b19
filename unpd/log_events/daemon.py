"""The log events about the daemon itself, its reloads, its log and its service manager.

Owns their names and fields. Called by :mod:`unpd.log_events.table`.
"""

from unpd.log_events.row import LogEvent

ROWS: tuple[LogEvent, ...] = (
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
        "master.lame",
        "info",
        ("lame_duck_s", "by"),
        "A signal or the control socket asked for a stop: the daemon serves on for"
        " `lame_duck_s` and says that it is not ready, so that load balancers send new clients"
        " elsewhere, and stops then, or when a stop is asked for again.",
    ),
    LogEvent(
        "master.stopping",
        "info",
        ("quick", "by"),
        "A signal or the control socket asked for a stop: the listeners are closed, and a quick"
        " stop ends every connection at once.",
    ),
    LogEvent(
        "orphans.killed",
        "warning",
        ("count", "pids", "alive"),
        "When the last child had ended, `count` processes that children had left behind were still"
        " there, `pids` among them: the daemon killed them, and `alive` of them have not ended.",
        "Find out what started them: nothing in unpd leaves a process, so that a worker may have"
        " been taken over.",
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
    LogEvent(
        "control.refused",
        "warning",
        ("by_uid", "by_pid", "reason", "suppressed"),
        "The process `by_pid` of the user `by_uid` may not control the daemon, or may not use the"
        " verb that it asked for, for `reason`; the daemon left out `suppressed` lines about such"
        " processes since the last one.",
        "If it is a child of the daemon, it may have been taken over: find out what the process"
        " does.",
        recent=False,
    ),
    LogEvent(
        "control.cut_off",
        "info",
        ("by_uid", "by_pid"),
        "The process `by_pid` of the user `by_uid` had an answer over the control socket that it"
        " did not read for 5 seconds: the connection was closed.",
        recent=False,
    ),
    LogEvent(
        "daemon.degraded",
        "warning",
        ("reason", "text"),
        "The daemon has the fault that `text` names, for one of the reasons of the metric"
        " `unpd_degraded`; it looks once a second, so that a shorter fault has no such line.",
        "Look at `text`, and at the lines before.",
    ),
    LogEvent(
        "daemon.recovered",
        "info",
        ("reason", "text"),
        "The fault that `text` names is over.",
    ),
    LogEvent(
        "control.readers",
        "info",
        ("group",),
        "After a reload or the end of a fault, the members of `group` may look over the control"
        " socket; nobody else where that is empty (control.read_group).",
    ),
    LogEvent(
        "control.readers_shut_out",
        "error",
        ("group", "reason"),
        "The members of `group` (control.read_group) cannot connect to the control socket, for"
        " `reason`.",
        "Put the socket on another file system (daemon.control), and restart unpd; the others who"
        " may use the socket still can.",
    ),
    # live denials
    LogEvent(
        "denial.added",
        "info",
        ("network", "until", "why", "by_uid"),
        "The user `by_uid` denied `network` for the reason `why`, until the time `until` or, if"
        " that is empty, until it is taken back.",
    ),
    LogEvent(
        "denial.removed",
        "info",
        ("network", "by_uid"),
        "The user `by_uid` took the denial of `network` back.",
    ),
    LogEvent(
        "denial.sensed",
        "info",
        ("service", "network", "refused", "count"),
        "Clients in `network` made `count` connections to the sensor `service` and are denied for"
        " its `deny_time_s`, unless `refused` says why not; the first connection of a network has a"
        " line at once, the next ones are summed up once a second, and so are those of the `others`"
        " beyond 32 networks.",
        recent=False,
    ),
    LogEvent(
        "denial.kicked",
        "info",
        ("network", "ended", "silent"),
        "The daemon ended the open connections of the denied `network`: `ended` of them; `silent`"
        " processes have not answered, and may do so yet.",
    ),
    LogEvent(
        "connections.kicked",
        "info",
        ("service", "network", "older_s", "ended", "silent"),
        "An operator ended the open connections of `service`, of clients in `network`, that were"
        " open for `older_s`, each of which may be empty: `ended` of them; `silent` processes have"
        " not answered, and may do so yet.",
    ),
    LogEvent(
        "denials.restored",
        "info",
        ("file", "denials"),
        "The live denials of `access.state_file` hold again: `denials` are live now.",
    ),
    LogEvent(
        "denials.damaged",
        "warning",
        ("file", "line", "reason", "lines", "kept"),
        "The `file` of live denials could not be read in full: `line` is the first of the bad"
        " `lines`, for `reason`; the others hold, but for those after 1,000 bad ones, and the whole"
        " file was kept as `kept`, which is empty if even that failed.",
        "Deny again what the bad lines denied, and remove the file `kept`.",
    ),
    LogEvent(
        "denials.not_saved",
        "error",
        ("file", "error"),
        "The live denials cannot be written to `file`; the daemon is degraded, and tries again.",
        "Remove the cause that `error` names.",
    ),
    # live changes
    LogEvent(
        "service.halted",
        "warning",
        ("service", "halted", "until", "by_uid"),
        "The user `by_uid` keeps new clients of `service` out until the time `until` or, if that is"
        " empty, until it is resumed: `paused` lets them wait in the accept queue, `refusing` and"
        " `draining` close their connections.",
        "End a halt that somebody has forgotten with `unpd resume`.",
    ),
    LogEvent(
        "service.resumed",
        "warning",
        ("service", "was", "reason", "by_uid"),
        "The `service`, which `was` halted, takes new clients again, for `reason`.",
        "Halt it again with `unpd pause` if that was too early.",
        optional=("by_uid",),
    ),
    LogEvent(
        "log.level_changed",
        "warning",
        ("threshold", "before", "until", "reason", "by_uid"),
        "All processes write lines of the level `threshold` and graver ones, instead of `before`,"
        " for `reason`, until the time `until` or, if that is empty, until another level"
        " is wanted.",
        "End a level that somebody has forgotten with `unpd log-level configured`.",
        optional=("by_uid",),
    ),
    LogEvent(
        "log.level_not_taken",
        "warning",
        ("child", "threshold"),
        "The process `child` has not answered that it writes lines of the level `threshold` from"
        " now on; it may"
        " do so yet.",
        "Look whether it is stopped or hung.",
    ),
    LogEvent(
        "pool.scaled",
        "info",
        ("pool", "workers", "before"),
        "An operator has given the `pool` another number of `workers`.",
    ),
    LogEvent(
        "pool.scale_ended",
        "info",
        ("pool", "workers"),
        "The number of `workers` that an operator had given to the `pool` ends with the reload"
        " under way, whose file wants another number than before, or has no room for it.",
    ),
    # reloads
    LogEvent(
        "reload.proving",
        "info",
        ("generation",),
        "The new configuration, or the running one with renewed listeners, is valid, and new"
        " children start beside the old ones in the pools that it changes.",
    ),
    LogEvent(
        "reload.succeeded",
        "info",
        (
            "generation",
            "replaced",
            "resized",
            "removed",
            "services_added",
            "services_removed",
            "opened",
            "closed",
        ),
        "The new configuration, or the running one with renewed listeners, is in use; the pools in"
        " `replaced` have new children, and their old ones drain; all other pools but those in"
        " `resized` and `removed` were left alone; the listeners in `opened` and `closed` came or"
        " went.",
    ),
    LogEvent(
        "reload.refused",
        "error",
        ("reason", "generation"),
        "The new configuration, or the running one with renewed listeners, is not in use: the"
        " daemon serves on as before, as `generation`.",
        "Correct what `reason` names, then reload; new listeners are tried again without that.",
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
        "The main process, or its child `pid`, cannot write to the new `file`, or the child does"
        " not answer, and goes on with the old one; the daemon is degraded until it has switched.",
        "Remove the cause that `error` names, then send SIGUSR1 again.",
        optional=("pid",),
    ),
    LogEvent(
        "log.shared",
        "warning",
        ("file",),
        "Another process has locked the log `file`, as another instance of unpd does: the lines of"
        " both mix, and SIGUSR1 reaches only one of them.",
        "Give each instance a `log.file` of its own.",
    ),
    LogEvent(
        "log.lines_lost",
        "warning",
        ("lines",),
        "The log takes lines again after it had lost `lines` of them, of all processes, since the"
        " last line like this.",
        "Make room on the disk, or find out why the reader of the log did not read.",
    ),
    LogEvent(
        "log.file_lost",
        "error",
        ("file", "reason"),
        "The log `file`, which is empty for standard error, gets no line any more, for `reason`:"
        " this line and the next ones go to the old file.",
        "Send SIGUSR1, which makes a new file, and have the program that rotates the log send it.",
    ),
    LogEvent(
        "signal.ignored",
        "warning",
        ("signal", "suppressed"),
        "Signals came that mean nothing to the daemon: `signal` has the name of each since the"
        " last line, at most one a second, and how often one came if it was more than once;"
        " `suppressed` is how many came beside the first of each name.",
        "Find out which program sends it, and which signal it should send.",
        recent=False,
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
"""In the order of the manual page."""
