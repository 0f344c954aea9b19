"""The master's core under test: its state, a manual clock, and what each step ordered.
No process, no socket, no time but the clock's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from tests.support.clock import ManualClock
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import next_deadline, step
from unpd.core.model import Child, Limits, State, Wanted
from unpd.names import ChildKind, ChildOrder, ChildPhase

LIMITS = Limits(grace_s=10.0, reload_grace_s=60.0, start_timeout_s=10.0, heartbeat_timeout_s=30.0)
"""The built-in ones."""

LEVELS = {
    "exporter.died": "warning",
    "exporter.drain_timed_out": "warning",
    "exporter.failed": "error",
    "exporter.hung": "error",
    "exporter.ready": "info",
    "exporter.start_timed_out": "error",
    "fork.failed": "error",
    "master.ready": "info",
    "master.start_failed": "error",
    "master.stopping": "info",
    "pool.not_resized": "warning",
    "pool.resized": "info",
    "reload.proving": "info",
    "reload.refused": "error",
    "reload.succeeded": "info",
    "worker.died": "warning",
    "worker.drain_cut": "info",
    "worker.drain_timed_out": "warning",
    "worker.failed": "error",
    "worker.hung": "error",
    "worker.ready": "info",
    "worker.start_timed_out": "error",
}
"""The level of each log event of the core. :meth:`Machine.take` compares every line."""

Kind = TypeVar("Kind", bound=fx.Effect)


def wants(
    workers: int | Mapping[str, int] = 2, *, exporter: bool = False, **limits: float
) -> Wanted:
    """What a configuration wants: workers of the default pool or by pool, and limits
    where they are not the usual ones.
    """
    by_pool = {"default": workers} if isinstance(workers, int) else workers
    return Wanted(by_pool, exporter, replace(LIMITS, **limits))


class Done(tuple[fx.Effect, ...]):
    """The effects of one step, or of several in order."""

    __slots__ = ()

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The effects of one sort."""
        return [effect for effect in self if isinstance(effect, kind)]

    @property
    def born(self) -> list[Child]:
        """The children that were ordered."""
        return [effect.child for effect in self.of(fx.Spawn)]

    def told(self, order: ChildOrder) -> list[int]:
        """Who was given this order, by birth."""
        return [effect.birth for effect in self.of(fx.Tell) if effect.order is order]

    @property
    def orders(self) -> list[tuple[int, ChildOrder]]:
        """All orders to children, as (birth, order)."""
        return [(effect.birth, effect.order) for effect in self.of(fx.Tell)]

    @property
    def answers(self) -> list[tuple[int, str]]:
        """Answers to reloads, as (request, why refused or "")."""
        return [(effect.request, effect.refused) for effect in self.of(fx.AnswerReload)]

    def notes(self, event: str) -> list[dict[str, fx.Field]]:
        """The fields of each log line of this event."""
        return [dict(effect.fields) for effect in self.of(fx.Note) if effect.event == event]


class Machine:
    """The core, driven as the shell drives it."""

    def __init__(self, wanted: Wanted) -> None:
        self.clock = ManualClock()
        self.state = State(wanted)

    def take(self, *events: ev.Event) -> Done:
        """Take these events now, one after another."""
        effects: list[fx.Effect] = []
        for event in events:
            self.state, ordered = step(self.state, event, self.clock.now)
            effects.extend(ordered)
        for effect in effects:
            if isinstance(effect, fx.Note):
                assert effect.level == LEVELS[effect.event], effect
        return Done(effects)

    def wait(self, seconds: float) -> Done:
        """Let time pass; wake whenever something is due, as the shell does."""
        end = self.clock.now + seconds
        effects: list[fx.Effect] = []
        while (at := next_deadline(self.state)) is not None and at <= end:
            before = self.state
            self.clock.advance_to(at)
            effects.extend(self.take(ev.TimePassed()))
            assert self.state != before, f"nothing happened at the deadline {at}"
        self.clock.advance_to(end)
        return Done(effects)

    def ready(self, *births: int) -> Done:
        """These children report that they serve."""
        return self.take(*(ev.ChildReady(birth) for birth in births))

    def exit(self, *births: int, ended: str = "exit code 0") -> Done:
        """These children are reaped."""
        return self.take(*(ev.ChildExited(birth, ended) for birth in births))

    def beat(self, *births: int) -> Done:
        """The master looks at the heartbeats: these children have beaten right now, the
        others last when they became ready.
        """
        return self.take(
            ev.BeatsRead(
                dict.fromkeys(self.state.children, 0.0) | dict.fromkeys(births, self.clock.now)
            )
        )

    def reload(self, wanted: Wanted, request: int | None = None) -> Done:
        """Somebody asks for a reload, and the file holds ``wanted``."""
        return self.take(ev.ReloadAsked(request), ev.ConfigLoaded(wanted))

    def stop(self, *, quick: bool = False) -> Done:
        """Somebody asks for the end."""
        return self.take(ev.StopAsked(quick, "a test"))

    @property
    def due_in(self) -> float | None:
        """Seconds until the machine wants to be woken; None: it waits for
        events alone.
        """
        at = next_deadline(self.state)
        return None if at is None else at - self.clock.now

    def births(
        self, *phases: ChildPhase, generation: int | None = None, kind: ChildKind | None = None
    ) -> list[int]:
        """The children in one of these phases (none given: in any), of one generation
        and kind if given, by birth.
        """
        return [
            child.birth
            for child in self.state.children.values()
            if (not phases or child.phase in phases)
            and generation in (None, child.generation)
            and kind in (None, child.slot.kind)
        ]

    def child(self, birth: int) -> Child:
        """A living child."""
        return self.state.children[birth]


def booted(wanted: Wanted) -> Machine:
    """A machine whose first generation was just ordered."""
    machine = Machine(wanted)
    machine.take(ev.Booted())
    return machine


def running(wanted: Wanted) -> Machine:
    """A machine whose first generation is ready. Births count from 1; the exporter, if
    there is one, is the first.
    """
    machine = booted(wanted)
    while starting := machine.births(ChildPhase.STARTING):
        machine.ready(*starting)
        machine.take(ev.TimePassed())
    return machine


def proving(wanted: Wanted, candidate: Wanted, request: int | None = None) -> Machine:
    """A running machine that proves a candidate: generation 2 was just ordered."""
    machine = running(wanted)
    machine.reload(candidate, request)
    return machine
