"""The roll: what the keeper of a table of sessions books in its row."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.support.memory_sink import MemorySink
from unpd.access.network import Network
from unpd.board import layout
from unpd.board.ended import RecentEnd
from unpd.board.layout import Row, Service, Session
from unpd.board.sessions import SessionTable
from unpd.board.source_lane import SourceLane
from unpd.board.sources import Shape, SourceCounts, create
from unpd.config.times import ServiceTimes
from unpd.dispatcher.roll import Began, Roll
from unpd.kernel.tcp_info import PathQuality
from unpd.logs import Log
from unpd.names import MAX_PID, EndCause, ReapReason
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.admission import Hold
from unpd.worker.ledger import Account, Ledger
from unpd.worker.selection import Kick, Selection
from unpd.worker.terms import Terms

ECHO = 3
"""The column of the service."""
LISTENER = Row.LISTENER_ACCEPTED + 2
S = layout.NS
CELLS = layout.service_cells(ECHO)


class Scene:
    """A dispatcher's row, its table, and the roll of its present keeper."""

    def __init__(self, size: int) -> None:
        self.row = memoryview(bytearray(Row.size * layout.WORD_BYTES)).cast("Q")
        self.table = SessionTable(size)
        self.sources = create(Shape(buckets=4, entries=2))
        self.sources.reach(1)
        self.counts = SourceCounts(self.sources, lambda: 1)
        self.begin_again()

    def begin_again(self) -> None:
        """Another keeper takes the table over."""
        times = ServiceTimes(1.0, 0.0, 1.0)
        terms = Terms(name="echo", service=Echo(EchoOptions()), times=times, words=CELLS)
        self.ledger = Ledger(self.row, [terms])
        self.lane = SourceLane(self.sources, 0)
        self.roll = Roll(self.table, self.ledger, {ECHO: terms}, self.lane)

    def begin(self, pid: int = 0, source: int = 0) -> int:
        """A connection is accepted at 10 s, and forked if ``pid``."""
        hold = (self.lane.source_opened(source, 10.0), source, True) if source else None
        index = self.enter(b"\x01peer", hold)
        if pid:
            self.roll.forked(index, pid)
        return index

    def enter(self, peer: bytes, hold: Hold | None = None) -> int:
        """A connection is let in at 10 s."""
        self.lane.service_opened(ECHO)
        return self.roll.begin(Began(ECHO, LISTENER, peer, 10 * S, hold))

    @property
    def open(self) -> int:
        """How many connections count for the limit of the service."""
        return self.counts.service_open(ECHO)

    def moves(self, index: int, received: int, sent: int) -> None:
        """The session writes how many bytes it has moved so far."""
        words = self.table.entry(index)
        words[Session.COUNTS + Service.RECEIVED] = received
        words[Session.COUNTS + Service.SENT] = sent

    def says(self, index: int, cause: EndCause) -> None:
        """The session writes why its connection ended."""
        word = Service.ENDED + layout.END_CAUSES.index(cause)
        self.table.entry(index)[Session.COUNTS + word] = 1

    def word(self, word: int) -> int:
        """A word of the service in the row, after a turn."""
        self.ledger.book()
        return self.row[CELLS + word]

    def ended(self, cause: EndCause) -> int:
        """How many connections ended for a cause."""
        return self.word(Service.ENDED + layout.END_CAUSES.index(cause))

    def reaped(self, reason: ReapReason) -> int:
        """How many processes ended in a way."""
        return self.word(Service.SESSIONS_REAPED + layout.REAP_REASONS.index(reason))


@pytest.fixture
def make_scene() -> Iterator[Callable[[int], Scene]]:
    """Make a scene with a table for so many."""
    with contextlib.ExitStack() as stack:

        def make(size: int) -> Scene:
            scene = Scene(size)
            stack.callback(scene.sources.close)
            return scene

        yield make


@pytest.fixture
def scene(make_scene: Callable[[int], Scene]) -> Scene:
    """A table for two."""
    return make_scene(2)


