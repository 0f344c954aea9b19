"""Effects: orders to the shell. :mod:`unpd.master.perform` has one small function for
each.
"""

from dataclasses import dataclass

from unpd.core.model import Child
from unpd.names import ChildOrder

Field = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork this child."""

    child: Child


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a living child its order."""

    birth: int
    order: ChildOrder


@dataclass(frozen=True, slots=True)
class ShowPhase:
    """The child is in a new phase: show it on the scoreboard."""

    child: Child


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """Read the configuration and bind what it adds; answer with ConfigLoaded or
    ConfigRefused.
    """


@dataclass(frozen=True, slots=True)
class AdoptConfig:
    """The candidate is the configuration from now on, as ``generation``: close what it
    no longer has.
    """

    generation: int


@dataclass(frozen=True, slots=True)
class DropConfig:
    """Forget the candidate and close what it added."""


@dataclass(frozen=True, slots=True)
class CloseListeners:
    """The end has begun: close the master's listeners, so that the workers' are the
    last and later arrivals are refused, not stranded.
    """


@dataclass(frozen=True, slots=True)
class AnnounceReady:
    """Every service has a ready worker for the first time: tell whoever waits."""


@dataclass(frozen=True, slots=True)
class AnswerReload:
    """Tell a control request how its reload ended."""

    request: int
    refused: str
    """The reason, or "" if the reload succeeded."""


@dataclass(frozen=True, slots=True)
class CountReload:
    """A reload has ended: count it."""

    succeeded: bool


@dataclass(frozen=True, slots=True)
class ReopenLog:
    """Open the log file again under its name."""


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the log."""

    event: str
    fields: tuple[tuple[str, Field], ...] = ()


@dataclass(frozen=True, slots=True)
class Leave:
    """No child is left: end with this exit code."""

    code: int
    reason: str


Effect = (
    Spawn
    | Tell
    | ShowPhase
    | LoadConfig
    | AdoptConfig
    | DropConfig
    | CloseListeners
    | AnnounceReady
    | AnswerReload
    | CountReload
    | ReopenLog
    | Note
    | Leave
)
