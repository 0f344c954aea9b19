"""The core's model: the children, what is wanted, and the reload under way.

All times are seconds of one monotonic clock; callers pass the current one as ``now``.
The records are frozen. :class:`State` may change, so ``step`` copies it first.

Used by the whole core and by the modules of the master that read the state.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from unpd.names import (
    MAX_CHILDREN,
    MAX_WORKERS,
    ChildKind,
    ChildPhase,
    MasterPhase,
    PoolOutcome,
)


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """The logical place of a child. It survives respawns. ``index`` counts from 0
    within the pool. ``service``: the service that this slot alone serves, by which it
    is called; "" where all slots of the pool serve the same.
    """

    kind: ChildKind
    pool: str
    index: int
    service: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.service or f"{self.pool}/{self.index}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The timeouts, in seconds, that a configuration gives to its generation. A
    ``lame_duck_s`` of 0 leaves that time out. A ``reload_grace_s`` of 0 lets retired
    children drain as long as connections last.
    """

    lame_duck_s: float
    grace_s: float
    reload_grace_s: float
    start_timeout_s: float
    heartbeat_timeout_s: float


Recipe = object
"""Everything that the children of a pool are born with, as a value that only its maker
understands. The core compares two of them with ``==``.
"""

PoolKey = tuple[ChildKind, str]
"""A kind, and the name of a pool."""


