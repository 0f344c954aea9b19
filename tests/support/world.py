"""A world for the master's core to live in: children with a will of their own, a kernel
that may refuse forks, a configuration file that may be wrong.

:class:`World` stands where the shell stands: it queues events, takes them through
``step``, performs the effects on its own children, and checks after every step what
must always hold. It uses no process and no time but its clock's.
"""

import copy
from collections import deque
from dataclasses import dataclass

from tests.support.clock import ManualClock
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import next_deadline, step
from unpd.core.model import Slot, State, Wanted
from unpd.names import ChildKind, ChildOrder, ChildPhase, ExitCode, MasterPhase

LEAVING = (ChildOrder.RETIRE, ChildOrder.FINISH, ChildOrder.LEAVE)
DEADLY = (ChildOrder.KILL, ChildOrder.ABORT)
SWEEP_S = 1.0
STEPS_UNTIL_REST = 3000
"""Far more than any world needs to come to rest; a busy loop needs infinitely many."""


@dataclass(slots=True)
class Kid:
    """A child as the world knows it. ``hung_at``: since when it does not beat.
    ``deaf``: it leaves by SIGKILL alone. ``told``: it was asked to leave. ``lasting``:
    it was retired for as long as its connections last.
    """

    birth: int
    slot: Slot
    generation: int
    reported: bool = False
    hung_at: float | None = None
    deaf: bool = False
    told: bool = False
    lasting: bool = False


