"""Drives the master's core in unit tests: its state, a manual clock, and the effects of
each step. It uses no process, no socket, and no other clock. The tests in
tests/unit/core and the property tests use it.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from tests.support.clock import ManualClock
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import next_deadline, step
from unpd.core.model import Child, Limits, State, Wanted, WantedPool
from unpd.log_events.row import Field
from unpd.log_events.table import EVENTS
from unpd.names import MAX_CHILDREN, ChildKind, ChildOrder, ChildPhase

LIMITS = Limits(
    lame_duck_s=0.0,
    grace_s=10.0,
    reload_grace_s=60.0,
    start_timeout_s=10.0,
    heartbeat_timeout_s=30.0,
)
"""The built-in limits."""
ENDLESS = 300
"""After so many steps a machine that comes to no rest fails its test."""

Kind = TypeVar("Kind", bound=fx.Effect)


def wants(
    workers: int | Mapping[str, int] = 2,
    *,
    exporter: bool = False,
    recipes: Mapping[str, str] = MappingProxyType({}),
    **limits: float,
) -> Wanted:
    """Build a Wanted: the number of workers of the default pool, or workers by pool,
    the recipes of pools, and limits that differ from the built-in ones.
    """
    by_pool = {"default": workers} if isinstance(workers, int) else workers
    counts = {(ChildKind.EXPORTER, "exporter"): 1} if exporter else {}
    counts |= {(ChildKind.WORKER, pool): count for pool, count in by_pool.items()}
    pools = {
        (kind, pool): WantedPool(count, recipes.get(pool, ""))
        for (kind, pool), count in counts.items()
    }
    return Wanted(pools, replace(LIMITS, **limits))


def wants_iterative(*services: str, **limits: float) -> Wanted:
    """Build a Wanted with a slot of its own for each of these services."""
    pool = WantedPool(len(services), "", services=services)
    return Wanted({(ChildKind.ITERATIVE, "default"): pool}, replace(LIMITS, **limits))


class Effects(tuple[fx.Effect, ...]):
    """The effects of one step, or of several in order."""

    __slots__ = ()

    def of_type(self, kind: type[Kind]) -> list[Kind]:
        """Return the effects of one type."""
        return [effect for effect in self if isinstance(effect, kind)]

    @property
    def spawned(self) -> list[Child]:
        """The children that the step spawned."""
        return [effect.child for effect in self.of_type(fx.Spawn)]

    def receivers(self, order: ChildOrder) -> list[int]:
        """Return the births that received this order."""
        return [effect.birth for effect in self.of_type(fx.Tell) if effect.order is order]

    @property
    def orders(self) -> list[tuple[int, ChildOrder]]:
        """All orders to children, as (birth, order)."""
        return [(effect.birth, effect.order) for effect in self.of_type(fx.Tell)]

    @property
    def answers(self) -> list[tuple[int, str]]:
        """The answers to reloads, as (request, reason of refusal or "")."""
        return [(effect.request, effect.refused) for effect in self.of_type(fx.AnswerReload)]

    @property
    def outcomes(self) -> dict[str, str]:
        """What the reload that succeeded did to each pool, with its number of
        children.
        """
        (report,) = self.of_type(fx.ReportReload)
        return {change.pool: f"{change.outcome} {change.children}" for change in report.pools}

    def log_lines(self, event: str) -> list[dict[str, Field]]:
        """Return the fields of each log line of this event."""
        return [dict(effect.fields) for effect in self.of_type(fx.Note) if effect.event == event]


class Machine:
    """Drives the core as the shell does."""

    def __init__(self, wanted: Wanted, max_children: int = MAX_CHILDREN) -> None:
        self.clock = ManualClock()
        self.state = State(wanted, max_children=max_children)
        self._edits = 0

    def take(self, *events: ev.Event) -> Effects:
        """Take these events now, one after another. Check that each log line is in the
        table of log events.
        """
        effects: list[fx.Effect] = []
        for event in events:
            self.state, ordered = step(self.state, event, self.clock.now)
            effects.extend(ordered)
        for effect in effects:
            if isinstance(effect, fx.Note):
                assert effect.event in EVENTS, effect
        return Effects(effects)

    def wait(self, seconds: float) -> Effects:
        """Let time pass, and wake at each deadline as the shell does."""
        end = self.clock.now + seconds
        effects: list[fx.Effect] = []
        wakes = 0
        while (at := next_deadline(self.state)) is not None and at <= end:
            wakes += 1
            assert wakes < ENDLESS, "the deadlines never end"
            before = self.state
            self.clock.advance_to(at)
            effects.extend(self.take(ev.TimePassed()))
            assert self.state != before, f"nothing happened at the deadline {at}"
        self.clock.advance_to(end)
        return Effects(effects)

    def ready(self, *births: int) -> Effects:
        """Report these children as ready."""
        return self.take(*(ev.ChildReady(birth) for birth in births))

    def exit(self, *births: int, ended: str = "exit code 0") -> Effects:
        """Report these children as reaped."""
        return self.take(*(ev.ChildExited(birth, ended) for birth in births))

    def beat(self, *births: int) -> Effects:
        """Report heartbeats: these children have beaten now, the others last when they
        became ready.
        """
        return self.take(
            ev.BeatsRead(
                dict.fromkeys(self.state.children, 0.0) | dict.fromkeys(births, self.clock.now)
            )
        )

    def edited(self, wanted: Wanted, changed: Collection[str] | None = None) -> Wanted:
        """Return ``wanted`` with new recipes for the pools ``changed`` (None: all), and
        the current recipes for the other pools.
        """
        self._edits += 1
        pools = {
            key: replace(pool, recipe=f"edit {self._edits}")
            if changed is None or key[1] in changed
            else replace(pool, recipe=self.state.wanted.pools[key].recipe)
            for key, pool in wanted.pools.items()
        }
        return replace(wanted, pools=pools)

    def reload(
        self, wanted: Wanted, request: int | None = None, *, changed: Collection[str] | None = None
    ) -> Effects:
        """Ask for a reload with a file that holds ``wanted`` and changes the recipes of
        the pools ``changed`` (None: of all pools).
        """
        return self.take(ev.ReloadAsked(request), ev.ConfigLoaded(self.edited(wanted, changed)))

    def renew(self, wanted: Wanted) -> Effects:
        """Report renewed listeners in all pools of the running configuration."""
        return self.take(ev.ListenersRenewed(), ev.ConfigLoaded(self.edited(wanted), renewal=True))

    def stop(self, *, quick: bool = False) -> Effects:
        """Ask for a stop."""
        return self.take(ev.StopAsked(quick, "a test"))

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the next deadline; None if the machine waits for events
        alone.
        """
        at = next_deadline(self.state)
        return None if at is None else at - self.clock.now

    def births(
        self, *phases: ChildPhase, generation: int | None = None, kind: ChildKind | None = None
    ) -> list[int]:
        """Return the births of the children in one of these phases (none given: any
        phase), filtered by generation and kind if given.
        """
        return [
            child.birth
            for child in self.state.children.values()
            if (not phases or child.phase in phases)
            and generation in (None, child.generation)
            and kind in (None, child.slot.kind)
        ]

    def child(self, birth: int) -> Child:
        """Return a living child."""
        return self.state.children[birth]


def booted(wanted: Wanted, max_children: int = MAX_CHILDREN) -> Machine:
    """Create a machine that has just spawned its first generation."""
    machine = Machine(wanted, max_children)
    machine.take(ev.Booted())
    return machine


def running(wanted: Wanted, max_children: int = MAX_CHILDREN) -> Machine:
    """Create a machine whose first generation is ready. Births count from 1; an
    exporter comes first.
    """
    machine = booted(wanted, max_children)
    for _ in range(ENDLESS):
        starting = machine.births(ChildPhase.STARTING)
        if not starting:
            return machine
        machine.ready(*starting)
        machine.take(ev.TimePassed())
    raise AssertionError("the children never become ready")


def proving(
    wanted: Wanted,
    candidate: Wanted,
    request: int | None = None,
    *,
    max_children: int = MAX_CHILDREN,
) -> Machine:
    """Create a running machine that proves a candidate, in which every pool changed. It
    has just spawned generation 2.
    """
    machine = running(wanted, max_children)
    machine.reload(candidate, request)
    return machine
