"""Events: what happened, in the past tense. The shell gathers them,
:func:`unpd.core.machine.step` takes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from unpd.core.model import Wanted
from unpd.names import ExitCode


@dataclass(frozen=True, slots=True)
class Booted:
    """Listeners are open and handlers installed: the first generation may be born."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline may be due."""


@dataclass(frozen=True, slots=True)
class ChildReady:
    """The child reported over its readiness pipe that it serves."""

    birth: int


@dataclass(frozen=True, slots=True)
class ChildFailed:
    """The child reported that it cannot serve, and why; it leaves by itself. ``code``
    is the exit code that the reason has.
    """

    birth: int
    reason: str
    code: ExitCode


@dataclass(frozen=True, slots=True)
class ChildExited:
    """The child was reaped. ``ended`` says how, for people ("exit code 3", "killed by
    SIGSEGV").
    """

    birth: int
    ended: str


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """The spawn that was ordered did not happen."""

    birth: int
    reason: str


@dataclass(frozen=True, slots=True)
class BeatsRead:
    """The heartbeats of all children, by birth: seconds of the monotonic clock, 0.0 for
    none yet.
    """

    beats: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """Somebody wants the configuration read again. ``request`` is who waits for the
    answer, None for a signal.
    """

    request: int | None


@dataclass(frozen=True, slots=True)
class ConfigLoaded:
    """The new configuration is valid and its listeners are bound."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class ConfigRefused:
    """The new configuration cannot be had; nothing changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the end. ``by`` names who, for the log."""

    quick: bool
    by: str


@dataclass(frozen=True, slots=True)
class PoolResized:
    """Somebody wants ``delta`` workers more (or fewer) in ``pool``."""

    pool: str
    delta: int


@dataclass(frozen=True, slots=True)
class LogReopenAsked:
    """The log file was rotated."""


Event = (
    Booted
    | TimePassed
    | ChildReady
    | ChildFailed
    | ChildExited
    | ForkFailed
    | BeatsRead
    | ReloadAsked
    | ConfigLoaded
    | ConfigRefused
    | StopAsked
    | PoolResized
    | LogReopenAsked
)
