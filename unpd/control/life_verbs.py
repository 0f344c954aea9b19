"""The verbs about the life of the daemon: one row each (:mod:`unpd.control.verb`)."""

from unpd.control.verb import Answered, Argument, Verb

ROWS = (
    Verb(
        name="stop",
        help="stop the daemon and wait for its end",
        description=("Stop the daemon gracefully, within daemon.grace_s, and wait for its end."),
        answered=Answered.AT_ONCE,
        changes=True,
        arguments=(
            Argument(
                name="quick",
                type=bool,
                default=False,
                help="end every connection at once",
            ),
        ),
    ),
    Verb(
        name="reload",
        help="read the configuration again; fail if it is refused",
        description=(
            "Make the daemon read its configuration file again, and wait for the result."
            " The daemon starts new processes for each pool whose configuration changed."
            " Only when all of them are ready do the old ones close their listeners;"
            " they may keep their connections for daemon.reload_grace_s,"
            " or for as long as these last if only the rules about new clients changed."
            " A client that connects in that moment may still be served by an old one,"
            " by the old rules."
            " A pool whose configuration did not change is left alone."
            " The command prints what became of each pool,"
            " which services and listeners came or went, and what the daemon logged meanwhile."
            " If a step fails, the daemon serves on as before;"
            " the command then fails and says why."
            " With --dry-run nothing changes: the command prints the difference that the reload"
            " would make, and fails where the reload would be refused."
        ),
        answered=Answered.LATER,
        changes=True,
        arguments=(
            Argument(
                name="all",
                type=bool,
                default=False,
                help="replace the processes of unchanged pools too",
            ),
            Argument(
                name="dry_run",
                type=bool,
                default=False,
                help=(
                    "change nothing, but print the difference: keys, services, listeners and pools,"
                    " and which processes would be replaced, with their connections"
                ),
            ),
        ),
        options=(
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print what was changed, or with --dry-run would be changed, as JSON",
            ),
        ),
    ),
    Verb(
        name="status",
        help="show the state of the daemon",
        description=(
            "Show the state of the daemon: its configuration, its last reload, why it is degraded,"
            " its services, listeners and processes."
            " The exit code is 3 if no daemon runs."
        ),
        answered=Answered.AT_ONCE,
        changes=False,
        options=(
            Argument(
                name="check",
                type=bool,
                default=False,
                help="end with exit code 4 if the daemon is degraded or not ready",
            ),
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print the whole status, as JSON",
            ),
        ),
    ),
)
