"""The texts that ``unpd pause``, ``resume``, ``drain``, ``log-level`` and ``scale``
print for people.

Called by the commands with answers that have every field of their tables in
:mod:`unpd.control.change_fields`. Raises nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType

from unpd.cli.tables import Values
from unpd.names import Halt
from unpd.wording import counted

_HALTS: Mapping[str, str] = MappingProxyType(
    {
        Halt.PAUSED: "new clients of {service} wait",
        Halt.REFUSING: "new clients of {service} are refused",
        Halt.DRAINING: "new clients of {service} are refused",
    }
)
_NOT_SAVED = "; a restart of the daemon ends it too"
_PROGRAM = (
    "; a program has the listener itself (wait, keep): it goes on taking clients until it ends"
)


def halted(answer: Values) -> str:
    """What a pause or a drain has done."""
    what = _HALTS.get(answer["halted"], "{service} is {halted}").format(**answer)
    until = answer["until"] or f"unpd resume {answer['service']}"
    left = f"{counted(answer['connections'], 'connection')} open"
    program = _PROGRAM if answer["program_has_socket"] else ""
    return f"{what} until {until}{_NOT_SAVED}; {left}{program}"


def drained(service: str, answer: Values) -> str:
    """How a drain has ended. ``answer``: that to the wait for it."""
    if answer["held"]:
        return f"{service} is drained: no connection is open"
    if answer["connections"] is None:
        return f"{service} is not drained: {answer['why']}"
    return (
        f"{service} is not drained in time: {counted(answer['connections'], 'connection')} left;"
        f" the drain goes on, and unpd kick --service {service} ends them"
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
    done = f"pool {pool}: {counted(workers, 'worker')}, {answer['before']} before"
    if workers == configured:
        return f"{done}, as the configuration wants it"
    return f"{done}; the configuration wants {configured}{_NOT_SAVED}"
