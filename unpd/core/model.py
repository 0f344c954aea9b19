"""The core's model: the children, what is wanted, and the reload under way.

All times are seconds of one monotonic clock; callers pass the current one as ``now``.
The records are frozen. :class:`State` may change, so ``step`` copies it first.

Used by the whole core and by the modules of the master that read the state.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from unpd.names import MAX_WORKERS, ChildKind, ChildPhase, MasterPhase


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """The logical place of a child. It survives respawns. ``index`` counts from 0
    within the pool.
    """

    kind: ChildKind
    pool: str
    index: int

    def __str__(self) -> str:
        return f"{self.pool}/{self.index}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The timeouts, in seconds, that a configuration gives to its generation. A
    ``reload_grace_s`` of 0 lets retired children drain as long as connections last.
    """

    grace_s: float
    reload_grace_s: float
    start_timeout_s: float
    heartbeat_timeout_s: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """The children that one configuration wants, and its limits. ``children`` has the
    number, at least 1, for each kind and pool.
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
        counts = self.children.items()
        return {pool: count for (kind, pool), count in counts if kind is ChildKind.WORKER}

    def resized(self, pool: str, delta: int) -> "Wanted":
        """The same with ``delta`` more workers in ``pool``, but at least one there.

        Returns itself if the pool has no workers, or if more than MAX_WORKERS would be
        wanted in all.
        """
        workers = self.workers
        if pool not in workers or sum(workers.values()) + delta > MAX_WORKERS:
            return self
        count = max(1, workers[pool] + delta)
        return replace(self, children={**self.children, (ChildKind.WORKER, pool): count})


@dataclass(frozen=True, slots=True)
class Child:
    """One child, from its spawn to its reap. ``birth`` identifies it.

    ``deadline_at``: when its phase has lasted too long; None: the phase may last.
    ``retired``: the child no longer holds its slot. ``finishing``: it was ordered to
    end its connections.
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
"""How far a heartbeat may be ahead of ``now``, which may have been read before it."""


def credible_beat(beat_at: float, now: float) -> float:
    """The heartbeat, or 0.0 for one from the future: only a faulty child writes that,
    and it would hide a hang for ever.
    """
    return beat_at if beat_at <= now + BEAT_AHEAD_S else 0.0


@dataclass(frozen=True, slots=True)
class Throttle:
    """The back-off of one slot in one generation. ``failures``: early deaths in a row.
    ``retry_at``: when the slot may be filled again.
    """

    failures: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Exit:
    """How the master will end: an exit code of :class:`unpd.names.ExitCode`, and the
    reason for the log.
    """

    code: int
    reason: str


@dataclass(slots=True)
class State:
    """Everything the core remembers.

    ``wanted`` belongs to ``generation``, the current one. While a reload is being
    proved, ``candidate`` belongs to ``last_generation``. ``requests`` are the control
    requests that wait for the reload under way. ``queued_requests`` wait for one more
    reload after it (empty: only a signal asked for it; None: no reload is queued).
    ``phase_deadline_at`` bounds STARTING. ``beats_read_at`` is when heartbeats were
    last read. ``last_trouble`` is the latest reason why a child failed.
    """

    wanted: Wanted
    phase: MasterPhase = MasterPhase.STARTING
    generation: int = 1
    last_generation: int = 1
    candidate: Wanted | None = None
    children: dict[int, Child] = field(default_factory=dict)
    throttles: dict[tuple[int, Slot], Throttle] = field(default_factory=dict)
    next_birth: int = 1
    requests: tuple[int, ...] = ()
    queued_requests: tuple[int, ...] | None = None
    phase_deadline_at: float | None = None
    stop_began_at: float = 0.0
    exit: Exit | None = None
    last_trouble: str = ""
    beats_read_at: float = 0.0

    def copy(self) -> "State":
        """A state that can change without changing this one. The records in it are
        frozen, so both may share them.
        """
        return replace(self, children=dict(self.children), throttles=dict(self.throttles))

    def holder(self, generation: int, slot: Slot) -> Child | None:
        """The child that holds ``slot`` in ``generation``."""
        for child in self.children.values():
            if child.slot == slot and child.generation == generation and not child.retired:
                return child
        return None