def test_a_place_is_free_before_the_end_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that comes when the metrics show the end is let in."""
    scene, seen = Scene(1), list[int]()
    counted = scene.ledger.ended

    def ended(account: Account, cause: EndCause, duration_s: float) -> None:
        seen.append(scene.open)
        counted(account, cause, duration_s)

    monkeypatch.setattr(scene.ledger, "ended", ended)
    scene.roll.ended(scene.begin(pid=7), ReapReason.CLEAN, 12 * S)
    assert seen == [0]


def test_a_session_is_counted_from_its_accept_to_its_end(scene: Scene) -> None:
    """The accept, the fork, the bytes, the end with its cause and its duration, the
    reap.
    """
    index = scene.begin(pid=4711)
    assert (scene.word(Service.ACCEPTED), scene.row[LISTENER], scene.ledger.open) == (1, 1, 1)
    assert (scene.word(Service.SESSIONS_FORKED), scene.open) == (1, 1)
    scene.moves(index, 7, 5)
    scene.says(index, EndCause.IDLE)
    ended = scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    assert (ended.cause, ended.duration_s, ended.peer[:5]) == (EndCause.IDLE, 2.0, b"\x01peer")
    assert (scene.word(Service.RECEIVED), scene.word(Service.SENT)) == (7, 5)
    assert (scene.ended(EndCause.IDLE), scene.reaped(ReapReason.CLEAN)) == (1, 1)
    assert scene.word(Service.DURATION_SUM_NS) == 2 * S
    assert (scene.ledger.open, scene.open, scene.table.used()) == (0, 0, [])


def test_a_session_cannot_forge_its_peer(scene: Scene) -> None:
    """The keeper that accepted the connection knows the address of its client, whatever
    the session writes into the table.
    """
    peer = struct.pack("=H", socket.AF_INET) + bytes((0, 7, 192, 0, 2, 1))
    index = scene.enter(peer)
    scene.roll.forked(index, 4711)
    scene.table.entry(index)[Session.PEER] = 0
    (present,) = scene.roll.present()
    assert present.describe(12.0)["peer"] == "192.0.2.1:7"
    memory = MemorySink()
    ended = scene.roll.ended(index, ReapReason.SIGKILL, 12 * S)
    ended.log_death(Log(memory.sink, "info", "text"), ReapReason.SIGKILL, "killed by SIGKILL")
    (line,) = memory.lines
    assert " peer=192.0.2.1:7 " in line


def test_the_next_keeper_has_the_peers_from_the_table(scene: Scene) -> None:
    """The sessions live on, and so do their clients."""
    for family, size, rest, shown in (
        (socket.AF_INET, 8, bytes((192, 0, 2, 1)), "192.0.2.1:7"),
        (socket.AF_INET6, 28, bytes(4 + 15) + b"\x01", "[::1]:7"),
    ):
        peer = (struct.pack("=H", family) + bytes((0, 7)) + rest).ljust(size, b"\0")
        index = scene.enter(peer)
        scene.begin_again()
        (present,) = scene.roll.present()
        assert present.describe(12.0)["peer"] == shown
        scene.roll.ended(index, ReapReason.CLEAN, 12 * S)


def test_the_bytes_stand_in_the_row_before_the_end(scene: Scene) -> None:
    """A scrape that sees the end of a connection sees all its bytes."""
    index = scene.begin(pid=4711)
    scene.moves(index, 7, 5)
    scene.says(index, EndCause.DONE)
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    assert scene.row[CELLS + Service.RECEIVED] == 7
    assert scene.row[CELLS + Service.SENT] == 5


def test_bytes_are_booked_once(scene: Scene) -> None:
    """However often they are looked at, also by the next keeper."""
    index = scene.begin(pid=4711)
    scene.moves(index, 7, 5)
    scene.roll.book()
    scene.roll.book()
    assert (scene.word(Service.RECEIVED), scene.word(Service.SENT)) == (7, 5)
    scene.moves(index, 8, 15)
    scene.begin_again()
    scene.roll.book()
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    assert (scene.word(Service.RECEIVED), scene.word(Service.SENT)) == (8, 15)


def test_the_next_keeper_counts_the_sessions_that_are_there(scene: Scene) -> None:
    """They are open, and keep their entries."""
    index = scene.begin(pid=4711)
    scene.begin_again()
    assert (scene.ledger.open, scene.open) == (1, 1)
    assert scene.roll.enrolled[index].pid == 4711
    assert scene.begin(pid=4712) != index
    assert scene.roll.full
    assert scene.word(Service.ACCEPTED) == 2


def test_a_session_that_says_nothing_has_died(scene: Scene) -> None:
    """Its connection ended with its process."""
    scene.roll.ended(scene.begin(pid=4711), ReapReason.SIGKILL, 12 * S)
    assert (scene.ended(EndCause.WORKER_DIED), scene.reaped(ReapReason.SIGKILL)) == (1, 1)


def test_a_connection_without_a_process_ends_with_the_dispatcher(scene: Scene) -> None:
    """The kernel refused its fork. No process was forked, and none is reaped."""
    index = scene.begin()
    scene.roll.fork_failed(index)
    scene.roll.ended(index, None, 12 * S)
    assert scene.ended(EndCause.SHUTDOWN) == 1
    assert scene.word(Service.SESSION_FORK_FAILURES) == 1
    assert scene.word(Service.SESSIONS_FORKED) == 0
    assert not any(scene.reaped(reason) for reason in ReapReason)


def test_a_process_that_nobody_counted_is_counted_by_the_next_keeper(scene: Scene) -> None:
    """The session entered its pid, and the dispatcher died before it could count it.
    So never more processes are reaped than were forked.
    """
    index = scene.begin()
    scene.table.entry(index)[Session.PID] = 4711
    scene.begin()  # no process was forked
    for _ in range(3):
        scene.begin_again()
        assert scene.word(Service.SESSIONS_FORKED) == 1
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    assert scene.reaped(ReapReason.CLEAN) == 1
    scene.begin(pid=4712)
    assert scene.word(Service.SESSIONS_FORKED) == 2


def test_a_process_is_counted_once(scene: Scene) -> None:
    """Also where the next keeper finds it."""
    scene.begin(pid=4711)
    scene.begin_again()
    assert scene.word(Service.SESSIONS_FORKED) == 1


def test_an_entry_can_be_used_again(scene: Scene) -> None:
    """For as many sessions as there are entries, again and again."""
    for _ in range(5):
        first, second = scene.begin(pid=1), scene.begin(pid=2)
        assert scene.roll.full
        scene.roll.ended(first, ReapReason.CLEAN, 12 * S)
        assert len(scene.table.used()) == 1
        scene.roll.ended(second, ReapReason.CLEAN, 12 * S)
    assert scene.word(Service.ACCEPTED) == scene.ended(EndCause.WORKER_DIED) == 10


def test_lines_that_a_session_dropped_count(scene: Scene) -> None:
    """In the dispatcher's row, with its own."""
    index = scene.begin(pid=4711)
    scene.table.entry(index)[Session.LOG_DROPPED] = 3
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    assert scene.row[Row.LOG_DROPPED] == 3


