"""The counts of sources: under any interleaving of what children do, under a flood of
sources, and beside a hostile child.
"""
# ruff: noqa: D102 - the name of a rule says what happens

import itertools
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.contested import VALUES, Contested, Watched
from tests.support.scale import many
from unpd.board import layout, sources
from unpd.board.layout import LaneSums
from unpd.board.source_lane import SourceLane
from unpd.board.sources import Shape, SourceCounts, Sources, admitted, window_of

ROWS = 2
COLUMNS = (0, 5)
PREFIXES = tuple(bytes((192, 0, 2, number)) for number in range(3))
WINDOW_S = 2.0
TINY = (Shape(1, 1), Shape(1, 2), Shape(2, 2), Shape(4, 8))
"""In the first three, buckets overflow all the time."""

rows = st.integers(0, ROWS - 1)
columns = st.sampled_from(COLUMNS)
prefixes = st.sampled_from(PREFIXES)


@dataclass(slots=True)
class Connection:
    """An open connection of a child."""

    column: int
    key: int
    token: int


@dataclass(slots=True)
class Process:
    """A child, which has the lane of its row, and open connections."""

    lane: SourceLane
    open: list[Connection] = field(default_factory=list)


class Children(RuleBasedStateMachine):
    """Some children, and another process that looks at the counts after each store of
    theirs.
    """

    @initialize(shape=st.sampled_from(TINY))
    def begin(self, shape: Shape) -> None:
        self.now = 100.0
        self.children: list[Process] = []
        self.sources = sources.create(shape)
        other = Sources(os.dup(self.sources.fd), b"", shape)
        self.counts = SourceCounts(other, lambda: ROWS)
        self.close = other.close
        for row in range(ROWS):
            self.sources.lanes[row] = Watched(self.sources.lanes[row], self.look)  # type: ignore[call-overload]
        self.sources.sums = Watched(self.sources.sums, self.look)  # type: ignore[assignment]
        self.children = [Process(SourceLane(self.sources, row)) for row in range(ROWS)]

    def look(self) -> None:
        """No source and no service has fewer connections than are open."""
        open_now = [each for child in self.children for each in child.open]
        for key, count in Counter(each.key for each in open_now).items():
            assert self.counts.source(key)[0] >= count
        for column, count in Counter(each.column for each in open_now).items():
            assert self.counts.service_open(column) >= count

    @invariant()
    def none_is_missing(self) -> None:
        self.look()

    @invariant()
    def one_pass_says_the_same(self) -> None:
        window = window_of(self.now, WINDOW_S)
        for key in (self.sources.key(column, name) for column in COLUMNS for name in PREFIXES):
            are_open, counted = self.counts.source(key)
            present, before, share = admitted(counted, window)
            lately = present + before * share
            for limit, burst in itertools.product((are_open, are_open + 1), (lately, lately + 1)):
                fewer = are_open < limit and lately < burst
                assert self.counts.has_fewer(key, limit, burst, window) is fewer

    @rule(row=rows, column=columns, prefix=prefixes)
    def a_client_connects(self, row: int, column: int, prefix: bytes) -> None:
        child, key = self.children[row], self.sources.key(column, prefix)
        child.lane.service_opened(column)
        token = child.lane.source_opened(key, self.now)
        child.open.append(Connection(column, key, token))

    @precondition(lambda self: any(child.open for child in self.children))
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        child = data.draw(st.sampled_from([child for child in self.children if child.open]))
        self.end(child, data.draw(st.integers(0, len(child.open) - 1)))

    def end(self, child: Process, number: int) -> None:
        """One of a child's connections ends."""
        connection = child.open.pop(number)
        child.lane.source_closed(connection.token)
        child.lane.service_closed(connection.column)

    @rule(row=rows, column=columns, prefix=prefixes)
    def a_client_is_admitted(self, row: int, column: int, prefix: bytes) -> None:
        lane, key = self.children[row].lane, self.sources.key(column, prefix)
        lane.service_admitted(column, window_of(self.now, WINDOW_S))
        lane.source_admitted(key, window_of(self.now, WINDOW_S))

    @rule(seconds=st.sampled_from((0.1, 1.0, 5.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(row=rows)
    def a_worker_dies(self, row: int) -> None:
        self.children[row].open.clear()
        self.sources.clear(row)
        self.children[row].lane = SourceLane(self.sources, row)

    @rule(row=rows, column=columns, prefix=prefixes, left=st.integers(0, 2))
    def a_dispatcher_dies(self, row: int, column: int, prefix: bytes, left: int) -> None:
        """It leaves its connections to a successor. It may have died before it counted
        that others have ended.
        """
        child, key = self.children[row], self.sources.key(column, prefix)
        for _ in range(left):
            child.lane.service_opened(column)
            child.lane.source_opened(key, self.now)
        self.hand_over(row)

    def hand_over(self, row: int) -> None:
        """A successor takes the connections and the lane of a dispatcher over."""
        child = self.children[row]
        child.lane = SourceLane(self.sources, row)
        by_service = Counter(connection.column for connection in child.open)
        tokens = child.lane.take_over(by_service, [connection.key for connection in child.open])
        for connection, token in zip(child.open, tokens, strict=True):
            connection.token = token

    def teardown(self) -> None:
        """After the hand-over of each lane, the counts are right: those of a source too
        high by the overflows of its bucket at most. When all has ended, all are 0.
        """
        if not hasattr(self, "children"):
            return
        for row in range(ROWS):
            self.hand_over(row)
        self.are_right()
        for child in self.children:
            while child.open:
                self.end(child, len(child.open) // 2)
        self.are_right()
        assert self.counts.tracked(self.now + 2 * WINDOW_S) == 0
        self.close()
        self.sources.close()

    def are_right(self) -> None:
        """Compare every count with the open connections."""
        open_now = [each for child in self.children for each in child.open]
        mask = self.sources.shape.buckets - 1
        for column in COLUMNS:
            of_service = [each for each in open_now if each.column == column]
            assert self.counts.service_open(column) == len(of_service)
            for prefix in PREFIXES:
                key = self.sources.key(column, prefix)
                others = [e for e in open_now if e.key != key and (e.key ^ key) & mask == 0]
                count = sum(each.key == key for each in open_now)
                assert count <= self.counts.source(key)[0] <= count + len(others)


TestChildren = Children.TestCase
TestChildren.settings = settings(
    max_examples=many(1000, at_least=60), stateful_step_count=40, deadline=None
)


# --- rates ----------------------------------------------------------------------------


@settings(max_examples=many(1000, at_least=50), deadline=None)
@given(
    admissions=st.lists(
        st.tuples(rows, prefixes, st.sampled_from((0.0, 0.3, 1.0, 2.5, 9.0))), max_size=40
    )
)
def test_rates_add_up_over_children(admissions: list[tuple[int, bytes, float]]) -> None:
    """The rates of a service and of a source are what all children together admitted in
    the present window and in the one before.
    """
    memory = sources.create(Shape(16, 8))
    counts = SourceCounts(memory, lambda: ROWS)
    lanes = [SourceLane(memory, row) for row in range(ROWS)]
    windows: dict[bytes | None, Counter[int]] = {name: Counter() for name in (None, *PREFIXES)}
    now = 1000.0
    for row, prefix, seconds in admissions:
        now += seconds
        lanes[row].service_admitted(0, window_of(now, WINDOW_S))
        lanes[row].source_admitted(memory.key(0, prefix), window_of(now, WINDOW_S))
        window = int(now // WINDOW_S)
        for name in (None, prefix):
            windows[name][window] += 1
        assert counts.service_rate(0, window_of(now, WINDOW_S))[:2] == (
            windows[None][window],
            windows[None][window - 1],
        )
        for name in PREFIXES:
            found = counts.source(memory.key(0, name))[1]
            present, before, share = admitted(found, window_of(now, WINDOW_S))
            assert (present, before) == (windows[name][window], windows[name][window - 1])
            assert share == pytest.approx(1 - now % WINDOW_S / WINDOW_S, abs=1e-8)
    memory.close()


# --- floods ---------------------------------------------------------------------------


SHAPES = pytest.mark.parametrize("shape", [Shape(64, 8), sources.LANE], ids=["small", "real"])


@SHAPES
def test_a_flood_of_sources_neither_grows_the_lane_nor_disturbs_others(shape: Shape) -> None:
    """However many sources come, the lane keeps its size. A source with open
    connections keeps its exact count, and its rate. One that came often keeps its rate.
    One that has not come before has no count.
    """
    flood(shape, 50_000)


@pytest.mark.slow
@SHAPES
def test_a_million_sources_disturb_nobody(shape: Shape) -> None:
    """The same for as many as are promised, which takes a minute at most."""
    began_s = time.process_time()
    flood(shape, 1_000_000)
    assert time.process_time() - began_s < 60.0


def flood(shape: Shape, count: int) -> None:
    """Have ``count`` sources come, and look at the lane and at the others meanwhile."""
    memory = sources.create(shape)
    lane, counts = SourceLane(memory, 0), SourceCounts(memory, lambda: 1)
    present, frequent = memory.key(1, b"present"), memory.key(1, b"frequent")
    for _ in range(3):
        lane.source_opened(present, 0.0)
        for key in (present, frequent):
            lane.source_admitted(key, window_of(0.0, 3600.0))
    tokens: list[int] = []
    for number in range(count):
        key = memory.key(1, number.to_bytes(4, "big"))
        lane.source_admitted(key, window_of(1.0, 3600.0))
        tokens.append(lane.source_opened(key, 1.0))
        if len(tokens) > shape.buckets // 8:
            lane.source_closed(tokens.pop(0))
        if number % 1000 == 0:
            assert counts.source(present) == (3, [(3, 0, 7200 * layout.NS)])
            assert admitted(counts.source(frequent)[1], window_of(1.0, 3600.0))[0] == 3
            assert counts.source(memory.key(1, b"new")) == (0, [])
    assert os.fstat(memory.fd).st_blocks * 512 <= shape.lane_bytes + sources.SUMS_BYTES
    assert 0 < counts.tracked(1.0) <= shape.buckets * shape.entries
    for token in tokens:
        lane.source_closed(token)
    assert counts.tracked(7200.0) == 1, "only the source that is still there"
    memory.close()


# --- a hostile child ------------------------------------------------------------------


class Attacked:
    """The lane of row 0, and a reader, beside a process that writes any number to any
    word at any moment.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sources = sources.create(Shape(4, 8))
        self.honest = SourceCounts(Sources(self.sources.fd, b"", self.sources.shape), lambda: 1)
        self.lanes = self.sources.lanes[:2]
        self.sums = self.sources.sums
        for row, lane in enumerate(self.lanes):
            self.sources.lanes[row] = Contested(lane, self.rng)  # type: ignore[call-overload]
        self.sources.sums = Contested(self.sums, self.rng)  # type: ignore[assignment]
        self.counts = SourceCounts(self.sources, lambda: 2)
        self.lane = SourceLane(self.sources, 0)
        self.keys = [self.sources.key(0, prefix) for prefix in PREFIXES]
        self.open: list[tuple[int, int]] = []

    def forge(self) -> None:
        """The hostile process writes a number somewhere, or a key that is in use."""
        words = self.rng.choice(self.lanes)
        number = self.rng.choice((*VALUES, *self.keys))
        words[self.rng.randrange(len(words))] = number
        self.sums[self.rng.randrange(LaneSums.size)] = self.rng.choice(VALUES)

    def act(self) -> None:
        """Do something that a child does."""
        key, now = self.rng.choice(self.keys), self.rng.uniform(0, 10)
        self.forge()
        match self.rng.randrange(5):
            case 0:
                self.lane.service_opened(0)
                self.open.append((key, self.lane.source_opened(key, now)))
            case 1 if self.open:
                _, token = self.open.pop(self.rng.randrange(len(self.open)))
                self.lane.source_closed(token)
                self.lane.service_closed(0)
            case 2:
                self.lane.service_admitted(0, window_of(now, WINDOW_S))
                self.lane.source_admitted(key, window_of(now, WINDOW_S))
            case 3:
                keys = [key for key, _ in self.open]
                self.lane = SourceLane(self.sources, 0)
                tokens = self.lane.take_over({0: len(keys)}, keys)
                self.open = list(zip(keys, tokens, strict=True))
            case _:
                self.read(key, now)

    def read(self, key: int, now: float) -> None:
        """No number is negative, or one that no honest count reaches."""
        count, windows = self.counts.source(key)
        present, before, share = admitted(windows, window_of(now, WINDOW_S))
        numbers = [count, present, before, self.counts.service_open(0)]
        numbers += self.counts.service_rate(0, window_of(now, WINDOW_S))[:2]
        assert all(0 <= number < 4 * layout.SANE_COUNT for number in numbers)
        assert 0 < share <= 1
        assert not self.counts.has_fewer(key, 0, 0, window_of(now, WINDOW_S))
        assert 0 <= self.counts.tracked(now) <= 2 * 4 * 8


@settings(max_examples=many(1000, at_least=50), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_hostile_child_stops_nobody(seed: int) -> None:
    """Whatever it writes, and when, nothing raises, and no number is absurd. The lane
    of another child is right again as soon as that child counts once more.
    """
    attacked = Attacked(seed)
    for _ in range(60):
        attacked.act()
    for key in attacked.keys:
        attacked.open.append((key, attacked.lane.source_opened(key, 20.0)))
        attacked.lane.service_opened(0)
    for key in attacked.keys:
        assert attacked.honest.source(key)[0] == sum(each == key for each, _ in attacked.open)
    assert attacked.honest.service_open(0) == len(attacked.open)
    attacked.sources.clear(0)
    assert attacked.honest.service_open(0) == attacked.honest.source(attacked.keys[0])[0] == 0
    attacked.sources.close()
