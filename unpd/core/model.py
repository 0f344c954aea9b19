"""What the master knows: children, what is wanted, and the reload under way.

All times are seconds of one monotonic clock, handed in as ``now``. Records are frozen;
:class:`State` is copied by ``step`` before it changes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from unpd.names import MAX_WORKERS, ChildKind, ChildPhase, MasterPhase


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """The logical place of a child, which survives its respawns. ``index`` counts from
    0 within the pool.
    """

    kind: ChildKind
    pool: str
    index: int

    def __str__(self) -> str:
        return f"{self.pool}/{self.index}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The spans, in seconds, that a configuration gives to its generation.
    ``reload_grace_s`` of 0: as long as the connections last.
    """

    grace_s: float
    reload_grace_s: float
    start_timeout_s: float
    heartbeat_timeout_s: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one configuration wants: how many children of each kind in each pool (each
    at least one), and its limits.
    """

    children: Mapping[tuple[ChildKind, str], int]
    limits: Limits

    def slots(self) -> Iterator[Slot]:
        """Every slot that must hold a child."""
        for (kind, pool), count in self.children.items():
            for index in range(count):
                yield Slot(kind, pool, index)

    def has(self, slot: Slot) -> bool:
        """Whether ``slot`` must hold a child."""
        return slot.index < self.children.get((slot.kind, slot.pool), 0)

    @property
    def workers(self) -> dict[str, int]:
        """The number of workers, by pool."""
        return {
            pool: count for (kind, pool), count in self.children.items() if kind is ChildKind.WORKER
        }

    def resized(self, pool: str, delta: int) -> "Wanted":
        """The same with ``delta`` workers more in ``pool``, but at least one there and
        at most MAX_WORKERS in all. Without workers in that pool it stays as it is.
        """
        workers = self.workers
        if pool not in workers or sum(workers.values()) + delta > MAX_WORKERS:
            return self
        count = max(1, workers[pool] + delta)
        return replace(self, children={**self.children, (ChildKind.WORKER, pool): count})


@dataclass(frozen=True, slots=True)
class Child:
    """One birth. ``deadline_at``: when the phase it is in has lasted too long (None: it
    may last).

    ``retired`` children no longer hold their slot. ``finishing``: it was told to bring
    its connections to an end.
    """

    birth: int
    slot: Slot
    generation: int
    phase: ChildPhase
    born_at: float
    ready_at: float | None = None
    deadline_at: float | None = None
    retired: bool = False
    finishing: bool = False


BEAT_AHEAD_S = 1.0
"""A heartbeat may be later than the time that was read before it, but hardly by this.
"""


def believed(beat_at: float, now: float) -> float:
    """A heartbeat as far as it can be true: one from the future is none, for it would
    hide a hang for ever.
    """
    return beat_at if beat_at <= now + BEAT_AHEAD_S else 0.0


@dataclass(frozen=True, slots=True)
class Throttle:
    """The back-off of one slot in one generation: early deaths in a row, and when it
    may be filled again.
    """

    failures: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Exit:
    """How the master will end: the exit code of :class:`unpd.names.ExitCode` and the
    reason for the log.
    """

    code: int
    reason: str


@dataclass(slots=True)
class State:
    """Everything the core remembers.

    ``wanted`` belongs to ``generation``; ``candidate`` to ``last_generation`` while a
    reload is being proved. ``asked_by`` are the control requests that wait for the
    reload under way, ``asked_again`` those that came during it (None: nobody asked).
    ``phase_deadline_at`` bounds STARTING. ``looked_at`` is when heartbeats were last
    read.
    """

    wanted: Wanted
    phase: MasterPhase = MasterPhase.STARTING
    generation: int = 1
    last_generation: int = 1
    candidate: Wanted | None = None
    children: dict[int, Child] = field(default_factory=dict)
    throttles: dict[tuple[int, Slot], Throttle] = field(default_factory=dict)
    next_birth: int = 1
    asked_by: tuple[int, ...] = ()
    asked_again: tuple[int, ...] | None = None
    phase_deadline_at: float | None = None
    stop_began_at: float = 0.0
    exit: Exit | None = None
    last_trouble: str = ""
    looked_at: float = 0.0

    def copy(self) -> "State":
        """A state that may be changed without changing this one (the records in it are
        frozen).
        """
        return replace(self, children=dict(self.children), throttles=dict(self.throttles))

    def holder(self, generation: int, slot: Slot) -> Child | None:
        """The child that holds ``slot`` in ``generation``."""
        for child in self.children.values():
            if child.slot == slot and child.generation == generation and not child.retired:
                return child
        return None
