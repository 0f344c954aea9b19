"""The machine in a world that does as it likes: the invariants hold after every step,
whatever happens and in whatever order (:mod:`tests.support.world`).
"""
# ruff: noqa: D102 - the name of a rule says what happens

from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support.machine import wants
from tests.support.scale import many
from tests.support.world import Kid, World
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.machine import EVENT_TABLE, next_deadline, step
from unpd.core.model import State, Wanted
from unpd.names import ChildPhase, ExitCode, MasterPhase

pools = st.dictionaries(st.sampled_from(("default", "other")), st.integers(1, 3), min_size=1)
wanteds = st.builds(
    wants,
    pools,
    exporter=st.booleans(),
    grace_s=st.sampled_from((0.1, 1.0, 10.0)),
    reload_grace_s=st.sampled_from((0.0, 5.0, 60.0)),
    start_timeout_s=st.sampled_from((0.5, 10.0)),
    heartbeat_timeout_s=st.sampled_from((0.5, 30.0)),
)
moments = st.sampled_from((0.0, 0.05, 0.5, 1.0, 3.0, 11.0, 70.0))


class Life(RuleBasedStateMachine):
    """One life of a master. Each rule lets something happen. Most rules leave their
    event in the queue, so that events cross each other as they do in the shell.
    """

    @initialize(wanted=wanteds, ready=st.booleans())
    def begin(self, wanted: Wanted, ready: bool) -> None:
        self.world = World(wanted)
        if ready:
            self.world.comes_to_rest()

    def some(
        self, data: st.DataObject, *, reported: bool | None = None, told: bool | None = None
    ) -> Kid:
        """Draw one of the living children."""
        kids = [
            kid
            for kid in self.world.kids.values()
            if reported in (None, kid.reported) and told in (None, kid.told)
        ]
        return data.draw(st.sampled_from(kids))

    def any_silent(self) -> bool:
        """Whether a child has not reported yet."""
        return any(not kid.reported for kid in self.world.kids.values())

    def any_ready(self) -> bool:
        """Whether a child has reported that it serves."""
        return any(kid.reported for kid in self.world.kids.values())

    def any_told(self) -> bool:
        """Whether a child was ordered to leave. It does so unless it is deaf."""
        return any(kid.told for kid in self.world.kids.values())

    @precondition(any_silent)
    @rule(data=st.data())
    def a_child_becomes_ready(self, data: st.DataObject) -> None:
        self.world.becomes_ready(self.some(data, reported=False))

    @precondition(any_silent)
    @rule(turn=st.booleans())
    def all_become_ready(self, turn: bool) -> None:
        for kid in self.world.kids.values():
            if not kid.reported:
                self.world.becomes_ready(kid)
        if turn:
            self.world.turn()

    @precondition(any_silent)
    @rule(data=st.data())
    def a_child_fails(self, data: st.DataObject) -> None:
        self.world.fails(self.some(data, reported=False))

    @precondition(lambda self: self.world.kids)
    @rule(data=st.data())
    def a_child_dies(self, data: st.DataObject) -> None:
        self.world.dies(self.some(data))

    @precondition(any_ready)
    @rule(data=st.data(), deaf=st.booleans())
    def a_child_hangs(self, data: st.DataObject, deaf: bool) -> None:
        kid = self.some(data, reported=True)
        kid.hung_at, kid.deaf = self.world.clock.now, deaf

    @precondition(any_told)
    @rule(data=st.data(), deaf=st.booleans())
    def a_child_was_told(self, data: st.DataObject, deaf: bool) -> None:
        kid = self.some(data, told=True)
        kid.deaf = kid.deaf or deaf
        if not kid.deaf:
            self.world.dies(kid)

    @rule(count=st.integers(1, 3))
    def forks_will_fail(self, count: int) -> None:
        self.world.forks_to_fail = count

    @rule(wanted=st.none() | wanteds)
    def the_file_is_edited(self, wanted: Wanted | None) -> None:
        self.world.file = wanted

    @rule(answer=st.booleans(), turn=st.booleans())
    def a_reload_is_asked_for(self, answer: bool, turn: bool) -> None:
        self.world.asks_reload(answer)
        if turn:
            self.world.turn()

    @rule(wanted=wanteds)
    def a_reload_is_begun(self, wanted: Wanted) -> None:
        self.world.file = wanted
        self.world.asks_reload(answer=True)
        self.world.turn()

    @rule(pool=st.sampled_from(("default", "other")), delta=st.sampled_from((-1, 1)))
    def a_pool_is_resized(self, pool: str, delta: int) -> None:
        self.world.queue.append(ev.PoolResized(pool, delta))

    @rule()
    def the_log_is_rotated(self) -> None:
        self.world.queue.append(ev.LogReopenAsked())

    @precondition(lambda self: self.world.clock.now > 1040.0)
    @rule(quick=st.booleans())
    def a_stop_is_asked_for(self, quick: bool) -> None:
        self.world.queue.append(ev.StopAsked(quick, "a test"))

    @rule()
    def the_loop_turns(self) -> None:
        self.world.turn()

    @rule(seconds=moments)
    def time_passes(self, seconds: float) -> None:
        self.world.turn()
        self.world.clock.advance(seconds)
        self.world.turn()

    @rule()
    def the_deadline_comes(self) -> None:
        self.world.turn()
        if (at := next_deadline(self.world.state)) is not None:
            self.world.clock.advance_to(at)
            self.world.turn()

    @rule(silence_s=st.sampled_from((0, 1, 2, 31)))
    def heartbeats_are_looked_at(self, silence_s: int) -> None:
        for _ in range(silence_s):
            self.world.clock.advance(1.0)
            self.world.looks_at_beats()
            self.world.turn()

    def teardown(self) -> None:
        """Check the end. When the world behaves well again, the machine comes to rest
        and is whole. A stop ends it within its grace time, even if no child obeys.
        """
        if not hasattr(self, "world"):
            return
        world = self.world
        if world.state.phase is not MasterPhase.STOPPING:
            world.comes_to_rest()
        if world.state.phase is not MasterPhase.STOPPING:
            self.is_whole()
        asked_at = world.clock.now
        world.stops(quick=len(world.born) % 2 == 0)
        assert world.left
        assert world.left_at <= max(
            asked_at, world.state.stop_began_at + world.state.wanted.limits.grace_s
        )
        assert set(world.answered) == set(world.asked)

    def is_whole(self) -> None:
        """Check that every wanted slot has a ready child of the current generation,
        that there is no other child, and that no reload goes on.
        """
        state = self.world.state
        assert state.phase is MasterPhase.RUNNING
        assert {child.slot for child in state.children.values()} == set(state.wanted.slots())
        assert {(child.phase, child.generation) for child in state.children.values()} == {
            (ChildPhase.READY, state.generation)
        }
        assert len(state.children) == len(set(state.wanted.slots()))


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=many(1500, at_least=200),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

