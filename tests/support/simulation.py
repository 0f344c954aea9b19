"""Simulates the shell around the master's core, with children that crash or hang, a
kernel that may refuse forks, and a configuration file that may be invalid.

The property test of the core uses it. :class:`Simulation` queues events, takes them
through ``step``, performs the effects on its simulated children, and checks all
invariants after every step. It uses no process and no time but its own clock.
"""

import copy
from collections import deque
from dataclasses import dataclass, replace

from tests.support.clock import ManualClock
from tests.support.machine import ENDLESS
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.converge import MAX_RETIRED_GENERATIONS, missing_room
from unpd.core.machine import next_deadline, step
from unpd.core.model import Asked, Slot, State, Wanted
from unpd.names import (
    ENDING_PHASES,
    MAX_CHILDREN,
    ChildKind,
    ChildOrder,
    ChildPhase,
    ExitCode,
    MasterPhase,
)

LEAVING = (ChildOrder.RETIRE, ChildOrder.FINISH, ChildOrder.LEAVE)
STEPS_UNTIL_REST = 3000
"""Far more steps than any run needs. A busy loop would need infinitely many."""


@dataclass(slots=True)
class SimulatedChild:
    """A simulated child. ``hung_at``: the time of its last heartbeat, None while it
    beats. ``deaf``: only SIGKILL ends it. ``lasting``: it was retired without a
    deadline, for as long as its connections last.
    """

    birth: int
    slot: Slot
    generation: int
    reported: bool = False
    hung_at: float | None = None
    deaf: bool = False
    ordered_to_leave: bool = False
    lasting: bool = False