@pytest.mark.parametrize(("word", "status"), [(0, None), (1, 0), (10, 9), (1 << 16, 0xFFFF)])
def test_the_master_writes_a_status(scene: Scene, word: int, status: int | None) -> None:
    """One more than the wait status, so that 0 means none."""
    index = scene.begin(pid=4711)
    scene.table.entry(index)[Session.STATUS] = word
    assert scene.roll.status(index) == status


def _forge_all(words: memoryview, number: int) -> None:
    words[:] = memoryview(number.to_bytes(8, "little") * len(words)).cast("Q")


def _forge_service(words: memoryview, number: int) -> None:
    words[Session.SERVICE] = number


@pytest.mark.parametrize("number", [1, 63, 64, (1 << 62) - 1, 1 << 62, (1 << 64) - 1])
@pytest.mark.parametrize("forge", [_forge_all, _forge_service])
def test_a_forged_entry_stops_nobody(
    scene: Scene, forge: Callable[[memoryview, int], None], number: int
) -> None:
    """A session may write what it likes. The keeper goes on by its own memory: the
    counts of connections stay true, and those of bytes do not overflow.
    """
    index = scene.begin(pid=4711)
    forge(scene.table.entry(index), number)
    scene.roll.book()
    scene.ledger.book()
    assert scene.roll.status(index) in (None, *range(1 << 16))
    list(scene.roll.present())
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    assert sum(scene.ended(cause) for cause in EndCause) == scene.word(Service.ACCEPTED) == 1
    assert (scene.ledger.open, scene.open) == (0, 0)
    scene.begin(pid=4712)
    forge(scene.table.entry(index), number)
    scene.begin_again()
    assert len(scene.roll.enrolled) == scene.ledger.open <= 1


