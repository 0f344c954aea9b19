"""The texts that ``unpd pause``, ``resume``, ``drain``, ``log-level`` and ``scale``
print for people.

Called by the commands and unpd.cli.draining with answers that have every field of
their tables in :mod:`unpd.control.change_fields`. Raises nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Values = dict[str, Any]

_HALTS: Mapping[str, str] = MappingProxyType(
    {
        "paused": "new clients of {service} wait",
        "refusing": "new clients of {service} are refused",
        "draining": "new clients of {service} are refused",
    }
)
_NOT_SAVED = "; a restart of the daemon ends it too"


def connections(number: int) -> str:
    """How many connections, in words."""
    return f"{number} connection{'s' * (number != 1)}"


def halted(answer: Values) -> str:
    """What a pause or a drain has done."""
    what = _HALTS.get(answer["halted"], "{service} is {halted}").format(**answer)
    until = answer["until"] or f"unpd resume {answer['service']}"
    return f"{what} until {until}{_NOT_SAVED}; {connections(answer['connections'])} open"


def drained(service: str, left: int) -> str:
    """How a drain has ended. ``left``: how many connections are still open."""
    if not left:
        return f"{service} is drained: no connection is open"
    return (
        f"{service} is not drained in time: {connections(left)} left; the drain goes on, and unpd"
        f" kick --service {service} ends them"
    )


def resumed(answer: Values) -> str:
    """What a resume has done."""
    if answer["was"] is None:
        return f"{answer['service']} takes new clients: it was not halted"
    return f"{answer['service']} takes new clients again"


def level(answer: Values) -> str:
    """What a change of the level has done."""
    if not answer["live"]:
        return f"the level of the log is {answer['level']}, as the configuration wants it"
    until = answer["until"] or "unpd log-level configured"
    return f"the level of the log is {answer['level']} until {until}{_NOT_SAVED}"


def silence(answer: Values) -> str:
    """A complaint about processes that have not taken the level; "" if all have."""
    silent = answer["silent"]
    if not silent:
        return ""
    return f"no answer from {', '.join(map(str, silent))}: the log level may not hold there yet"


def scaled(answer: Values) -> str:
    """What a scale has done."""
    pool, workers, configured = answer["pool"], answer["workers"], answer["configured"]
    done = f"pool {pool}: {workers} worker{'s' * (workers != 1)}, {answer['before']} before"
    if workers == configured:
        return f"{done}, as the configuration wants it"
    return f"{done}; the configuration wants {configured}{_NOT_SAVED}"
