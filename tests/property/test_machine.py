"""The core in a simulated world with random events (:mod:`tests.support.simulation`).
All invariants hold after every step.
"""
# ruff: noqa: D102 - the name of a rule says what happens

from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support.machine import wants
from tests.support.scale import many
from tests.support.simulation import SimulatedChild, Simulation
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import EVENT_TABLE, next_deadline, step
from unpd.core.model import State, Wanted
from unpd.names import MAX_CHILDREN, ChildPhase, ExitCode, MasterPhase

pools = st.dictionaries(st.sampled_from(("default", "other")), st.integers(1, 3), min_size=1)
wanteds = st.builds(
    wants,
    pools,
    recipes=st.dictionaries(
        st.sampled_from(("default", "other", "exporter")), st.sampled_from(("a", "b"))
    ),
    exporter=st.booleans(),
    lame_duck_s=st.sampled_from((0.0, 5.0)),
    grace_s=st.sampled_from((0.1, 1.0, 10.0)),
    reload_grace_s=st.sampled_from((0.0, 5.0, 60.0)),
    start_timeout_s=st.sampled_from((0.5, 10.0)),
    heartbeat_timeout_s=st.sampled_from((0.5, 30.0)),
)
moments = st.sampled_from((0.0, 0.05, 0.5, 1.0, 3.0, 11.0, 70.0))


