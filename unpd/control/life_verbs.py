"""The verbs about the life of the daemon: one row each (:mod:`unpd.control.verb`)."""

from collections.abc import Mapping
from typing import Any

from unpd.control.argument_checks import timeout
from unpd.control.verb import Answered, Argument, Verb
from unpd.errors import quoted

CONDITIONS = ("ready", "reloaded", "drained")
"""For what ``unpd wait`` may wait."""


def _condition(text: str) -> object:
    if text not in CONDITIONS:
        raise ValueError(f"{text!r} is nothing to wait for: write one of {', '.join(CONDITIONS)}")
    return text


def _about_one_thing(values: Mapping[str, Any]) -> None:
    """Check that only a drain is waited for of a service."""
    condition, service = values["condition"], values["service"]
    if service and condition != "drained":
        raise ValueError(
            f"{condition} is about the whole daemon: leave {quoted(service)} out, or wait for"
            f" drained {service}"
        )


ROWS = (
    Verb(
        name="stop",
        help="stop the daemon and wait for its end",
        description=(
            "Stop the daemon gracefully, within daemon.grace_s, and wait for its end."
            " With daemon.lame_duck_s the daemon first serves on for that time;"
            " another stop ends it."
            " On a terminal the command shows how many connections are left and until when they may"
            " last."
        ),
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
            " The command prints which keys changed, what became of each pool,"
            " which services and listeners came or went, the result,"
            " and what the daemon logged meanwhile."
            " On a terminal it shows how many connections old processes have, and until when."
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
            " its zombies, denied networks and lost log lines, its services, listeners and"
            " processes. The peak of a service is that of the last minute, its maximum that of the"
            " last ten, and the maximum of a queue that since the start. A service that has refused"
            " clients shows the most frequent reason, and a process how the last one in its place"
            " ended; the JSON has every reason."
            " With --history also the figures of all services together, now and at most in the"
            " last ten minutes, and the last events: what the charts of the status page show."
            " The exit code is 3 if no daemon runs."
        ),
        answered=Answered.AT_ONCE,
        changes=False,
        arguments=(
            Argument(
                name="history",
                type=bool,
                default=False,
                help="show the last ten minutes and the last events too",
            ),
        ),
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
    Verb(
        name="workers",
        help="list the processes of the daemon",
        description=(
            "List the processes of the daemon, but the main process: workers, dispatchers,"
            " launchers and the exporter, with state, generation, age, connections, processor time,"
            " memory, last sign of life, and how the last process in the same place ended."
            " They are looked at once a second; of more than 64, each in its turn."
        ),
        answered=Answered.AT_ONCE,
        changes=False,
        options=(
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print the list as JSON",
            ),
        ),
    ),
    Verb(
        name="listeners",
        help="list the listeners of the daemon",
        description=(
            "List the addresses on which the daemon listens: the accept queue of each, its greatest"
            " length since the start, its limit, and what the kernel dropped there."
        ),
        answered=Answered.AT_ONCE,
        changes=False,
        options=(
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print the list as JSON",
            ),
        ),
    ),
    Verb(
        name="events",
        help="show what happened to the daemon lately",
        description=(
            "Show what happened to the daemon lately: processes that were spawned, became ready or"
            " ended, reloads and their results, faults that began or are over, and what operators"
            " did."
            " These are the last 1,000 lines of the main process for the log, those of level debug"
            " included."
        ),
        answered=Answered.IN_PARTS,
        changes=False,
        arguments=(
            Argument(
                name="follow",
                type=bool,
                default=False,
                help=(
                    "show those that come from now on, until the command is interrupted or the"
                    " daemon ends"
                ),
            ),
        ),
        options=(
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print each event as a line of JSON",
            ),
        ),
    ),
    Verb(
        name="wait",
        help="wait until the daemon is ready or reloaded, or until a drain has ended",
        description=(
            "Wait until a condition holds."
            " ready: the daemon has started, every service has a ready process and a listener that"
            " clients reach, and no process keeps dying early (the field ready of unpd status does"
            " not ask for the last; unpd status --check asks that no fault stands at all);"
            " with --timeout, a daemon that does not run yet is waited for, too."
            " reloaded: no reload is under way, and the last one succeeded, if there was one; if it"
            " was refused, the command fails with its reason."
            " drained: no process of an earlier generation is left, nor one that was retired"
            " otherwise; with a service: it drains (unpd drain), and none of its connections is"
            " open."
            " On a terminal the command shows what it waits for."
            " At most 16 commands may wait at a time, those of unpd drain among them."
            " The exit code is 0 when the condition holds, 4 when it does not in time or the daemon"
            " stops, 3 if no daemon runs (for ready with --timeout: if none does in time) or the"
            " one that was asked has ended, and 1 for a refused reload and other failures."
        ),
        answered=Answered.LATER,
        changes=False,
        arguments=(
            Argument(
                name="condition",
                type=str,
                placeholder="|".join(CONDITIONS),
                operand=True,
                check=_condition,
                help=f"{', '.join(CONDITIONS[:-1])} or {CONDITIONS[-1]}",
            ),
            Argument(
                name="service",
                type=str,
                placeholder="SERVICE",
                operand=True,
                optional=True,
                help="of drained: the service that drains (default: all retired processes)",
            ),
            Argument(
                name="timeout",
                type=str,
                placeholder="TIME",
                check=timeout,
                help=(
                    "wait no longer than this: seconds, or a time such as 90s, 10m, 2h or 1d; 0"
                    " only looks (default: without end)"
                ),
            ),
        ),
        options=(
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print the answer as JSON",
            ),
        ),
        check=_about_one_thing,
    ),
)