@dataclass(frozen=True, slots=True)
class WantedPool:
    """The children of one kind that a pool wants. ``count``: how many, at least 1.
    ``rules``: what its children are born with that only decides who may come in; the
    ``recipe`` has all else. ``generation``: that of the pool. A reload that leaves the
    pool alone does not change it. ``same_since``: the first generation with this
    recipe: the children from that on differ in their rules alone. ``services``: the one
    of each slot, where each serves another; empty where one child serves as well as
    another.
    """

    count: int
    recipe: Recipe
    rules: Recipe = None
    generation: int = 1
    same_since: int = 1
    services: tuple[str, ...] = ()

    def slot(self, key: PoolKey, index: int) -> Slot:
        """The slot with this index of the pool, whose kind and name are ``key``."""
        return Slot(*key, index, self.services[index] if self.services else "")

    def kept_of(self, current: "WantedPool | None") -> int:
        """How many children of ``current``, the same pool before, it may go on with:
        none if its recipe or its rules changed.
        """
        return current.count if current and current.generation == self.generation else 0

    def after(self, old: "WantedPool | None", generation: int) -> "WantedPool":
        """The same as the successor of ``old``. If nothing changed it keeps the
        generation, otherwise it is of ``generation``.
        """
        if old is None or old.recipe != self.recipe:
            return replace(self, generation=generation, same_since=generation)
        kept = old.generation if old.rules == self.rules else generation
        return replace(self, generation=kept, same_since=old.same_since)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The children that one configuration wants, and its limits."""

    pools: Mapping[PoolKey, WantedPool]
    limits: Limits

    def slots(self) -> Iterator[tuple[int, Slot]]:
        """Every slot that must hold a child, with the generation of its pool."""
        for key, pool in self.pools.items():
            for index in range(pool.count):
                yield pool.generation, pool.slot(key, index)

    def added_to(self, current: "Wanted") -> Iterator[tuple[int, Slot]]:
        """Those of its :meth:`slots` that ``current`` does not want: all slots of the
        pools that changed, and those by which the other pools grow.
        """
        for key, pool in self.pools.items():
            for index in range(pool.kept_of(current.pools.get(key)), pool.count):
                yield pool.generation, pool.slot(key, index)

    def count_added_to(self, current: "Wanted") -> int:
        """How many slots :meth:`added_to` yields."""
        pools = self.pools.items()
        return sum(max(0, pool.count - pool.kept_of(current.pools.get(key))) for key, pool in pools)

    @property
    def count(self) -> int:
        """How many children it wants in all."""
        return sum(pool.count for pool in self.pools.values())

    def has(self, generation: int, slot: Slot) -> bool:
        """Whether ``slot`` must hold a child of ``generation``."""
        pool = self.pools.get((slot.kind, slot.pool))
        return pool is not None and pool.generation == generation and slot.index < pool.count

    def spares(self, generation: int, slot: Slot) -> bool:
        """Whether the connections of a retired child of ``generation`` in ``slot`` may
        last: only the rules have changed since, and these are about new connections.
        """
        pool = self.pools.get((slot.kind, slot.pool))
        return pool is not None and pool.same_since <= generation < pool.generation

    @property
    def workers(self) -> dict[str, int]:
        """The number of workers, by pool."""
        pools = self.pools.items()
        return {name: pool.count for (kind, name), pool in pools if kind is ChildKind.WORKER}

    def after(self, current: "Wanted", generation: int, every_pool: bool) -> "Wanted":
        """The same as the successor of ``current``. A pool that did not change keeps
        its generation, unless ``every_pool``; the others are of ``generation``.
        """
        before = {} if every_pool else current.pools
        pools = {key: pool.after(before.get(key), generation) for key, pool in self.pools.items()}
        return replace(self, pools=pools)

    def sized_as(self, current: "Wanted") -> "Wanted":
        """The same with as many children in each pool as ``current`` wants there."""
        pools = {
            key: replace(
                pool, count=current.pools[key].count if key in current.pools else pool.count
            )
            for key, pool in self.pools.items()
        }
        return replace(self, pools=pools)

    def with_workers(self, pool: str, count: int) -> "Wanted":
        """The same with ``count`` workers in ``pool``, which has some."""
        key = (ChildKind.WORKER, pool)
        return replace(self, pools={**self.pools, key: replace(self.pools[key], count=count)})

    def resized(self, pool: str, delta: int) -> "Wanted":
        """The same with ``delta`` more workers in ``pool``, but at least one there.

        Returns itself if the pool has no workers, or if more than MAX_WORKERS would be
        wanted in all.
        """
        workers = self.workers
        if pool not in workers or sum(workers.values()) + delta > MAX_WORKERS:
            return self
        return self.with_workers(pool, max(1, workers[pool] + delta))


@dataclass(frozen=True, slots=True)
class PoolChange:
    """What a reload did to the children of one kind in a pool. ``children``: how many
    it wants now; ``generation``: that of the pool, of the old one if it was removed.
    """

    kind: ChildKind
    pool: str
    outcome: PoolOutcome
    children: int
    generation: int


def pool_changes(before: Wanted, after: Wanted) -> tuple[PoolChange, ...]:
    """What came of each pool of two configurations, the pools of ``after`` first."""
    present = (
        PoolChange(*key, _outcome(before.pools.get(key), pool), pool.count, pool.generation)
        for key, pool in after.pools.items()
    )
    removed = (
        PoolChange(*key, PoolOutcome.REMOVED, 0, pool.generation)
        for key, pool in before.pools.items()
        if key not in after.pools
    )
    return (*present, *removed)


def _outcome(old: WantedPool | None, new: WantedPool) -> PoolOutcome:
    if old is None:
        return PoolOutcome.ADDED
    if old.generation != new.generation:
        return PoolOutcome.RESPAWNED
    return PoolOutcome.UNCHANGED if old.count == new.count else PoolOutcome.RESIZED


@dataclass(frozen=True, slots=True)
class Child:
    """One child, from its spawn to its reap. ``birth`` identifies it.

    ``deadline_at``: when its phase has lasted too long; None: the phase may last.
    ``retired_by``: the number of the reload by which it lost its slot, None while it
    holds it. ``drain_ends_at``: when its connections have to end, once it has lost its
    slot; inf: they may last. A kill changes ``deadline_at``, and leaves this as it is:
    the sessions of a killed dispatcher go on. ``spared``: they may last because only
    rules have changed since it was born. ``refused``: it was of a candidate that was
    refused. ``finishing``: it was ordered to end its connections.
    """

    birth: int
    slot: Slot
    generation: int
    phase: ChildPhase
    born_at: float
    ready_at: float | None = None
    deadline_at: float | None = None
    retired_by: int | None = None
    drain_ends_at: float = math.inf
    spared: bool = False
    refused: bool = False
    finishing: bool = False

    @property
    def retired(self) -> bool:
        """Whether it no longer holds its slot."""
        return self.retired_by is not None


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
class Scale:
    """The number of workers that an operator has given to a pool. ``configured``: the
    one of the configuration at that time.
    """

    workers: int
    configured: int

    @property
    def is_none(self) -> bool:
        """Whether it is what the configuration wants anyway."""
        return self.workers == self.configured


@dataclass(frozen=True, slots=True)
class Exit:
    """How the master will end: an exit code of :class:`unpd.names.ExitCode`, and the
    reason for the log.
    """

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A reload that was asked for. ``requests``: the control requests that wait for its
    end; none if only a signal asked. ``every_pool``: it also replaces the children of
    pools whose recipe did not change. ``renewal``: nobody asked: it only gives renewed
    listeners to the children, and reads no file.
    """

    requests: tuple[int, ...] = ()
    every_pool: bool = False
    renewal: bool = False

    def __add__(self, other: "Asked") -> "Asked":
        """One reload that does what both ask for."""
        return Asked(self.requests + other.requests, self.every_pool or other.every_pool)