class Life(RuleBasedStateMachine):
    """One life of a master. Each rule causes an event. Most events stay in the queue,
    so that they cross each other as in the shell.
    """

    @initialize(
        wanted=wanteds, ready=st.booleans(), max_children=st.sampled_from((14, 18, MAX_CHILDREN))
    )
    def begin(self, wanted: Wanted, ready: bool, max_children: int) -> None:
        self.simulation = Simulation(wanted, max_children)
        if ready:
            self.simulation.run_until_idle()

    def some(
        self,
        data: st.DataObject,
        *,
        reported: bool | None = None,
        ordered_to_leave: bool | None = None,
    ) -> SimulatedChild:
        """Draw one of the living children."""
        children = [
            child
            for child in self.simulation.children.values()
            if reported in (None, child.reported)
            and ordered_to_leave in (None, child.ordered_to_leave)
        ]
        return data.draw(st.sampled_from(children))

    def any_silent(self) -> bool:
        """Whether a child has not yet reported."""
        return any(not child.reported for child in self.simulation.children.values())

    def any_ready(self) -> bool:
        """Whether a child has reported that it serves."""
        return any(child.reported for child in self.simulation.children.values())

    def any_told(self) -> bool:
        """Whether a child was told to leave. It leaves unless it is deaf."""
        return any(child.ordered_to_leave for child in self.simulation.children.values())

    @precondition(any_silent)
    @rule(data=st.data())
    def a_child_becomes_ready(self, data: st.DataObject) -> None:
        self.simulation.report_ready(self.some(data, reported=False))

    @precondition(any_silent)
    @rule(turn=st.booleans())
    def all_become_ready(self, turn: bool) -> None:
        for child in self.simulation.children.values():
            if not child.reported:
                self.simulation.report_ready(child)
        if turn:
            self.simulation.turn()

    @precondition(any_silent)
    @rule(data=st.data())
    def a_child_fails(self, data: st.DataObject) -> None:
        self.simulation.report_failure(self.some(data, reported=False))

    @precondition(lambda self: self.simulation.children)
    @rule(data=st.data())
    def a_child_dies(self, data: st.DataObject) -> None:
        self.simulation.end_child(self.some(data))

    @precondition(any_ready)
    @rule(data=st.data(), deaf=st.booleans())
    def a_child_hangs(self, data: st.DataObject, deaf: bool) -> None:
        child = self.some(data, reported=True)
        child.hung_at, child.deaf = self.simulation.clock.now, deaf

    @precondition(any_told)
    @rule(data=st.data(), deaf=st.booleans())
    def a_child_was_told(self, data: st.DataObject, deaf: bool) -> None:
        child = self.some(data, ordered_to_leave=True)
        child.deaf = child.deaf or deaf
        if not child.deaf:
            self.simulation.end_child(child)

    @rule(count=st.integers(1, 3))
    def forks_will_fail(self, count: int) -> None:
        self.simulation.forks_to_fail = count

    @rule(wanted=st.none() | wanteds)
    def the_file_is_edited(self, wanted: Wanted | None) -> None:
        self.simulation.config_file = wanted

    @rule(answer=st.booleans(), every_pool=st.booleans(), turn=st.booleans())
    def a_reload_is_asked_for(self, answer: bool, every_pool: bool, turn: bool) -> None:
        self.simulation.ask_reload(answer, every_pool)
        if turn:
            self.simulation.turn()

    @rule()
    def a_listener_is_renewed(self) -> None:
        self.simulation.renew_listeners()
        self.simulation.turn()

    @rule(wanted=wanteds)
    def a_reload_is_begun(self, wanted: Wanted) -> None:
        self.simulation.config_file = wanted
        self.simulation.ask_reload(answer=True)
        self.simulation.turn()

    @rule(pool=st.sampled_from(("default", "other")), delta=st.sampled_from((-1, 1)))
    def a_pool_is_resized(self, pool: str, delta: int) -> None:
        self.simulation.queue.append(ev.PoolResized(pool, delta))

    @rule(pool=st.sampled_from(("default", "other")), workers=st.integers(1, 4))
    def a_pool_is_scaled(self, pool: str, workers: int) -> None:
        self.simulation.scale(pool, workers)

    @rule()
    def the_log_is_rotated(self) -> None:
        self.simulation.queue.append(ev.LogReopenAsked())

    @precondition(lambda self: self.simulation.clock.now > 1040.0)
    @rule(quick=st.booleans())
    def a_stop_is_asked_for(self, quick: bool) -> None:
        """With a lame time the other rules go on until that is over."""
        self.simulation.queue.append(ev.StopAsked(quick, "a test"))

    @rule()
    def the_loop_turns(self) -> None:
        self.simulation.turn()

    @rule(seconds=moments)
    def time_passes(self, seconds: float) -> None:
        self.simulation.turn()
        self.simulation.clock.advance(seconds)
        self.simulation.turn()

    @rule()
    def the_deadline_comes(self) -> None:
        self.simulation.turn()
        if (at := next_deadline(self.simulation.state)) is not None:
            self.simulation.clock.advance_to(at)
            self.simulation.turn()

    @rule(silence_s=st.sampled_from((0, 1, 2, 31)))
    def heartbeats_are_looked_at(self, silence_s: int) -> None:
        for _ in range(silence_s):
            self.simulation.clock.advance(1.0)
            self.simulation.read_heartbeats()
            self.simulation.turn()

    def teardown(self) -> None:
        """Run the simulation until nothing is left to do, and check that the machine is
        complete. Then stop it while every child is deaf: it leaves within its grace.
        """
        if not hasattr(self, "simulation"):
            return
        simulation = self.simulation
        if simulation.state.phase is not MasterPhase.STOPPING:
            simulation.run_until_idle()
        if simulation.state.phase is not MasterPhase.STOPPING:
            self.is_whole()
        asked_at = simulation.clock.now
        simulation.run_until_stopped(quick=len(simulation.births) % 2 == 0)
        assert simulation.leave
        assert simulation.state.stop_began_at <= asked_at + (
            simulation.state.wanted.limits.lame_duck_s
        )
        assert simulation.left_at <= max(
            asked_at, simulation.state.stop_began_at + simulation.state.wanted.limits.grace_s
        )
        assert set(simulation.answers) == set(simulation.requests)

    def is_whole(self) -> None:
        """Assert that every wanted slot has a ready child of its pool's generation,
        that no other child exists, and that the master runs.
        """
        state = self.simulation.state
        assert state.phase is MasterPhase.RUNNING
        children = state.children.values()
        assert {(child.generation, child.slot) for child in children} == set(state.wanted.slots())
        assert {child.phase for child in children} == {ChildPhase.READY}
        assert len(state.children) == len(set(state.wanted.slots()))


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=many(1500, at_least=100),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_a_signal_may_end_a_renewal() -> None:
    """A renewal waits for the worker by which a signal made a pool grow; another signal
    takes that worker away. The renewal then ends, and the pool is as small as before.
    """
    life = Life()
    life.begin(wants({"default": 1, "other": 1}), ready=True, max_children=MAX_CHILDREN)
    life.a_listener_is_renewed()
    life.a_pool_is_resized("other", 1)
    life.all_become_ready(turn=False)
    life.a_pool_is_resized("other", -1)
    life.a_listener_is_renewed()
    state = life.simulation.state
    assert state.wanted.workers == {"default": 1, "other": 1}
    assert state.generation == 2, "the first renewal has ended"
    life.teardown()