class Simulation:
    """The simulated shell. ``config_file`` is the content of the configuration file
    (None: invalid). ``forks_to_fail`` is the number of next forks that the kernel
    refuses. ``max_children`` have room at a time.
    """

    def __init__(self, wanted: Wanted, max_children: int = MAX_CHILDREN) -> None:
        self.clock = ManualClock()
        self.state = State(wanted, max_children=max_children)
        self.queue: deque[ev.Event] = deque([ev.Booted()])
        self.children: dict[int, SimulatedChild] = {}
        self.config_file: Wanted | None = wanted
        self.forks_to_fail = 0
        self.leave: fx.Leave | None = None
        self.left_at = 0.0
        self.births: list[int] = []
        self.shown_phases: dict[int, ChildPhase] = {}
        """The phase of each child on the scoreboard."""
        self.unreaped: set[int] = set()
        """Births whose end the core does not know yet."""
        self.has_candidate = False
        self.requests: list[int] = []
        self.answers: dict[int, str] = {}
        self.scales_asked = 0
        self.open_scales: deque[int] = deque()
        """Requests for numbers of workers that are not answered yet."""
        self.renewals = 0
        self.open_reloads = 0
        """Reloads that were asked for, have begun and are not yet counted as ended."""

    # --- what happens to it -----------------------------------------------------------

    def report_ready(self, child: SimulatedChild) -> None:
        """Report that the child serves."""
        child.reported = True
        self.queue.append(ev.ChildReady(child.birth))

    def report_failure(self, child: SimulatedChild) -> None:
        """Report that the child cannot serve, and end it."""
        child.reported = True
        self.queue.append(ev.ChildFailed(child.birth, "the moon is full", ExitCode.PRIVILEGE))
        self.end_child(child)

    def end_child(self, child: SimulatedChild) -> None:
        """End the child and reap it."""
        del self.children[child.birth]
        self.queue.append(ev.ChildExited(child.birth, "killed by SIGSEGV"))

    def read_heartbeats(self) -> None:
        """Report the heartbeats, as the shell's sweep does."""
        beats = {
            child.birth: 0.0
            if not child.reported
            else self.clock.now
            if child.hung_at is None
            else child.hung_at
            for child in self.children.values()
        }
        self.queue.append(ev.BeatsRead(beats))

    def ask_reload(self, answer: bool, every_pool: bool = False) -> None:
        """Ask for a reload, over the control socket (with ``answer``) or by a signal.
        ``every_pool``: of unchanged pools too.
        """
        if answer:
            self.requests.append(len(self.requests) + 1)
        self.queue.append(ev.ReloadAsked(self.requests[-1] if answer else None, every_pool))

    def scale(self, pool: str, workers: int) -> None:
        """Ask for a number of workers over the control socket."""
        scaled = self.state.scales.get(pool)
        wanted = self.state.wanted.workers.get(pool, 1)
        self.scales_asked += 1
        self.open_scales.append(self.scales_asked)
        configured = scaled.configured if scaled else wanted
        self.queue.append(ev.PoolScaled(self.scales_asked, pool, workers, configured))

    def renew_listeners(self) -> None:
        """Report that a listener had to be opened anew."""
        self.queue.append(ev.ListenersRenewed())

    def renewed_config(self) -> Wanted:
        """Return what the running configuration wants with new listeners. It has the
        numbers of the file, which signals may have changed since.
        """
        self.renewals += 1
        pools = {
            key: replace(pool, count=1, recipe=f"{pool.recipe} {self.renewals}")
            for key, pool in self.state.wanted.pools.items()
        }
        return replace(self.state.wanted, pools=pools)

    # --- the shell --------------------------------------------------------------------

    def turn(self) -> None:
        """Take the queued events, as the shell does between two waits."""
        at = next_deadline(self.state)
        if at is not None and at <= self.clock.now:
            self.queue.append(ev.TimePassed())
        for _ in range(ENDLESS):
            if not self.queue:
                return
            self._take(self.queue.popleft())
        raise AssertionError("the events never end")

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.ChildExited | ev.ForkFailed):
            self.unreaped.discard(event.birth)
        before, untouched = self.state, copy.deepcopy(self.state)
        self.state, effects = step(before, event, self.clock.now)
        assert before == untouched, f"{event} changed the state that it was given"
        for effect in effects:
            self._perform(effect)
        self._check(event, before, effects)

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Spawn(child):
                self._fork(SimulatedChild(child.birth, child.slot, child.generation))
            case fx.Tell(birth, order):
                assert birth in self.unreaped, f"{order} to {birth}, which is gone"
                self._hear(birth, order)
            case fx.LoadConfig() | fx.ReuseConfig():
                self._load(effect)
            case fx.AdoptConfig():
                assert self.has_candidate, "a configuration was adopted without being loaded"
                self.has_candidate = False
            case fx.DropConfig():
                self.has_candidate = False
            case fx.AnswerReload(request, refused):
                assert request in self.requests, f"{request} is no request"
                assert request not in self.answers, f"{request} is answered twice"
                self.answers[request] = refused
            case fx.CountReload():
                self.open_reloads -= 1
            case fx.ShowPhase(child):
                self.shown_phases[child.birth] = child.phase
            case fx.Leave():
                assert not self.children, "the master leaves while children live"
                self.leave, self.left_at = effect, self.clock.now
            case _:
                pass

    def _load(self, effect: fx.LoadConfig | fx.ReuseConfig) -> None:
        assert not self.has_candidate, "a configuration is loaded while another one is a candidate"
        asked_for = isinstance(effect, fx.LoadConfig)
        self.open_reloads += asked_for
        wanted = self.config_file if asked_for else self.renewed_config()
        self.has_candidate = wanted is not None
        self.queue.append(
            ev.ConfigLoaded(wanted, renewal=not asked_for)
            if wanted
            else ev.ConfigRefused("nonsense in line 1")
        )

    def _fork(self, child: SimulatedChild) -> None:
        assert child.birth > max(self.births, default=0), "a birth was used twice"
        assert self.state.wanted.has(child.generation, child.slot) or self.has_candidate, (
            "a child was spawned for a generation that does not exist"
        )
        self.births.append(child.birth)
        self.unreaped.add(child.birth)
        self.shown_phases[child.birth] = ChildPhase.STARTING
        if self.forks_to_fail:
            self.forks_to_fail -= 1
            self.queue.append(ev.ForkFailed(child.birth, "Cannot allocate memory"))
        else:
            self.children[child.birth] = child

    def _hear(self, birth: int, order: ChildOrder) -> None:
        child = self.children.get(birth)
        if child is not None and (
            order is ChildOrder.KILL or (order is ChildOrder.ABORT and not child.deaf)
        ):
            self.end_child(child)
        elif child is not None and order in LEAVING:
            child.ordered_to_leave = True
            child.lasting = (
                order is ChildOrder.RETIRE and self.state.wanted.limits.reload_grace_s == 0
            )

    # --- the invariants ---------------------------------------------------------------

    def _check(self, event: ev.Event, before: State, effects: tuple[fx.Effect, ...]) -> None:
        state = self.state
        self._check_children()
        self._check_reloads()
        answered = [one.request for one in effects if isinstance(one, fx.AnswerScale)]
        asked = [self.open_scales.popleft()] if isinstance(event, ev.PoolScaled) else []
        assert answered == asked, "a scale is answered once, in its own step"
        assert state.throttles.keys() <= set(state.wanted.slots()), (
            "a throttle exists for a slot that is not wanted"
        )
        if any(isinstance(effect, fx.AdoptConfig) for effect in effects):
            self._check_adoption(event, before, effects)
        if any(isinstance(effect, fx.DropConfig) for effect in effects):
            self._check_refusal(event, before, effects)
        spawned = any(isinstance(effect, fx.Spawn) for effect in effects)
        assert not (spawned and before.phase is MasterPhase.STOPPING), (
            "a child is spawned during the stop"
        )
        closed = any(isinstance(effect, fx.CloseListeners) for effect in effects)
        stops = MasterPhase.STOPPING in (state.phase, before.phase)
        assert closed == (stops and before.phase is not state.phase), (
            "the listeners are closed before the stop, or again"
        )
        due = next_deadline(state)
        if isinstance(event, ev.TimePassed):
            assert due is None or due > self.clock.now or spawned, (
                f"nothing was done at the deadline {due}"
            )
        if state.phase is MasterPhase.LAME:
            assert state.phase_deadline_at is not None, "no deadline ends the lame time"
        if state.phase is MasterPhase.STOPPING:
            self._check_stopping()

    def _check_children(self) -> None:
        state = self.state
        assert state.children.keys() == self.unreaped, (
            "the core's children differ from the births that are not reaped"
        )
        for refused in (False, True):
            lasting_since = {
                child.retired_by or 0
                for child in state.children.values()
                if child.retired
                and child.refused == refused
                and child.phase is ChildPhase.DRAINING
                and not child.finishing
            }
            assert len(lasting_since) <= MAX_RETIRED_GENERATIONS, (
                f"children that were retired by {sorted(lasting_since)} keep their connections"
            )
        assert state.phase is MasterPhase.STOPPING or all(
            child.retired or state.is_current(child) or state.is_candidate(child)
            for child in state.children.values()
        ), "a child holds a slot that is not wanted"
        holders = [
            (child.generation, child.slot) for child in state.children.values() if not child.retired
        ]
        assert len(holders) == len(set(holders)), "two children hold one slot"
        for child in state.children.values():
            assert self.shown_phases[child.birth] is child.phase, (
                "the scoreboard shows another phase"
            )
            simulated = self.children.get(child.birth)
            lasting = child.phase is ChildPhase.READY or (
                simulated is not None and simulated.lasting and child.slot.kind is ChildKind.WORKER
            )
            assert lasting or child.deadline_at is not None or simulated is None, (
                f"no deadline ends {child}"
            )

    def _check_adoption(
        self, event: ev.Event, before: State, effects: tuple[fx.Effect, ...]
    ) -> None:
        """A reload that ends with success touches no child of an unchanged pool, unless
        the pool shrinks.
        """
        state = self.state
        if before.asked.renewal:
            # A signal may remove the last worker that the renewal waits for.
            wanted = (
                before.wanted.resized(event.pool, event.delta)
                if isinstance(event, ev.PoolResized)
                else before.wanted
            )
            assert state.wanted.workers == wanted.workers, "a renewal resized a pool"
        told = {effect.birth for effect in effects if isinstance(effect, fx.Tell)}
        for key, pool in before.wanted.pools.items():
            new = state.wanted.pools.get(key)
            if new is None or new.recipe != pool.recipe or before.asked.every_pool:
                continue
            assert new.generation == pool.generation, "an unchanged pool has a new generation"
            kept = {
                child.birth
                for child in before.children.values()
                if before.is_current(child)
                and (child.slot.kind, child.slot.pool) == key
                and child.slot.index < new.count
                and event != ev.ChildReady(child.birth)
            }
            assert not kept & told, f"the reload gave orders to {kept & told}"
            for birth in kept:
                assert state.children[birth] == before.children[birth]

    def _check_refusal(
        self, event: ev.Event, before: State, effects: tuple[fx.Effect, ...]
    ) -> None:
        """A reload that is refused ends no connection of a generation that drained
        before, but for room and where its time is over. In LAME the room is for the
        next renewal.
        """
        told = {
            effect.birth
            for effect in effects
            if isinstance(effect, fx.Tell) and effect.order is ChildOrder.FINISH
        }
        cut = {
            birth
            for birth in told & before.children.keys()
            if before.children[birth].retired and not before.children[birth].refused
        }
        crowded = missing_room(self.state) > 0 or (
            before.phase is MasterPhase.LAME and isinstance(event, ev.ConfigLoaded)
        )
        assert not cut or crowded or isinstance(event, ev.TimePassed | ev.StopAsked), (
            f"a reload that was refused cut {cut}"
        )

    def _check_reloads(self) -> None:
        state = self.state
        reloading = (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING)
        renews = state.phase is MasterPhase.LAME and state.asked == Asked(renewal=True)
        assert state.phase in reloading or renews or state.asked == Asked(), (
            "a request waits for a reload that does not run"
        )
        assert state.phase not in (MasterPhase.RUNNING, *ENDING_PHASES) or state.queued is None, (
            "a requested reload does not begin"
        )
        if renews:
            awaited = any(isinstance(one, ev.ConfigLoaded) and one.renewal for one in self.queue)
            assert (state.candidate is None) == awaited, "a renewal does not go on"
        else:
            assert (state.candidate is None) == (
                state.phase not in (MasterPhase.CUTTING, MasterPhase.PROVING)
            ), "candidate and phase do not match"
        assert state.phase in reloading or renews or not self.has_candidate, (
            "a candidate was neither adopted nor dropped"
        )
        counts = state.phase in reloading and not state.asked.renewal
        assert self.open_reloads == counts or state.phase in ENDING_PHASES, (
            "a reload was counted twice or never"
        )
        waiting = {*state.asked.requests, *(state.queued or Asked()).requests}
        queued = {event.request for event in self.queue if isinstance(event, ev.ReloadAsked)}
        assert {*self.requests} - {*self.answers} == waiting | (queued - {None}), (
            "a request is forgotten"
        )

    def _check_stopping(self) -> None:
        state = self.state
        latest_at = max(state.stop_began_at + state.wanted.limits.grace_s, self.clock.now)
        workers = [
            child for child in state.children.values() if child.slot.kind is ChildKind.WORKER
        ]
        for child in state.children.values():
            waits = (
                workers
                and child.slot.kind is ChildKind.EXPORTER
                and child.phase in (ChildPhase.STARTING, ChildPhase.READY)
            )
            assert waits or child.deadline_at is None or child.deadline_at <= latest_at, (
                f"{child} may outlast the grace"
            )
            assert waits or child.deadline_at is not None or child.birth not in self.children, (
                f"no deadline of the stop ends {child}"
            )
        assert state.children or self.leave, "no child is left, but the master does not leave"

    # --- the end ----------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Run until nothing is left to do. Forks succeed, children become ready and
        obey orders.
        """
        self.forks_to_fail = 0
        for child in self.children.values():
            child.deaf, child.hung_at = False, None
        for _ in range(STEPS_UNTIL_REST):
            self.turn()
            if busy := [
                child
                for child in self.children.values()
                if child.ordered_to_leave or not child.reported
            ]:
                for child in busy:
                    if child.ordered_to_leave:
                        self.end_child(child)
                    else:
                        self.report_ready(child)
            elif (at := next_deadline(self.state)) is not None:
                self.clock.advance_to(at)
            else:
                return
        raise AssertionError(f"the core does not become idle: {self.state}")

    def run_until_stopped(self, *, quick: bool) -> None:
        """Ask for a stop while every child ignores all signals but SIGKILL, and run
        until the master leaves.
        """
        for child in self.children.values():
            child.deaf = True
        self.queue.append(ev.StopAsked(quick, "a test"))
        for _ in range(STEPS_UNTIL_REST):
            self.turn()
            if self.leave:
                return
            at = next_deadline(self.state)
            assert at is not None, f"no deadline ends the stop: {self.state}"
            self.clock.advance_to(at)
        raise AssertionError(f"the core does not stop: {self.state}")