class World:
    """See the module. ``file``: what the configuration file holds (None: nonsense).
    ``forks_to_fail``: how many of the next forks the kernel refuses.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.clock = ManualClock()
        self.state = State(wanted)
        self.queue: deque[ev.Event] = deque([ev.Booted()])
        self.kids: dict[int, Kid] = {}
        self.file: Wanted | None = wanted
        self.forks_to_fail = 0
        self.left: fx.Leave | None = None
        self.left_at = 0.0
        self.born: list[int] = []
        self.shown: dict[int, ChildPhase] = {}
        """What the scoreboard says of each child."""
        self.known: set[int] = set()
        """Births of which the core has not heard the end."""
        self.candidate = False
        self.asked: list[int] = []
        self.answered: dict[int, str] = {}
        self.uncounted = 0
        """Reloads that have begun and whose end was not counted."""

    # --- what happens in it -----------------------------------------------------------

    def becomes_ready(self, kid: Kid) -> None:
        """The child reports that it serves."""
        kid.reported = True
        self.queue.append(ev.ChildReady(kid.birth))

    def fails(self, kid: Kid) -> None:
        """The child reports that it cannot serve, and ends."""
        kid.reported = True
        self.queue.append(ev.ChildFailed(kid.birth, "the moon is full", ExitCode.PRIVILEGE))
        self.dies(kid)

    def dies(self, kid: Kid) -> None:
        """The child ends and is reaped."""
        del self.kids[kid.birth]
        self.queue.append(ev.ChildExited(kid.birth, "killed by SIGSEGV"))

    def looks_at_beats(self) -> None:
        """The shell's sweep."""
        beats = {
            kid.birth: 0.0
            if not kid.reported
            else self.clock.now
            if kid.hung_at is None
            else kid.hung_at
            for kid in self.kids.values()
        }
        self.queue.append(ev.BeatsRead(beats))

    def asks_reload(self, answer: bool) -> None:
        """Somebody asks for a reload: over the control socket (he waits for the answer)
        or by a signal.
        """
        if answer:
            self.asked.append(len(self.asked) + 1)
        self.queue.append(ev.ReloadAsked(self.asked[-1] if answer else None))

    # --- the shell --------------------------------------------------------------------

    def turn(self) -> None:
        """Take what is queued, as the shell does between two waits."""
        at = next_deadline(self.state)
        if at is not None and at <= self.clock.now:
            self.queue.append(ev.TimePassed())
        while self.queue:
            self._take(self.queue.popleft())

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.ChildExited | ev.ForkFailed):
            self.known.discard(event.birth)
        before, untouched = self.state, copy.deepcopy(self.state)
        self.state, effects = step(before, event, self.clock.now)
        assert before == untouched, f"{event} changed the state that it was given"
        for effect in effects:
            self._perform(effect)
        self._check(event, before, effects)

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Spawn(child):
                self._fork(Kid(child.birth, child.slot, child.generation))
            case fx.Tell(birth, order):
                assert birth in self.known, f"{order} to {birth}, which is gone"
                self._hear(birth, order)
            case fx.LoadConfig():
                assert not self.candidate, "a configuration is loaded while another is a candidate"
                self.candidate = self.file is not None
                self.uncounted += 1
                self.queue.append(
                    ev.ConfigLoaded(self.file)
                    if self.file
                    else ev.ConfigRefused("nonsense in line 1")
                )
            case fx.AdoptConfig():
                assert self.candidate, "a configuration was adopted that was never loaded"
                self.candidate = False
            case fx.DropConfig():
                self.candidate = False
            case fx.AnswerReload(request, refused):
                assert request in self.asked, f"{request} never asked"
                assert request not in self.answered, f"{request} is answered twice"
                self.answered[request] = refused
            case fx.CountReload():
                self.uncounted -= 1
            case fx.ShowPhase(child):
                self.shown[child.birth] = child.phase
            case fx.Leave():
                assert not self.kids, "it leaves while children live"
                self.left, self.left_at = effect, self.clock.now
            case _:
                pass

    def _fork(self, kid: Kid) -> None:
        assert kid.birth > max(self.born, default=0), "a birth was used before"
        assert kid.generation == self.state.generation or self.candidate, (
            "a child was born for a configuration that is not there"
        )
        self.born.append(kid.birth)
        self.known.add(kid.birth)
        self.shown[kid.birth] = ChildPhase.STARTING
        if self.forks_to_fail:
            self.forks_to_fail -= 1
            self.queue.append(ev.ForkFailed(kid.birth, "Cannot allocate memory"))
        else:
            self.kids[kid.birth] = kid

    def _hear(self, birth: int, order: ChildOrder) -> None:
        kid = self.kids.get(birth)
        if kid is not None and (
            order is ChildOrder.KILL or (order is ChildOrder.ABORT and not kid.deaf)
        ):
            self.dies(kid)
        elif kid is not None and order in LEAVING:
            kid.told = True
            kid.lasting = (
                order is ChildOrder.RETIRE and self.state.wanted.limits.reload_grace_s == 0
            )

    # --- what must always hold --------------------------------------------------------

    def _check(self, event: ev.Event, before: State, effects: tuple[fx.Effect, ...]) -> None:
        state = self.state
        self._check_children()
        self._check_reloads()
        slots = set(state.wanted.slots())
        assert all(
            generation == state.generation and slot in slots for generation, slot in state.throttles
        ), "a back-off of a slot that is not wanted"
        spawned = any(isinstance(effect, fx.Spawn) for effect in effects)
        assert not (spawned and before.phase is MasterPhase.STOPPING), (
            "a child is born during the stop"
        )
        due = next_deadline(state)
        if isinstance(event, ev.TimePassed):
            assert due is None or due > self.clock.now or spawned, (
                f"due at {due}, and nothing was done about it"
            )
        if state.phase is MasterPhase.STOPPING:
            self._check_stopping()

    def _check_children(self) -> None:
        state = self.state
        assert state.children.keys() == self.known, (
            "the core's children are not those whose end it has not heard of"
        )
        alive = {
            child.generation
            for child in state.children.values()
            if child.phase is not ChildPhase.KILLED
        }
        assert len(alive) <= 2, f"generations {sorted(alive)} live"
        holders = [
            (child.generation, child.slot) for child in state.children.values() if not child.retired
        ]
        assert len(holders) == len(set(holders)), "a slot has two holders"
        for child in state.children.values():
            assert self.shown[child.birth] is child.phase, "the scoreboard shows another phase"
            kid = self.kids.get(child.birth)
            lasting = child.phase is ChildPhase.READY or (
                kid is not None and kid.lasting and child.slot.kind is ChildKind.WORKER
            )
            assert lasting or child.deadline_at is not None or kid is None, (
                f"nothing ever ends {child}"
            )

    def _check_reloads(self) -> None:
        state = self.state
        reloading = (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING)
        assert state.phase in reloading or not state.requests, (
            "somebody waits for a reload that does not run"
        )
        assert (
            state.phase not in (MasterPhase.RUNNING, MasterPhase.STOPPING)
            or state.queued_requests is None
        ), "a reload that was asked for does not begin"
        assert (state.candidate is None) == (
            state.phase not in (MasterPhase.CUTTING, MasterPhase.PROVING)
        ), "candidate and phase do not fit"
        assert state.phase in reloading or not self.candidate, (
            "a candidate was neither adopted nor dropped"
        )
        assert (
            self.uncounted == (1 if state.phase in reloading else 0)
            or state.phase is MasterPhase.STOPPING
        ), "a reload was counted twice, or not at all"
        waiting = {*state.requests, *(state.queued_requests or ())}
        queued = {event.request for event in self.queue if isinstance(event, ev.ReloadAsked)}
        assert {*self.asked} - {*self.answered} == waiting | (queued - {None}), (
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
            assert waits or child.deadline_at is not None or child.birth not in self.kids, (
                f"nothing ends {child}"
            )
        assert state.children or self.left, "no child is left, and it does not leave"

    # --- how it ends ------------------------------------------------------------------

    def comes_to_rest(self) -> None:
        """From now on everything works: forks succeed, children become ready and do
        what they are told.
        """
        self.forks_to_fail = 0
        for kid in self.kids.values():
            kid.deaf, kid.hung_at = False, None
        for _ in range(STEPS_UNTIL_REST):
            self.turn()
            if busy := [kid for kid in self.kids.values() if kid.told or not kid.reported]:
                for kid in busy:
                    if kid.told:
                        self.dies(kid)
                    else:
                        self.becomes_ready(kid)
            elif (at := next_deadline(self.state)) is not None:
                self.clock.advance_to(at)
            else:
                return
        raise AssertionError(f"it does not come to rest: {self.state}")

    def stops(self, *, quick: bool) -> None:
        """It is told to stop, and every child is deaf to all but SIGKILL."""
        for kid in self.kids.values():
            kid.deaf = True
        self.queue.append(ev.StopAsked(quick, "a test"))
        for _ in range(STEPS_UNTIL_REST):
            self.turn()
            if self.left:
                return
            at = next_deadline(self.state)
            assert at is not None, f"nobody will ever end this: {self.state}"
            self.clock.advance_to(at)
        raise AssertionError(f"it does not stop: {self.state}")