births = st.integers(0, 12)
EVENTS: dict[type[ev.Event], st.SearchStrategy[ev.Event]] = {
    ev.Booted: st.just(ev.Booted()),
    ev.TimePassed: st.just(ev.TimePassed()),
    ev.ChildReady: st.builds(ev.ChildReady, births),
    ev.ChildFailed: st.builds(ev.ChildFailed, births, st.just("why"), st.sampled_from(ExitCode)),
    ev.ChildExited: st.builds(ev.ChildExited, births, st.just("exit code 3")),
    ev.ForkFailed: st.builds(ev.ForkFailed, births, st.just("why")),
    ev.BeatsRead: st.builds(ev.BeatsRead, st.dictionaries(births, st.floats(0, 1e9))),
    ev.ReloadAsked: st.builds(ev.ReloadAsked, st.none() | births, st.booleans()),
    ev.ListenersRenewed: st.just(ev.ListenersRenewed()),
    ev.ConfigLoaded: st.builds(ev.ConfigLoaded, wanteds, st.booleans()),
    ev.ConfigRefused: st.builds(ev.ConfigRefused, st.just("why"), st.booleans()),
    ev.StopAsked: st.builds(ev.StopAsked, st.booleans(), st.just("a test")),
    ev.PoolResized: st.builds(
        ev.PoolResized, st.sampled_from(("default", "other", "")), st.integers(-3, 3)
    ),
    ev.PoolScaled: st.builds(
        ev.PoolScaled,
        st.just(1),
        st.sampled_from(("default", "other", "")),
        st.integers(1, 5),
        st.integers(1, 5),
    ),
    ev.LogReopenAsked: st.just(ev.LogReopenAsked()),
}


@pytest.mark.parametrize("kind", get_args(ev.Event))
def test_every_event_is_tried(kind: type[ev.Event]) -> None:
    """The property below knows every event."""
    assert kind in EVENTS


@settings(max_examples=many(4000, at_least=100), deadline=None)
@given(st.data(), wanteds)
def test_no_event_raises(data: st.DataObject, wanted: Wanted) -> None:
    """The machine takes any events, also of children that never existed or are dead.
    Only events that the shell cannot send are refused.
    """
    state, now = State(wanted), 1000.0
    impossible = EVENT_TABLE[ev.Booted][MasterPhase.RUNNING]
    for _ in range(data.draw(st.integers(0, 30))):
        possible = [kind for kind in EVENTS if EVENT_TABLE[kind][state.phase] is not impossible]
        event = data.draw(st.sampled_from(possible).flatmap(EVENTS.__getitem__))
        now += data.draw(moments)
        was, (state, effects) = state, step(state, event, now)
        assert state.next_birth == was.next_birth + sum(
            isinstance(effect, fx.Spawn) for effect in effects
        )