births = st.integers(0, 12)
EVENTS: dict[type[ev.Event], st.SearchStrategy[ev.Event]] = {
    ev.Booted: st.just(ev.Booted()),
    ev.TimePassed: st.just(ev.TimePassed()),
    ev.ChildReady: st.builds(ev.ChildReady, births),
    ev.ChildFailed: st.builds(ev.ChildFailed, births, st.just("why"), st.sampled_from(ExitCode)),
    ev.ChildExited: st.builds(ev.ChildExited, births, st.just("exit code 3")),
    ev.ForkFailed: st.builds(ev.ForkFailed, births, st.just("why")),
    ev.BeatsRead: st.builds(ev.BeatsRead, st.dictionaries(births, st.floats(0, 1e9))),
    ev.ReloadAsked: st.builds(ev.ReloadAsked, st.none() | births),
    ev.ConfigLoaded: st.builds(ev.ConfigLoaded, wanteds),
    ev.ConfigRefused: st.builds(ev.ConfigRefused, st.just("why")),
    ev.StopAsked: st.builds(ev.StopAsked, st.booleans(), st.just("a test")),
    ev.PoolResized: st.builds(
        ev.PoolResized, st.sampled_from(("default", "other", "")), st.integers(-3, 3)
    ),
    ev.LogReopenAsked: st.just(ev.LogReopenAsked()),
}


@pytest.mark.parametrize("kind", get_args(ev.Event))
def test_every_event_is_tried(kind: type[ev.Event]) -> None:
    """The property below knows every event."""
    assert kind in EVENTS


@settings(max_examples=many(4000, at_least=200), deadline=None)
@given(st.data(), wanteds)
def test_no_nonsense_raises(data: st.DataObject, wanted: Wanted) -> None:
    """The machine takes any sequence of events, even about children that are gone or
    never lived. It refuses only events that the shell cannot send in a phase.
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
