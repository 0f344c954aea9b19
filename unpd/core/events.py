"""Events: what happened, in the past tense.

Made by the shell, the performers and the modules of the master that watch children and
the control socket; taken by :func:`unpd.core.machine.step`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from unpd.core.model import Wanted
from unpd.names import ExitCode


@dataclass(frozen=True, slots=True)
class Booted:
    """The listeners are open and the signal handlers installed: the first children may
    be spawned.
    """


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline may be due."""


@dataclass(frozen=True, slots=True)
class ChildReady:
    """The child reported over its channel that it serves."""

    birth: int


@dataclass(frozen=True, slots=True)
class ChildFailed:
    """The child reported why it cannot serve, and is about to exit. ``code`` is the
    exit code that belongs to the reason.
    """

    birth: int
    reason: str
    code: ExitCode


@dataclass(frozen=True, slots=True)
class ChildExited:
    """The master reaped the child. ``ended`` is its exit report in words ("exit code
    3", "killed by SIGSEGV").
    """

    birth: int
    ended: str


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """The fork that a Spawn ordered failed."""

    birth: int
    reason: str


@dataclass(frozen=True, slots=True)
class BeatsRead:
    """The master read the heartbeats of all children. ``beats`` has them by birth, in
    seconds of the monotonic clock; 0.0 is a child that has not beaten yet.
    """

    beats: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """A signal or the control socket asked for a reload. ``request`` is the number of
    the control request that waits for the answer, None for a signal. ``every_pool``:
    the children of unchanged pools are to be replaced too.
    """

    request: int | None
    every_pool: bool = False


@dataclass(frozen=True, slots=True)
class ListenersRenewed:
    """The master had to open a listener anew, and the children have the old one."""


@dataclass(frozen=True, slots=True)
class ConfigLoaded:
    """The new configuration is valid, and its listeners are open. The core gives the
    pools of ``wanted`` their generations. ``renewal``: it is the running configuration,
    with renewed listeners.
    """

    wanted: Wanted
    renewal: bool = False


@dataclass(frozen=True, slots=True)
class ConfigRefused:
    """The new configuration cannot be used. Nothing has changed. ``renewal``: as in
    :class:`ConfigLoaded`.
    """

    reason: str
    renewal: bool = False


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A signal or the control socket, named in ``by``, asked for a stop."""

    quick: bool
    by: str


@dataclass(frozen=True, slots=True)
class PoolResized:
    """A signal asked for ``delta`` more workers in ``pool`` (negative: fewer)."""

    pool: str
    delta: int


@dataclass(frozen=True, slots=True)
class PoolScaled:
    """The control request ``request`` asked for so many workers in ``pool``.
    ``configured``: how many the configuration wants.
    """

    request: int
    pool: str
    workers: int
    configured: int


@dataclass(frozen=True, slots=True)
class LogReopenAsked:
    """A signal asked for the log file to be opened again: it was rotated."""


Event = (
    Booted
    | TimePassed
    | ChildReady
    | ChildFailed
    | ChildExited
    | ForkFailed
    | BeatsRead
    | ReloadAsked
    | ListenersRenewed
    | ConfigLoaded
    | ConfigRefused
    | StopAsked
    | PoolResized
    | PoolScaled
    | LogReopenAsked
)
