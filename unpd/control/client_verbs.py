"""The verbs about clients and their connections: one row each
(:mod:`unpd.control.verb`).
"""

import re
from collections.abc import Mapping
from typing import Any

from unpd.control.argument_checks import client, denial_reason, network, span
from unpd.control.verb import Answered, Argument, Verb

SORT_KEYS = (
    "service",
    "peer",
    "age",
    "received",
    "sent",
    "rtt",
    "retransmits",
    "state",
    "child",
)
"""By what ``unpd connections`` may sort. With ``--ended`` age is how long a connection
lasted, state is the end cause, and child is not known.
"""


def _place(text: str) -> object:
    if not re.fullmatch("[0-9]{1,18}:(-1|[0-9]{1,10})(:[0-9]{1,4})?", text):
        raise ValueError("after must be the next of another page")
    return text


def _sort_key(text: str) -> object:
    if text not in SORT_KEYS:
        raise ValueError(f"{text!r} is no key: write one of {', '.join(SORT_KEYS)}")
    return text


def _about_some(values: Mapping[str, Any]) -> None:
    """Check that somebody has said which connections end."""
    if not any(values[name] for name in ("service", "peer", "older", "all")):
        raise ValueError(
            "name what to end, by --service, --peer or --older; --all ends every connection"
        )


_CIDR = Argument(
    name="network",
    type=str,
    placeholder="CIDR",
    operand=True,
    check=network,
    help="an address or a network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
)

_SELECTION = (
    Argument(
        name="service",
        type=str,
        placeholder="SERVICE",
        help="only the connections of this service",
    ),
    Argument(
        name="peer",
        type=str,
        placeholder="CIDR",
        check=network,
        help="only those of clients in this network",
    ),
    Argument(
        name="older",
        type=str,
        placeholder="TIME",
        check=span,
        help="only those that are open for this time, such as 90s, 10m, 2h or 1d",
    ),
)

ROWS = (
    Verb(
        name="deny",
        help="deny a network from now on",
        description=(
            "Deny every service to the clients of a network, or of one address, from now on."
            " The same network again takes the place of its denial."
            " Denials outlast a reload; they outlast a restart where access.state_file names a"
            " file."
            " At most 65,536 networks are denied at a time; for one more, the oldest denial of a"
            " sensor goes."
        ),
        answered=Answered.LATER,
        changes=True,
        arguments=(
            _CIDR,
            Argument(
                name="for",
                type=str,
                placeholder="TIME",
                check=span,
                help=(
                    "end the denial after this time, such as 90s, 10m, 2h or 1d (default: when it"
                    " is taken back)"
                ),
            ),
            Argument(
                name="why",
                type=str,
                placeholder="TEXT",
                check=denial_reason,
                help="the reason, for the list and the log",
            ),
            Argument(
                name="kick",
                type=bool,
                default=False,
                help="end its open connections too",
            ),
        ),
    ),
    Verb(
        name="undeny",
        help="take the denial of a network back",
        description=(
            "Take the denial of a network back: that of exactly this network, as unpd denied"
            " lists it."
        ),
        answered=Answered.AT_ONCE,
        changes=True,
        arguments=(_CIDR,),
    ),
    Verb(
        name="denied",
        help="list the networks that are denied",
        description=(
            "List the networks that are denied: why, since when and until when, and by whom."
        ),
        answered=Answered.AT_ONCE,
        changes=False,
        arguments=(
            Argument(
                name="after",
                type=str,
                placeholder="CIDR",
                check=network,
                internal=True,
                help="list only the networks after this one",
            ),
        ),
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
        name="explain",
        help="explain what a service would do with a client now",
        description=(
            "Explain what a service would do now with a client: whether it comes in, waits or is"
            " refused; and for each rule and limit, in the order of the decision, what it says, the"
            " values that are compared, the rule with its file and line, and when it frees."
            " For a configuration file that is named, no daemon is asked: the answer is"
            " from its rules alone. The exit code is 0 whatever the outcome."
        ),
        answered=Answered.AT_ONCE,
        changes=False,
        arguments=(
            Argument(
                name="peer",
                type=str,
                placeholder="ADDRESS",
                operand=True,
                check=client,
                help='the address of a client, or "unix", or "uid:NAME"',
            ),
            Argument(
                name="service",
                type=str,
                placeholder="SERVICE",
                operand=True,
                help="the name of a service",
            ),
        ),
        options=(
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print the explanation as JSON",
            ),
        ),
    ),
    Verb(
        name="connections",
        help="list the open connections",
        description=(
            "List the open connections: peer, age, bytes received and sent, round-trip time,"
            " segments sent again, state, and the process that serves each; or, if asked, the last"
            " 1,000 that have ended, and why."
            " Of a session in a process of its own, the round-trip time and the segments are not"
            " known."
            " The list is made while connections come and go, so it shows no single moment."
            " A process that does not answer within 3 seconds is left out, with a complaint;"
            " then the exit code is 1."
        ),
        answered=Answered.LATER,
        changes=False,
        arguments=(
            *_SELECTION,
            Argument(
                name="ended",
                type=bool,
                default=False,
                help="list the last 1,000 connections that have ended, the latest first",
            ),
            Argument(
                name="after",
                type=str,
                placeholder="PLACE",
                check=_place,
                internal=True,
                help="list only those after this place",
            ),
        ),
        options=(
            Argument(
                name="sort",
                type=str,
                placeholder="KEY",
                check=_sort_key,
                help=(
                    f"sort by {', '.join(SORT_KEYS[:-1])} or {SORT_KEYS[-1]}, the greatest number"
                    " first (default: by process; of those that have ended the latest first, age is"
                    " how long each lasted, and state its end cause)"
                ),
            ),
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print the list as JSON",
            ),
        ),
    ),
    Verb(
        name="kick",
        help="end open connections",
        description=(
            "End open connections: those of a service, of clients in a network, or that are open"
            " for a time; all filters must hold. Their clients get a reset, and their programs"
            " SIGTERM. They may come again: unpd deny keeps them out."
            " The command prints how many there were."
            " A process that does not answer within 3 seconds is a failure."
        ),
        answered=Answered.LATER,
        changes=True,
        arguments=(
            *_SELECTION,
            Argument(
                name="all",
                type=bool,
                default=False,
                help="end every connection, where no filter is given",
            ),
            Argument(
                name="dry_run",
                type=bool,
                default=False,
                help="end none, but print how many would end",
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
        check=_about_some,
    ),
)
