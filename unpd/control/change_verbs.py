"""The verbs that change a running daemon for a while: one row each
(:mod:`unpd.control.verb`). Nothing of it is saved.
"""

import re
from collections.abc import Mapping
from typing import Any

from unpd.control.argument_checks import span, timeout
from unpd.control.verb import Answered, Argument, Verb
from unpd.log_events.row import LEVELS
from unpd.names import MAX_POOL_WORKERS

CONFIGURED = "configured"
"""Stands for the level of the configuration."""


def _level(text: str) -> object:
    if text not in (*LEVELS, CONFIGURED):
        raise ValueError(f"{text!r} is no level: write one of {', '.join((*LEVELS, CONFIGURED))}")
    return text


def _workers(text: str) -> object:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_POOL_WORKERS:
        raise ValueError(
            f"the number of workers must be a whole number from 1 to {MAX_POOL_WORKERS}"
        )
    return text


def _lasting_one(values: Mapping[str, Any]) -> None:
    """Check that only a level of an operator has an end."""
    if values["level"] == CONFIGURED and values["for"] is not None:
        raise ValueError(f"{CONFIGURED} holds for good: leave --for out, or name a level")


_SERVICE = Argument(
    name="service",
    type=str,
    placeholder="SERVICE",
    operand=True,
    help="the name of a service",
)
_JSON = Argument(
    name="json",
    type=bool,
    default=False,
    help="print the answer as JSON",
)

ROWS = (
    Verb(
        name="pause",
        help="keep new clients of a service waiting",
        description=(
            "Take no new client of a service until it is resumed."
            " New connections wait in the accept queue, as far as that has room (backlog); with"
            " refuse they are accepted and closed at once, after banner_refused,"
            " and count as refused for the reason paused."
            " Datagrams are refused in both cases, because no queue keeps them."
            " Open connections go on."
            " All processes follow at once, and those that start later, too."
            " A pause outlasts a reload that keeps the service, but no restart."
            " A program that takes the clients of a listener itself (wait, keep) goes on doing so;"
            " no other is started."
        ),
        answered=Answered.AT_ONCE,
        changes=True,
        arguments=(
            _SERVICE,
            Argument(
                name="for",
                type=str,
                placeholder="TIME",
                check=span,
                help=(
                    "end the change after this time, such as 90s, 10m, 2h or 1d (default: when it"
                    " is taken back)"
                ),
            ),
            Argument(
                name="refuse",
                type=bool,
                default=False,
                help="accept new connections and close them at once",
            ),
        ),
        options=(_JSON,),
    ),
    Verb(
        name="resume",
        help="let a service take clients again",
        description=(
            "End the pause or the drain of a service: clients that wait are served within a tenth"
            " of a second. A service that takes clients stays as it is."
        ),
        answered=Answered.AT_ONCE,
        changes=True,
        arguments=(_SERVICE,),
        options=(_JSON,),
    ),
    Verb(
        name="drain",
        help="refuse new clients of a service and wait for the open connections",
        description=(
            "Refuse new clients of a service, as pause with refuse does, but for the reason"
            " draining, and wait until its open connections have ended."
            " The listeners stay open, so that no other program can take their addresses: a load"
            " balancer that only connects sees no difference, one that awaits an answer does."
            " On a terminal the command shows how many connections are left, and how long it waits."
            " If some are left after the timeout, the exit code is 4; the drain goes on then, and"
            " also after the command was interrupted, until unpd resume ends it."
            " It outlasts a reload that keeps the service, but no restart."
            " unpd kick ends the connections that are left."
            " A program that has the listener itself (wait, keep) ends when it likes, and a drain"
            " of its service lasts that long; the command says so."
        ),
        answered=Answered.AT_ONCE,
        changes=True,
        arguments=(_SERVICE,),
        options=(
            Argument(
                name="timeout",
                type=str,
                placeholder="TIME",
                check=timeout,
                help=(
                    "wait no longer than this: seconds, or a time such as 90s, 10m, 2h or 1d; 0"
                    " only looks (default: as long as it takes)"
                ),
            ),
            _JSON,
        ),
    ),
    Verb(
        name="log-level",
        help="change the level of the log",
        description=(
            "Have all processes write the lines of a level, debug, info, warning or error, and"
            " graver ones; configured stands for the level of the configuration."
            " The level outlasts a reload, also one that changes log.level, but no restart."
            " Session processes that run already keep their level."
            " A process that does not answer within 3 seconds is a failure; it is asked again until"
            " it takes the level."
        ),
        answered=Answered.LATER,
        changes=True,
        arguments=(
            Argument(
                name="level",
                type=str,
                placeholder="LEVEL",
                operand=True,
                check=_level,
                help=f"{', '.join(LEVELS)}, or {CONFIGURED}",
            ),
            Argument(
                name="for",
                type=str,
                placeholder="TIME",
                check=span,
                help=(
                    "end the change after this time, such as 90s, 10m, 2h or 1d (default: when it"
                    " is taken back)"
                ),
            ),
        ),
        options=(_JSON,),
        check=_lasting_one,
    ),
    Verb(
        name="scale",
        help="change the number of workers of a pool",
        description=(
            "Give a pool another number of workers. Surplus workers drain as after a reload."
            " The number holds until a restart, or until a reload whose file has another number of"
            " workers for the pool than the file had when the number was given."
            " Only pools with services of the model event have workers."
            " While a reload is under way the command is refused."
        ),
        answered=Answered.LATER,
        changes=True,
        arguments=(
            Argument(
                name="pool",
                type=str,
                placeholder="POOL",
                operand=True,
                help="the name of a pool",
            ),
            Argument(
                name="workers",
                type=str,
                placeholder="N",
                operand=True,
                check=_workers,
                help=f"how many workers, from 1 to {MAX_POOL_WORKERS}",
            ),
        ),
        options=(_JSON,),
    ),
)