@dataclass(slots=True)
class State:
    """Everything the core remembers.

    ``wanted`` is the current configuration's; the reload of the number ``generation``
    adopted it. Each of its pools has a generation of its own, which is older if later
    reloads left the pool alone. While a reload is being proved, ``candidate`` is what
    the new configuration wants, and ``last_generation`` is the number of that reload.
    In LAME, only a renewal of listeners is proved.
    ``asked`` is the reload under way, ``queued`` one more reload after it.
    ``phase_deadline_at`` bounds STARTING, CUTTING and LAME. ``beats_read_at`` is when
    heartbeats were last read. ``last_trouble`` is the latest reason why a child failed.
    ``max_children`` have room at a time. ``scales`` are the numbers of workers that an
    operator has given to pools, ``candidate_scales`` those of them that the candidate
    keeps. ``stop_asked_by``: the signal or the command that asked for the stop before
    which the daemon is lame. ``sessions_end_at``: when a stop ends every connection,
    those of sessions that have no dispatcher among them.
    """

    wanted: Wanted
    phase: MasterPhase = MasterPhase.STARTING
    generation: int = 1
    last_generation: int = 1
    candidate: Wanted | None = None
    children: dict[int, Child] = field(default_factory=dict)
    throttles: dict[tuple[int, Slot], Throttle] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    candidate_scales: Mapping[str, Scale] = field(default_factory=dict)
    next_birth: int = 1
    asked: Asked = Asked()
    queued: Asked | None = None
    phase_deadline_at: float | None = None
    stop_asked_by: str = ""
    stop_began_at: float = 0.0
    sessions_end_at: float = 0.0
    exit: Exit | None = None
    last_trouble: str = ""
    beats_read_at: float = 0.0
    max_children: int = MAX_CHILDREN

    def copy(self) -> "State":
        """A state that can change without changing this one. The records in it are
        frozen, so both may share them.
        """
        return replace(self, children=dict(self.children), throttles=dict(self.throttles))

    def wants(self, generation: int, slot: Slot) -> bool:
        """Whether the current configuration or the candidate wants a child of
        ``generation`` in ``slot``.
        """
        candidate = self.candidate is not None and self.candidate.has(generation, slot)
        return candidate or self.wanted.has(generation, slot)

    def drain_ends_at(self, birth: int) -> float | None:
        """When the connections of a child have to end, inf: they may last; None if the
        child holds its slot, or is gone.
        """
        child = self.children.get(birth)
        return child.drain_ends_at if child is not None and child.retired else None

    def is_current(self, child: Child) -> bool:
        """Whether the child holds a slot of the current configuration."""
        return not child.retired and self.wanted.has(child.generation, child.slot)

    @property
    def proved(self) -> Wanted | None:
        """The candidate, if there is room for its children."""
        return None if self.phase is MasterPhase.CUTTING else self.candidate

    def is_candidate(self, child: Child) -> bool:
        """Whether the reload under way has to prove the child."""
        return (
            not child.retired
            and self.proved is not None
            and self.proved.has(child.generation, child.slot)
            and not self.wanted.has(child.generation, child.slot)
        )

    def holder(self, generation: int, slot: Slot) -> Child | None:
        """The child that holds ``slot`` in ``generation``."""
        for child in self.children.values():
            if child.slot == slot and child.generation == generation and not child.retired:
                return child
        return None
