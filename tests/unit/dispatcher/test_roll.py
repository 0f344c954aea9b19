"""The roll: what the keeper of a table of sessions books in its row."""

from collections.abc import Callable

import pytest

from unpd.board import layout
from unpd.board.layout import Row, Service, Session
from unpd.board.sessions import SessionTable
from unpd.config.times import ServiceTimes
from unpd.dispatcher.roll import Roll
from unpd.names import MAX_PID, EndCause, ReapReason
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.ledger import Ledger
from unpd.worker.terms import Terms

ECHO = 3
"""The column of the service."""
LISTENER = Row.LISTENER_ACCEPTED + 2
S = layout.NS
CELLS = layout.service_cells(ECHO)


class Scene:
    """A dispatcher's row, its table, and the roll of its present keeper."""

    def __init__(self, size: int = 2) -> None:
        self.row = memoryview(bytearray(Row.size * layout.WORD_BYTES)).cast("Q")
        self.table = SessionTable(size)
        self.begin_again()

    def begin_again(self) -> None:
        """Another keeper takes the table over."""
        times = ServiceTimes(1.0, 0.0, 1.0)
        terms = Terms(name="echo", service=Echo(EchoOptions()), times=times, words=CELLS)
        self.ledger = Ledger(self.row, [terms])
        self.roll = Roll(self.table, self.ledger, {ECHO: terms})

    def begin(self, pid: int = 0) -> int:
        """A connection is accepted at 10 s, and forked if ``pid``."""
        index = self.roll.begin(ECHO, LISTENER, b"\x01peer", 10 * S)
        if pid:
            self.roll.forked(index, pid)
        return index

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
def scene() -> Scene:
    """A table for two."""
    return Scene()


def test_a_session_is_counted_from_its_accept_to_its_end(scene: Scene) -> None:
    """The accept, the fork, the bytes, the end with its cause and its duration, the
    reap.
    """
    index = scene.begin(pid=4711)
    assert (scene.word(Service.ACCEPTED), scene.row[LISTENER], scene.ledger.open) == (1, 1, 1)
    assert (scene.word(Service.SESSIONS_FORKED), scene.roll.open[ECHO]) == (1, 1)
    scene.moves(index, 7, 5)
    scene.says(index, EndCause.IDLE)
    ended = scene.roll.ended(index, ReapReason.CLEAN, 12 * S)
    assert (ended.cause, ended.duration_s, ended.peer[:5]) == (EndCause.IDLE, 2.0, b"\x01peer")
    assert (scene.word(Service.RECEIVED), scene.word(Service.SENT)) == (7, 5)
    assert (scene.ended(EndCause.IDLE), scene.reaped(ReapReason.CLEAN)) == (1, 1)
    assert scene.word(Service.DURATION_SUM_NS) == 2 * S
    assert (scene.ledger.open, scene.roll.open[ECHO], scene.table.used()) == (0, 0, [])


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
    assert (scene.ledger.open, scene.roll.open[ECHO]) == (1, 1)
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
    assert (scene.ledger.open, scene.roll.open[ECHO]) == (0, 0)
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


def test_a_session_as_an_operator_sees_it(scene: Scene) -> None:
    """Its service, its peer, its bytes and its age."""
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
    }