@pytest.mark.parametrize("pid", [MAX_PID + 1, 1 << 40, (1 << 64) - 1])
def test_a_pid_that_the_kernel_never_gives_is_none(scene: Scene, pid: int) -> None:
    """The keeper asks the kernel about the pids in the table, and it takes only an
    int.
    """
    index = scene.begin(pid=4711)
    scene.table.entry(index)[Session.PID] = pid
    scene.begin_again()
    assert scene.roll.enrolled[index].pid == 0


def test_a_source_counts_until_its_session_ends(scene: Scene) -> None:
    """Also after another keeper has taken the table and the lane over."""
    key = scene.sources.key(ECHO, b"source")
    holds = [(scene.lane.source_opened(key, 10.0), key, True) for _ in range(2)]
    first, second = (scene.enter(b"\x01peer", hold) for hold in holds)
    assert scene.counts.source(key)[0] == 2
    scene.roll.ended(first, ReapReason.CLEAN, 12 * S)
    scene.begin_again()
    assert (scene.counts.source(key)[0], scene.open) == (1, 1)
    scene.roll.ended(second, ReapReason.CLEAN, 12 * S)
    assert (scene.counts.source(key)[0], scene.open) == (0, 0)


def test_the_next_keeper_counts_the_sources_of_the_sessions(scene: Scene) -> None:
    """Whatever the last one had counted, and whatever key a session forged."""
    key = scene.sources.key(ECHO, b"a")
    index, forged = scene.begin(pid=4711, source=key), scene.begin(pid=4712)
    SourceLane(scene.sources, 0).take_over({}, [])
    scene.table.entry(forged)[Session.SOURCE] = (1 << 64) - 1
    scene.begin_again()
    assert (scene.counts.source(key)[0], scene.counts.service_open(ECHO)) == (1, 2)
    assert scene.counts.source((1 << 64) - 1)[0] == 1
    for each in (index, forged):
        scene.roll.ended(each, ReapReason.CLEAN, 12 * S)
    assert (scene.counts.source(key)[0], scene.counts.tracked(12.0)) == (0, 0)


def test_a_session_as_an_operator_sees_it(scene: Scene) -> None:
    """Its service, its peer, its bytes, its age and its process."""
    scene.moves(scene.begin(pid=4711), 7, 5)
    (present,) = scene.roll.present()
    assert present.describe(12.5) == {
        "service": "echo",
        "peer": "unknown",
        "local": "unknown",
        "age_s": 2.5,
        "received": 7,
        "sent": 5,
        "state": "serving",
        "pid": 4711,
    }


def test_the_sessions_of_a_network_are_told_why_they_leave(
    make_scene: Callable[[int], Scene],
) -> None:
    """Those with clients in it get the word, and no other; also one that has no process
    yet. A session that forged its address is none of them, and no fault.
    """
    scene = make_scene(4)
    addresses = ("192.0.2.7", "198.51.100.7", "192.0.2.8")
    indexes = []
    for address in addresses:
        peer = struct.pack("=HH4s", socket.AF_INET, 7, socket.inet_aton(address))
        indexes.append(scene.enter(peer))
    forged = scene.begin()
    scene.roll.forked(indexes[0], 4711)
    kicked = scene.roll.kick(Kick(Selection(network=Network.parse("192.0.2.0/24"))), 12.0)
    assert kicked == {indexes[0], indexes[2]}
    words = [scene.table.entry(index)[Session.KICKED] for index in (*indexes, forged)]
    denied = layout.END_CAUSES.index(EndCause.DENIED) + 1
    assert words == [denied, 0, denied, 0]


