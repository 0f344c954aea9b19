"""The counts of sources: what is exact, what is bounded, and what is handed over."""

import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.contested import Watched
from unpd.board import layout, sources
from unpd.board.layout import LaneSums, Source
from unpd.board.memory import ROWS_STEP
from unpd.board.source_lane import SourceLane
from unpd.board.sources import LANE, SUMS_BYTES, Shape, SourceCounts, Sources, admitted, window_of

ECHO, DAYTIME = 3, 7
WINDOW_S = 10.0


class Scene:
    """Lanes of two children, 0 and 1, and a reader."""

    def __init__(self, shape: Shape) -> None:
        self.sources = sources.create(shape)
        self.lanes = [SourceLane(self.sources, row) for row in (0, 1)]
        self.counts = SourceCounts(self.sources, lambda: 2)

    def key(self, name: str, column: int = ECHO) -> int:
        """The key of a source."""
        return self.sources.key(column, name.encode())

    def open(self, name: str, row: int = 0) -> int:
        """A child counts an open connection."""
        return self.lanes[row].source_opened(self.key(name), 0.0)

    def count(self, name: str) -> int:
        """How many connections of a source are open."""
        return self.counts.source(self.key(name))[0]

    def rate(self, name: str, now: float, window_s: float = WINDOW_S) -> tuple[int, int]:
        """How many of a source were admitted, in this window and before."""
        present, before, _ = admitted(
            self.counts.source(self.key(name))[1], window_of(now, window_s)
        )
        return present, before

    def admit(self, name: str, now: float, window_s: float = WINDOW_S) -> None:
        """A child admits a connection."""
        self.lanes[0].source_admitted(self.key(name), window_of(now, window_s))


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Lanes of the real size."""
    scene = Scene(LANE)
    yield scene
    scene.sources.close()


@pytest.fixture
def narrow() -> Iterator[Scene]:
    """Lanes of one bucket with two entries."""
    scene = Scene(Shape(1, 2))
    yield scene
    scene.sources.close()


# --- the memory -----------------------------------------------------------------------


def test_the_memory_costs_nothing_until_it_is_used() -> None:
    """It has room for a lane of every row, and no page of it is real. A first count
    makes a few pages real, which the end of the child gives back.
    """
    memory = sources.create()
    stat = os.fstat(memory.fd)
    assert stat.st_size == SUMS_BYTES + layout.MAX_ROWS * LANE.lane_bytes
    assert stat.st_blocks == 0
    SourceLane(memory, 5).source_opened(memory.key(ECHO, b"a"), 0.0)
    assert 0 < os.fstat(memory.fd).st_blocks * 512 <= 4 * resource.getpagesize()
    SourceCounts(memory, lambda: 6).tracked(0.0)
    memory.clear(5)
    assert os.fstat(memory.fd).st_blocks * 512 <= LaneSums.size // layout.MAX_ROWS * 4096
    memory.close()


@pytest.mark.parametrize("limit", [resource.RLIMIT_FSIZE, resource.RLIMIT_AS], ids=["size", "map"])
def test_memory_that_cannot_be_made_leaves_no_descriptor(limit: int) -> None:
    """Neither where the kernel refuses its size nor where it refuses to map it."""
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = sorted(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(limit)
    low = SUMS_BYTES + 1_000_000
    resource.setrlimit(
        limit, (low if limit == resource.RLIMIT_FSIZE else address_space + low, hard)
    )
    try:
        with pytest.raises(OSError, match=r"File too large|Cannot allocate memory"):
            sources.create()
    finally:
        resource.setrlimit(limit, (soft, hard))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_nobody_can_shrink_the_memory_under_the_others(scene: Scene) -> None:
    """The size and the seals are sealed."""
    for size in (0, 1 << 33):
        with pytest.raises(PermissionError):
            os.ftruncate(scene.sources.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(scene.sources.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert not os.get_inheritable(scene.sources.fd)


def test_a_key_belongs_to_one_service_and_one_memory(scene: Scene) -> None:
    """The same prefix has another key for another service, and after a restart: so no
    client can find out which sources share a bucket.
    """
    other = sources.create()
    keys = {scene.key("a"), scene.key("b"), scene.key("a", DAYTIME), other.key(ECHO, b"a")}
    assert len(keys) == 4
    assert all(0 < key < 1 << 64 for key in keys)
    assert scene.key("a") == scene.key("a")
    other.close()


def test_a_reader_maps_more_lanes_when_more_rows_are_given_out(scene: Scene) -> None:
    """Each row has a lane, and none overlaps another. A process has mapped some, and
    maps others once there are children that have them.
    """
    last = layout.MAX_ROWS - 1
    other = Sources(scene.sources.fd, b"", LANE)
    other.reach(layout.MAX_ROWS)
    assert len(other.lanes) == layout.MAX_ROWS
    for row in (0, 1, ROWS_STEP - 1, ROWS_STEP, last):
        SourceLane(other, row).source_opened(scene.key("a"), 0.0)
    assert len(scene.sources.lanes) == ROWS_STEP
    assert scene.count("a") == 2
    assert SourceCounts(scene.sources, lambda: ROWS_STEP + 1).source(scene.key("a"))[0] == 4
    assert SourceCounts(scene.sources, lambda: layout.MAX_ROWS).source(scene.key("a"))[0] == 5
    scene.sources.clear(ROWS_STEP)
    other.clear(0)
    assert SourceCounts(scene.sources, lambda: layout.MAX_ROWS).source(scene.key("a"))[0] == 3


# --- open connections -----------------------------------------------------------------


def test_all_children_count_together(scene: Scene) -> None:
    """The count of a source, and of a service, is the sum over all children."""
    tokens = [scene.open("a"), scene.open("a"), scene.open("b")]
    scene.open("a", row=1)
    for lane in scene.lanes:
        lane.service_opened(ECHO)
    assert (scene.count("a"), scene.count("b"), scene.count("c")) == (3, 1, 0)
    assert (scene.counts.service_open(ECHO), scene.counts.service_open(DAYTIME)) == (2, 0)
    for token in tokens:
        scene.lanes[0].source_closed(token)
    scene.lanes[0].service_closed(ECHO)
    assert (scene.count("a"), scene.count("b"), scene.counts.service_open(ECHO)) == (1, 0, 1)


def test_a_dead_child_counts_no_more(scene: Scene) -> None:
    """Everything that it counted is forgotten, and nothing of its siblings."""
    for row in (0, 1):
        scene.open("a", row)
        scene.lanes[row].service_opened(ECHO)
        scene.lanes[row].service_admitted(ECHO, window_of(1.0, WINDOW_S))
        scene.lanes[row].source_admitted(scene.key("a"), window_of(1.0, WINDOW_S))
    scene.sources.clear(0)
    assert (scene.count("a"), scene.counts.service_open(ECHO)) == (1, 1)
    assert scene.counts.service_rate(ECHO, window_of(1.0, WINDOW_S))[0] == 1
    assert scene.rate("a", 1.0) == (1, 0)
    assert not any(scene.sources.stored(0))
    assert not any(scene.sources.sums[0 :: layout.MAX_ROWS].tolist())


def test_a_source_without_room_counts_for_its_whole_bucket(narrow: Scene) -> None:
    """An entry with open connections is never evicted. What finds no entry counts for
    each source of the bucket, until it has ended.
    """
    tokens = [narrow.open(name) for name in ("a", "b", "c", "c")]
    assert [narrow.count(name) for name in "abcd"] == [3, 3, 2, 2]
    narrow.lanes[0].source_closed(tokens[0])
    tokens[0] = narrow.open("c")
    assert narrow.count("c") == 3, "one has an entry, two are in the overflow"
    for token in tokens:
        narrow.lanes[0].source_closed(token)
    assert [narrow.count(name) for name in "abcd"] == [0, 0, 0, 0]
    assert narrow.counts.tracked(0.0) == 0


def test_a_lane_without_sources_is_skipped(narrow: Scene) -> None:
    """The number of used entries is exact, whatever came and went: at 0, readers do not
    look at the lane.
    """
    for name in ("a", "b", "c", "d"):
        narrow.admit(name, 21.0)
    assert narrow.sources.sums[LaneSums.USED] == 2
    tokens = [narrow.open(name) for name in ("a", "b", "c")]
    assert narrow.sources.sums[LaneSums.USED] == 3
    for token in tokens:
        narrow.lanes[0].source_closed(token)
    tokens = [narrow.lanes[1].source_opened(narrow.key(name), 0.0) for name in ("a", "b", "c")]
    for token in tokens:
        narrow.lanes[1].source_closed(token)
    assert narrow.sources.sums[LaneSums.USED + 1] == 0


@pytest.mark.parametrize("number", [layout.SANE_COUNT, (1 << 64) - 1])
def test_a_number_that_no_honest_count_reaches_is_none(scene: Scene, number: int) -> None:
    """A hostile child wrote it. The others count. One pass is not sure."""
    for row in (0, 1):
        scene.open("a", row)
        scene.lanes[row].source_admitted(scene.key("a"), window_of(21.0, WINDOW_S))
        scene.lanes[row].service_opened(ECHO)
        scene.lanes[row].service_admitted(ECHO, window_of(21.0, WINDOW_S))
    entry = scene.sources.stored(1).tolist().index(scene.key("a"))
    for word in (Source.OPEN, Source.COUNT):
        scene.sources.lanes[1][entry + word] = number
    for sums in (LaneSums.OPEN, LaneSums.COUNT):
        scene.sources.sums[sums + ECHO * layout.MAX_ROWS + 1] = number
    assert (scene.count("a"), scene.counts.service_open(ECHO)) == (1, 1)
    assert (
        scene.rate("a", 21.0)
        == scene.counts.service_rate(ECHO, window_of(21.0, WINDOW_S))[:2]
        == (1, 0)
    )
    assert not scene.counts.has_fewer(scene.key("a"), 100, 100, window_of(21.0, WINDOW_S))


def test_a_new_connection_repairs_the_bucket_of_its_source(narrow: Scene) -> None:
    """Whatever a hostile child has written there, and if it hid the lane."""
    narrow.open("a")
    for word in range(len(narrow.sources.lanes[0])):
        narrow.sources.lanes[0][word] = narrow.key("b")
    narrow.sources.sums[LaneSums.USED] = 0
    narrow.open("a")
    assert (narrow.count("a"), narrow.count("b")) == (2, 0)


# --- rates ----------------------------------------------------------------------------


def test_a_rate_is_that_of_two_windows(scene: Scene) -> None:
    """A window that is over counts as the one before, by the part of it that still
    reaches into the last ``window_s`` seconds, and then no more.
    """
    for now in (20.0, 21.0, 29.9):
        scene.lanes[0].service_admitted(ECHO, window_of(now, WINDOW_S))
    scene.lanes[1].service_admitted(ECHO, window_of(25.0, WINDOW_S))
    rates = [
        scene.counts.service_rate(ECHO, window_of(now, WINDOW_S))
        for now in (29.9, 30.0, 37.5, 40.0)
    ]
    assert [rate[:2] for rate in rates] == [(4, 0), (0, 4), (0, 4), (0, 0)]
    assert [rate[2] for rate in rates] == pytest.approx([0.01, 1.0, 0.25, 1.0])
    scene.lanes[0].service_admitted(ECHO, window_of(37.5, WINDOW_S))
    assert scene.counts.service_rate(ECHO, window_of(38.0, WINDOW_S))[:2] == (1, 4)
    assert scene.counts.service_rate(DAYTIME, window_of(38.0, WINDOW_S))[:2] == (0, 0)


def test_what_was_counted_may_be_taken_back(scene: Scene) -> None:
    """Out of the window in which it was counted, also when that is over."""
    lane, first, second = scene.lanes[0], window_of(21.0, WINDOW_S), window_of(31.0, WINDOW_S)
    lane.service_admitted(ECHO, first, 5)
    lane.service_released(ECHO, first, 2)
    assert scene.counts.service_rate(ECHO, first)[:2] == (3, 0)
    lane.service_admitted(ECHO, second)
    lane.service_released(ECHO, first, 1)
    assert scene.counts.service_rate(ECHO, second)[:2] == (1, 2)
    lane.service_admitted(ECHO, window_of(41.0, WINDOW_S))
    lane.service_released(ECHO, first, 1)
    assert scene.counts.service_rate(ECHO, window_of(41.0, WINDOW_S))[:2] == (1, 1)


def test_a_clock_that_is_a_window_late_forgets_nothing(scene: Scene) -> None:
    """A turn over the end of a window may read the clock before one client and after
    the one before it.
    """
    lane, early, late = scene.lanes[0], window_of(29.9, WINDOW_S), window_of(30.0, WINDOW_S)
    for window in (early, late, early):
        lane.service_admitted(ECHO, window)
        lane.source_admitted(scene.key("a"), window)
    assert scene.counts.service_rate(ECHO, late)[:2] == scene.rate("a", 30.0) == (2, 1)


def test_windows_may_be_short(scene: Scene) -> None:
    """A rate with a small burst has windows of a millisecond or less."""
    scene.admit("a", 5.00101, 0.001)
    assert scene.rate("a", 5.0015, 0.001) == (1, 0)
    assert scene.rate("a", 5.0025, 0.001) == (0, 1)
    scene.admit("b", 5.0, 1e-12)
    assert scene.rate("b", 5.0, 1e-12) == (1, 0)


def test_a_writer_may_be_a_turn_ahead_of_the_reader(scene: Scene) -> None:
    """What it has admitted in the next window counts already. One pass is not sure."""
    scene.admit("a", 29.9)
    scene.admit("a", 30.0)
    assert scene.rate("a", 29.95) == (2, 0)
    assert not scene.counts.has_fewer(scene.key("a"), 1, 3, window_of(29.95, WINDOW_S))
    assert scene.counts.has_fewer(scene.key("a"), 1, 3, window_of(30.0, WINDOW_S))


def test_windows_of_another_length_do_not_count(scene: Scene) -> None:
    """After a reload that changed a rate, counting begins anew."""
    scene.admit("a", 21.0, 60.0)
    assert scene.rate("a", 21.0, 10.0) == (0, 0)
    scene.admit("a", 22.0, 10.0)
    assert scene.rate("a", 22.0, 10.0) == (1, 0)


def test_the_source_that_came_least_gives_way(narrow: Scene) -> None:
    """In a full bucket, one whose counts are over gives way first, then the one with
    the lowest; one with open connections never does, and then the newcomer has no rate.
    """
    for name, count in (("often", 3), ("once", 1)):
        for _ in range(count):
            narrow.admit(name, 21.0)
    narrow.admit("new", 22.0)
    assert [narrow.rate(name, 22.0)[0] for name in ("often", "once", "new")] == [3, 0, 1]
    narrow.admit("new", 35.0)
    narrow.admit("next", 45.0)
    assert [narrow.rate(name, 45.0) for name in ("often", "new", "next")] == [
        (0, 0),
        (0, 1),
        (1, 0),
    ]
    for name in ("new", "next"):
        narrow.open(name)
    narrow.admit("last", 46.0)
    assert narrow.rate("last", 46.0) == (0, 0)


def test_a_source_keeps_its_rate_after_its_last_connection(scene: Scene) -> None:
    """As long as that counts."""
    token = scene.open("a")
    scene.admit("a", 21.0)
    scene.lanes[0].source_closed(token)
    assert (scene.count("a"), scene.rate("a", 22.0)) == (0, (1, 0))


def test_what_is_tracked_is_in_use(scene: Scene) -> None:
    """A source is tracked while it has open connections, and while its rate is not
    over: once for each child and service.
    """
    token = scene.open("a")
    scene.open("a", row=1)
    scene.open("b")
    scene.admit("a", 21.0)
    scene.admit("c", 21.0)
    scene.lanes[0].source_admitted(scene.key("c", DAYTIME), window_of(21.0, WINDOW_S))
    assert scene.counts.tracked(21.0) == 5
    scene.lanes[0].source_closed(token)
    assert [scene.counts.tracked(now) for now in (39.9, 40.0)] == [5, 2]


# --- the lane of a dispatcher ---------------------------------------------------------


def test_a_successor_counts_what_it_takes_over(narrow: Scene) -> None:
    """The connections that a dead dispatcher left count as before. Those that it had
    not yet counted as ended do not, and those that it had not yet counted do. Rates go
    on.
    """
    for _ in range(3):
        narrow.open("a")
    narrow.open("ended")
    narrow.lanes[0].service_admitted(ECHO, window_of(21.0, WINDOW_S))
    narrow.admit("a", 21.0)
    successor = SourceLane(narrow.sources, 0)
    keys = [narrow.key(name) for name in ("new", "a", "a")]
    tokens = successor.take_over({ECHO: 3}, keys)
    assert [narrow.count(name) for name in ("a", "new", "ended")] == [2, 1, 0]
    assert narrow.counts.service_open(ECHO) == 3
    assert narrow.counts.service_rate(ECHO, window_of(21.0, WINDOW_S))[0] == 1
    assert narrow.rate("a", 21.0) == (1, 0)
    for token in tokens:
        successor.source_closed(token)
    assert [narrow.count(name) for name in ("a", "new")] == [0, 0]
    assert narrow.counts.tracked(40.0) == 0


def test_a_successor_goes_on_with_all_rates(scene: Scene) -> None:
    """Also with those of sources that have no connection."""
    scene.admit("a", 21.0)
    scene.admit("a", 22.0)
    SourceLane(scene.sources, 0).take_over({}, [])
    assert scene.rate("a", 25.0) == (2, 0)
    assert scene.counts.tracked(25.0) == 1


def test_a_successor_leaves_out_what_a_hostile_child_has_put_there() -> None:
    """An entry in the wrong bucket, and a second one of a source."""
    scene = Scene(Shape(2, 2))
    name = next(name for name in map(str, range(99)) if scene.key(name) & 1)
    key, bucket = scene.key(name), Shape(2, 2).bucket_words
    scene.open(name)
    words = scene.sources.lanes[0]
    for forged in (1, bucket + 1, bucket + 1 + Source.size):
        words[forged], words[forged + Source.OPEN] = key, 9
    SourceLane(scene.sources, 0).take_over({}, [key])
    stored = scene.sources.stored(0).tolist()
    assert (scene.count(name), stored.count(key), sum(stored)) == (1, 1, key + 1)
    scene.sources.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["x", "a"], ["a"]),  # a moves from the overflow to the entry
        (["a", "a", "x"], ["x", "a", "a"]),  # x does not take the entry of a
        (["x", "a", "a"], ["a", "x", "a"]),
        (["x", "x", "a"], ["a", "a"]),
    ],
)
def test_no_connection_is_missing_during_a_hand_over(before: list[str], after: list[str]) -> None:
    """At each store of the successor, another process sees all connections of a source:
    its entry is written before the overflow of its bucket goes down.
    """
    scene = Scene(Shape(1, 1))
    for name in before:
        scene.open(name)
    seen: list[bool] = []
    names = {name for name in after if before.count(name) >= after.count(name)}

    def look() -> None:
        seen.append(all(scene.count(name) >= after.count(name) for name in names))

    scene.sources.lanes[0] = Watched(scene.sources.lanes[0], look)  # type: ignore[call-overload]
    scene.counts = SourceCounts(Sources(scene.sources.fd, b"", Shape(1, 1)), lambda: 2)
    SourceLane(scene.sources, 0).take_over({}, [scene.key(name) for name in after])
    assert len(seen) >= Source.size
    assert all(seen)
    scene.sources.close()
