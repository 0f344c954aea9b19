"""Effects: the orders of the core to the shell.

Made by the core; :mod:`unpd.master.perform` has one small function for each.
"""

from dataclasses import dataclass

from unpd.core.model import Child, PoolChange
from unpd.log_events.row import Field
from unpd.names import ChildOrder


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork this child."""

    child: Child


@dataclass(frozen=True, slots=True)
class Tell:
    """Send ``order`` to the child, if it still lives."""

    birth: int
    order: ChildOrder


@dataclass(frozen=True, slots=True)
class ShowPhase:
    """Show the child's new phase on the scoreboard."""

    child: Child


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """Read the configuration and open the listeners that it adds. ConfigLoaded or
    ConfigRefused is the answer.
    """


@dataclass(frozen=True, slots=True)
class ReuseConfig:
    """Make the running configuration, with its listeners as they are now, the
    candidate. ConfigLoaded or ConfigRefused is the answer.
    """


@dataclass(frozen=True, slots=True)
class AdoptConfig:
    """Make the candidate the current configuration, as ``generation``, and close the
    listeners that it lacks.
    """

    generation: int


@dataclass(frozen=True, slots=True)
class DropConfig:
    """Forget the candidate and close the listeners that it added."""


@dataclass(frozen=True, slots=True)
class CloseListeners:
    """Close the master's listeners, because the daemon stops. When the workers have
    closed theirs too, the kernel refuses new clients instead of queueing them in vain.
    """


@dataclass(frozen=True, slots=True)
class AnnounceReady:
    """Tell the command that started the daemon that every service is ready."""


@dataclass(frozen=True, slots=True)
class AnswerReload:
    """Answer a control request: its reload has ended, or will never begin."""

    request: int
    refused: str
    """The reason, or "" if the reload succeeded."""
    began: bool = True


@dataclass(frozen=True, slots=True)
class AnswerScale:
    """Answer a control request: its pool has another number of workers, or not."""

    request: int
    refused: str
    """The reason, or "" if the pool has that number."""
    pool: str = ""
    workers: int = 0
    before: int = 0
    """How many it had."""
    configured: int = 0
    """How many the configuration wants."""


@dataclass(frozen=True, slots=True)
class ReportReload:
    """Log what a reload that succeeded has changed, and remember it for its answers."""

    pools: tuple[PoolChange, ...]


@dataclass(frozen=True, slots=True)
class CountReload:
    """Count and record a reload that was asked for and has ended."""

    refused: str
    """The reason, or "" if the reload succeeded."""


@dataclass(frozen=True, slots=True)
class ReopenLog:
    """Open the log file again by its name, in every process."""


@dataclass(frozen=True, slots=True)
class Note:
    """Write one line to the log."""

    event: str
    fields: tuple[tuple[str, Field], ...] = ()


@dataclass(frozen=True, slots=True)
class Leave:
    """End the master with this exit code: no child is left."""

    code: int
    reason: str


Effect = (
    Spawn
    | Tell
    | ShowPhase
    | LoadConfig
    | ReuseConfig
    | AdoptConfig
    | DropConfig
    | CloseListeners
    | AnnounceReady
    | AnswerReload
    | AnswerScale
    | CountReload
    | ReportReload
    | ReopenLog
    | Note
    | Leave
)