def test_a_new_session_in_the_entry_of_a_kicked_one_stays(
    make_scene: Callable[[int], Scene],
) -> None:
    """The word goes with the entry's next beginning."""
    scene = make_scene(1)
    index = scene.begin(pid=4711)
    scene.table.entry(index)[Session.KICKED] = 1
    scene.roll.ended(index, ReapReason.CLEAN, 11 * S)
    assert scene.begin() == index
    assert scene.table.entry(index)[Session.KICKED] == 0


def the_path(scene: Scene, index: int, rtt_ns: int, again: int) -> None:
    """A session counts the path to its client."""
    words = scene.table.entry(index)
    words[Session.COUNTS + Service.RTT_BUCKETS] = 1
    words[Session.COUNTS + Service.RTT_SUM_NS] = rtt_ns
    words[Session.COUNTS + Service.RETRANSMITTED] = again


def test_the_path_to_the_client_is_booked(scene: Scene) -> None:
    """By its round-trip time, whatever bucket the session has counted in."""
    index = scene.begin(pid=4711)
    the_path(scene, index, 20_000_000, 3)
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    bucket = Service.RTT_BUCKETS + layout.RTT_BOUNDS_S.index(0.025)
    assert (scene.word(bucket), scene.word(Service.RTT_SUM_NS)) == (1, 20_000_000)
    assert scene.word(Service.RETRANSMITTED) == 3


@pytest.mark.parametrize(("rtt_ns", "again"), [(1 << 43, 0), (5, 1 << 32)])
def test_a_way_that_no_kernel_tells_is_not_booked(scene: Scene, rtt_ns: int, again: int) -> None:
    """A session forged it."""
    index = scene.begin(pid=4711)
    the_path(scene, index, rtt_ns, again)
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    assert not any(scene.row[CELLS + Service.RTT_BUCKETS : CELLS + Service.OLDEST_NS])


def test_an_end_is_remembered(scene: Scene) -> None:
    """With all that is known of it."""
    index = scene.begin(pid=4711)
    scene.moves(index, 7, 5)
    scene.says(index, EndCause.IDLE)
    the_path(scene, index, 20_000_000, 3)
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    expected = RecentEnd(CELLS, b"\x01peer", EndCause.IDLE, 12.0, 2.0, 7, 5, PathQuality(0.02, 3))
    assert list(scene.ledger.ends) == [expected]


def test_the_oldest_connection_is_booked(scene: Scene) -> None:
    """With the bytes. None when all have ended."""
    index = scene.begin(pid=4711)
    scene.lane.service_opened(ECHO)
    scene.roll.begin(Began(ECHO, LISTENER, b"\x01peer", 11 * S))
    scene.roll.book()
    assert scene.word(Service.OLDEST_NS) == 10 * S
    scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    scene.roll.book()
    assert scene.word(Service.OLDEST_NS) == 11 * S
    (other,) = scene.roll.enrolled
    scene.roll.ended(other, ReapReason.CLEAN, 12 * S)
    scene.roll.book()
    assert scene.word(Service.OLDEST_NS) == 0


@pytest.mark.parametrize(
    ("cause", "lines"), [(EndCause.WORKER_DIED, 1), (EndCause.IDLE, 0), (EndCause.CLIENT_RST, 0)]
)
def test_the_end_of_a_session_that_died_is_logged(
    scene: Scene, cause: EndCause, lines: int
) -> None:
    """By its keeper. Any other session has logged its end itself."""
    index = scene.begin(pid=4711)
    scene.moves(index, 7, 5)
    if cause is not EndCause.WORKER_DIED:
        scene.says(index, cause)
    memory = MemorySink()
    ended = scene.roll.ended(index, ReapReason.SIGKILL, 12 * S)
    ended.log_connection(Log(memory.sink, "debug", "text"))
    assert len(memory.lines) == lines
    for line in memory.lines:
        assert " cause=worker_died received=7 sent=5 duration_s=2.0 " in line
