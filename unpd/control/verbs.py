"""The verbs of the control socket, one row each: name, texts for people, arguments, and
how the daemon answers.

Read by the protocol (which checks requests against it), the master's orders, the
command line (and so the shell completions, which are made from its parser), ``make
manual``, and by tests that compare the tables of functions with it. Calls
:mod:`unpd.access` and :mod:`unpd.control.spans` to check a text.

Arguments are rows of a frozen dataclass, checked by :func:`checked`, and not a pydantic
model: the command line reads this table too, and ``unpd stop`` must answer without the
time that the import of pydantic takes.

An argument is a flag or a text. Another type needs a row in ``TYPES`` here and one in
``unpd.cli.parser``.

Errors: VerbError, whose text is one sentence for the sender of the request.
"""

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


class VerbError(Exception):
    """The request names no verb, or gives a verb what it does not take; the text says
    what would be right.
    """


# The checks import what they need when they are called, because most commands check no
# text, and imports are most of what a short command costs.


def _network(text: str) -> object:
    from unpd.access.network import Network  # noqa: PLC0415 - see above

    return Network.parse(text)


def _span(text: str) -> object:
    from unpd.control.spans import span_s  # noqa: PLC0415 - see above

    return span_s(text)


def _place(text: str) -> object:
    if not re.fullmatch("[0-9]{1,18}:(-1|[0-9]{1,10})", text):
        raise ValueError("after must be the next of another page")
    return text


def _sort_key(text: str) -> object:
    if text not in SORT_KEYS:
        raise ValueError(f"{text!r} is no key: write one of {', '.join(SORT_KEYS)}")
    return text


def _reason(text: str) -> object:
    from unpd.access.denials import checked_reason  # noqa: PLC0415 - see above

    return checked_reason(text)


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
"""By what ``unpd connections`` may sort."""


class Answered(enum.Enum):
    """When the daemon answers a verb."""

    AT_ONCE = "at once"
    LATER = "later"
    """When the outcome is known; until then the asking process waits."""


TYPES: Mapping[type, str] = MappingProxyType({bool: "true or false", str: "text"})
"""The types of arguments, in the words of an error. JSON has a value for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a verb. ``help`` is the text of its option: of the command line
    and of the manual.

    ``default``: None for a text that may be left out. ``placeholder``: what stands for
    a text in usages. ``operand``: it is needed, and has no name on the command line.
    ``check`` raises ValueError, with one sentence, for a text that cannot be meant.
    ``internal``: the command gives it, and no person.
    """

    name: str
    type: type
    help: str
    default: Any = None
    placeholder: str = ""
    operand: bool = False
    check: Callable[[str], object] = str
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table.

    ``help`` is the line in the list of commands; ``description`` is the text of the
    manual and of ``unpd VERB --help``. ``changes`` is true if the verb changes the
    daemon: then the log says which process asked. ``options`` say what the command does
    with the answer; the daemon does not see them.
    """

    name: str
    help: str
    description: str
    answered: Answered
    changes: bool
    arguments: tuple[Argument, ...] = ()
    options: tuple[Argument, ...] = ()


_CIDR = Argument(
    name="network",
    type=str,
    placeholder="CIDR",
    operand=True,
    check=_network,
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
        check=_network,
        help="only those of clients in this network",
    ),
    Argument(
        name="older",
        type=str,
        placeholder="TIME",
        check=_span,
        help="only those that are open for this time, such as 90s, 10m, 2h or 1d",
    ),
)

_ROWS = (
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
            " and which services and listeners came or went."
            " If a step fails, the daemon serves on as before;"
            " the command then fails and says why."
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
        ),
        options=(
            Argument(
                name="json",
                type=bool,
                default=False,
                help="print what was changed, as JSON",
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
                check=_span,
                help=(
                    "end the denial after this time, such as 90s, 10m, 2h or 1d (default: when it"
                    " is taken back)"
                ),
            ),
            Argument(
                name="why",
                type=str,
                placeholder="TEXT",
                check=_reason,
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
                check=_network,
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
            " segments sent again, state, and the process that serves each."
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
                    " first (default: by process)"
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
    ),
    Verb(
        name="try",
        help="start the program of a service here",
        description=(
            "Start the program of a service of type exec as the daemon starts it for a client:"
            " with its user, variables, directory, limits and sandbox, but with the standard"
            " input, output and error of this command instead of a connection,"
            " and without the variables about one."
            " The command says how the program ended, and ends it if it is interrupted itself."
            " Without a daemon the command starts the program itself,"
            " and says what differs."
        ),
        answered=Answered.LATER,
        changes=True,
        arguments=(
            Argument(
                name="service",
                type=str,
                placeholder="SERVICE",
                operand=True,
                help="the name of a service of type exec",
            ),
        ),
    ),
)

VERBS: Mapping[str, Verb] = MappingProxyType({verb.name: verb for verb in _ROWS})
"""The table, by name."""


def find(name: object) -> Verb:
    """Return the verb of this name. VerbError, with the names of all verbs, if no verb
    has it.
    """
    verb = VERBS.get(name) if isinstance(name, str) else None
    if verb is None:
        raise VerbError(f"the verb must be one of {', '.join(VERBS)}")
    return verb


def checked(verb: Verb, values: Mapping[str, object]) -> dict[str, Any]:
    """Return a value for each argument of ``verb``: the one in ``values``, or else the
    default. VerbError for a name that the verb does not know, for a value of another
    type or that its check refuses, and if an operand is missing.
    """
    known = [argument.name for argument in verb.arguments]
    for name in values:
        if name not in known:
            takes = f"only {', '.join(known)}" if known else "no argument"
            raise VerbError(f"unknown argument {name!r}: {verb.name} takes {takes}")
    return {
        argument.name: _checked(argument, values.get(argument.name, argument.default))
        for argument in verb.arguments
    }


def _checked(argument: Argument, value: object) -> object:
    if value is None and argument.type is str and not argument.operand:
        return None
    if type(value) is not argument.type:
        raise VerbError(f"{argument.name} must be {TYPES[argument.type]}")
    if isinstance(value, str):
        try:
            argument.check(value)
        except ValueError as error:
            raise VerbError(str(error)) from None
    return value
