"""The scoreboard: rows that do not overlap, a directory of living children, and counts
that are never lost.
"""

import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from unpd.board import layout
from unpd.board.columns import Columns, ColumnsExhaustedError
from unpd.board.memory import BoardRefusedError, Entry, Scoreboard, adopt, create, rows_bound
from unpd.config.addresses import parse_address
from unpd.master.listening.listener import is_key
from unpd.names import ChildKind, ChildPhase, EndCause, ReapReason


@pytest.fixture
def fd() -> Iterator[int]:
    """The memory behind a board."""
    fd = create()
    yield fd
    os.close(fd)


@pytest.fixture
def board(fd: int) -> Scoreboard:
    """A new board."""
    return Scoreboard(fd)


def entry(row: int, birth: int = 7) -> Entry:
    """The entry of a ready worker."""
    return Entry(row, birth, 4711, ChildKind.WORKER, 3, ChildPhase.READY, 2)


def test_a_new_board_says_what_it_is_and_is_empty(board: Scoreboard) -> None:
    """A new board begins with magic and layout, and has no entry and no count."""
    assert board.words[layout.Master.MAGIC] == layout.MAGIC
    assert board.words[layout.Master.LAYOUT] == layout.FINGERPRINT
    assert board.words[layout.Master.MAGIC].to_bytes(8, "little") == b"unpd-sb\0"
    assert (board.rows_shown(), board.entries()) == (0, [])
    assert not any(board.words[layout.Master.PHASE : layout.Board.DIRECTORY])


def test_a_board_costs_nothing_until_it_is_used(fd: int) -> None:
    """The memory is sparse: rows that no child ever had take no page."""
    assert os.fstat(fd).st_size == layout.BOARD_BYTES > 10_000_000
    assert os.fstat(fd).st_blocks * 512 < 100_000


@pytest.mark.parametrize("limit", [resource.RLIMIT_FSIZE, resource.RLIMIT_AS], ids=["size", "map"])
def test_a_board_that_cannot_be_made_leaves_no_descriptor(limit: int) -> None:
    """Neither where the kernel refuses its size nor where it refuses to map it."""
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = sorted(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(limit)
    low = layout.BOARD_BYTES // 2
    resource.setrlimit(
        limit, (low if limit == resource.RLIMIT_FSIZE else address_space + low, hard)
    )
    try:
        with pytest.raises(OSError, match=r"File too large|Cannot allocate memory"):
            create()
    finally:
        resource.setrlimit(limit, (soft, hard))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_nobody_can_shrink_the_board_under_the_others(fd: int) -> None:
    """The size and the seals are sealed: a process that could shrink the memory would
    end all others with SIGBUS.
    """
    for size in (0, layout.BOARD_BYTES + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    Scoreboard(fd).words[layout.Master.PHASE] = 1


def test_a_board_that_can_be_shrunk_is_refused() -> None:
    """A board of an earlier version, whose size is not sealed, is not adopted."""
    fd = os.memfd_create("board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, layout.BOARD_BYTES)
        words = Scoreboard(fd).words
        words[layout.Master.MAGIC] = layout.MAGIC
        words[layout.Master.LAYOUT] = layout.FINGERPRINT
        with pytest.raises(BoardRefusedError, match="its size is not sealed"):
            adopt(fd)
    finally:
        os.close(fd)


def test_rows_do_not_touch(board: Scoreboard) -> None:
    """A child that fills its row changes no other row and no word of the master."""
    before, mine, after = board.row(4), board.row(5), board.row(6)
    for at in range(len(mine)):
        mine[at] = 2**64 - 1
    assert not any(before)
    assert not any(after)
    assert not board.rows_shown()


def test_the_last_row_is_the_end(board: Scoreboard) -> None:
    """The last row is complete."""
    assert len(board.row(layout.MAX_ROWS - 1)) == layout.Row.size


def test_every_mapping_sees_the_same(fd: int, board: Scoreboard) -> None:
    """A count that one process writes can be read by another."""
    cell = layout.service_cells(2) + layout.Service.ACCEPTED
    board.row(3)[cell] = 12345678901234567890
    assert Scoreboard(fd).row(3)[cell] == 12345678901234567890


def test_the_living_are_listed_by_row(board: Scoreboard) -> None:
    """Entries are listed from enter to leave, by row."""
    exporter = Entry(2, 8, 4712, ChildKind.EXPORTER, 0, ChildPhase.DRAINING, 1)
    board.enter(entry(9))
    board.enter(exporter)
    assert board.entries() == [exporter, entry(9)]
    assert board.rows_shown() == 10
    board.leave(2)
    assert board.entries() == [entry(9)]
    assert board.rows_shown() == 10, "the counts of a row outlive its child"


def test_a_phase_can_change(board: Scoreboard) -> None:
    """set_phase changes the phase of an entry and nothing else."""
    board.enter(entry(0))
    board.set_phase(0, ChildPhase.DRAINING)
    (found,) = board.entries()
    assert (found.phase, found.pid, found.birth) == (ChildPhase.DRAINING, 4711, 7)


def test_a_reaped_child_stays_without_its_pid(board: Scoreboard) -> None:
    """mark_reaped keeps the entry, for the sessions; the pid may be another process."""
    board.enter(entry(0))
    board.enter(entry(1))
    board.mark_reaped(0)
    first, second = board.entries()
    assert (first.phase, first.pid, first.birth) == (ChildPhase.KILLED, 0, 7)
    assert (first.reaped, second.reaped) == (True, False)


@pytest.mark.parametrize(
    "at", [layout.Directory.KIND, layout.Directory.PHASE, layout.Directory.POOL]
)
def test_an_entry_that_makes_no_sense_is_left_out(board: Scoreboard, at: int) -> None:
    """An entry that a faulty child overwrote is left out, and no other is."""
    board.enter(entry(0))
    board.enter(entry(1))
    board.words[layout.Board.DIRECTORY + at] = 2**64 - 1
    assert board.entries() == [entry(1)]


@pytest.mark.parametrize(
    ("at", "first_wrong"),
    [
        (layout.Directory.KIND, len(layout.KINDS)),
        (layout.Directory.PHASE, len(layout.PHASES)),
        (layout.Directory.POOL, layout.MAX_POOLS),
    ],
)
def test_the_first_impossible_number_is_left_out(
    board: Scoreboard, at: int, first_wrong: int
) -> None:
    """An index just beyond its table makes no sense; the table's last index does."""
    board.enter(entry(0))
    board.words[layout.Board.DIRECTORY + at] = first_wrong
    assert board.entries() == []
    board.words[layout.Board.DIRECTORY + at] = first_wrong - 1
    assert len(board.entries()) == 1


def test_an_impossible_number_of_rows_is_not_believed(board: Scoreboard) -> None:
    """The number of used rows is at most the number of rows."""
    board.words[layout.Master.ROWS_USED] = 2**64 - 1
    assert board.rows_shown() == layout.MAX_ROWS


@pytest.mark.parametrize(
    ("rows", "bound"),
    [(0, 128), (1, 128), (127, 128), (128, 256), (2047, layout.MAX_ROWS), (2048, layout.MAX_ROWS)],
)
def test_the_bound_of_rows_has_few_steps(rows: int, bound: int) -> None:
    """The bound has room for one row more than was given out, and no more than 16
    steps.
    """
    assert rows_bound(rows) == bound


def test_no_more_rows_are_believed_than_the_bound(board: Scoreboard) -> None:
    """A forged number of rows counts up to the bound of this process; the bound hides
    no row that it knows itself.
    """
    board.rows_bound = 128
    board.words[layout.Master.ROWS_USED] = 2**64 - 1
    assert board.rows_shown() == 128
    board.rows_given = 130
    assert board.rows_shown() == 130


def test_open_connections_of_a_dead_worker_are_counted(board: Scoreboard) -> None:
    """The open connections of a dead worker are counted as worker_died, for each
    service. Earlier ends stay as they are, and a second call finds nothing.
    """
    cells = board.row(1)
    first, last = layout.service_cells(0), layout.service_cells(layout.MAX_SERVICES - 1)
    cells[first + layout.Service.ACCEPTED] = 10
    cells[first + layout.Service.ENDED + layout.END_CAUSES.index(EndCause.CLIENT_FIN)] = 6
    cells[first + layout.Service.ENDED + layout.END_CAUSES.index(EndCause.IDLE)] = 1
    cells[last + layout.Service.ACCEPTED] = 2
    cells[first + layout.Service.OLDEST_NS] = 7
    assert board.book_worker_died(1) == {0: 3, layout.MAX_SERVICES - 1: 2}
    assert cells[first + layout.Service.OLDEST_NS] == 0
    died = layout.Service.ENDED + layout.END_CAUSES.index(EndCause.WORKER_DIED)
    assert (cells[first + died], cells[last + died]) == (3, 2)
    assert board.book_worker_died(1) == {}


def test_each_death_in_a_row_adds_to_what_the_deaths_before_left_open(board: Scoreboard) -> None:
    """A row's counts are cumulative over its births; a single connection counts too."""
    cells = board.row(1)
    died = layout.service_cells(0) + layout.Service.ENDED
    died += layout.END_CAUSES.index(EndCause.WORKER_DIED)
    cells[layout.service_cells(0) + layout.Service.ACCEPTED] = 1
    assert board.book_worker_died(1) == {0: 1}
    cells[layout.service_cells(0) + layout.Service.ACCEPTED] = 3
    assert board.book_worker_died(1) == {0: 2}
    assert cells[died] == 3


@pytest.mark.parametrize(
    ("accepted", "ended"),
    [
        (5, 6),
        (0, 2**64 - 1),
        (2**64 - 1, 0),
        (2**64 - 1, 2**64 - 1),
        (layout.SANE_COUNT, 0),
    ],
)
def test_impossible_counts_are_not_counted_as_lost(
    board: Scoreboard, accepted: int, ended: int
) -> None:
    """A row with more ends than accepts, or with an impossible number, stays as it is:
    its child was faulty.
    """
    cells = board.row(0)
    cells[layout.service_cells(0) + layout.Service.ACCEPTED] = accepted
    cells[layout.service_cells(0) + layout.Service.ENDED] = ended
    assert board.book_worker_died(0) == {}
    assert sum(cells) == accepted + ended


def test_the_masters_counters_cannot_overflow(board: Scoreboard) -> None:
    """The master's counters wrap, so that a value that a faulty child wrote cannot stop
    the master.
    """
    board.words[layout.Master.FORK_FAILURES] = 2**64 - 1
    board.count(layout.Master.FORK_FAILURES)
    assert board.words[layout.Master.FORK_FAILURES] == 0
    board.count(layout.Master.FORK_FAILURES, 41)
    board.count(layout.Master.FORK_FAILURES)
    assert board.words[layout.Master.FORK_FAILURES] == 42


def test_a_row_is_prepared_for_its_next_birth(board: Scoreboard) -> None:
    """A prepared row keeps its honest counts. What describes the last child alone is
    removed, and so are values that would overflow.
    """
    cells = board.row(0)
    honest = layout.service_cells(0) + layout.Service.RECEIVED
    faulty = layout.service_cells(1) + layout.Service.SENT
    own = (layout.Row.BEAT_NS, layout.Row.EXIT_NS, layout.Row.OPEN, layout.Row.BUSY_NS)
    for offset in own:
        cells[offset] = 123
    cells[honest] = layout.SANE_COUNT - 1
    cells[faulty] = 2**64 - 1
    board.prepare(0)
    assert not any(cells[offset] for offset in own)
    assert cells[honest] == layout.SANE_COUNT - 1
    assert cells[faulty] == 0


@pytest.mark.parametrize("others", [0, 2**64 - 1])
def test_the_least_value_that_no_counter_reaches_is_removed(board: Scoreboard, others: int) -> None:
    """SANE_COUNT itself goes at the next birth, whatever else the row holds."""
    cells = board.row(0)
    cells[layout.Row.LISTENER_ACCEPTED] = layout.SANE_COUNT
    cells[layout.Row.LISTENER_ACCEPTED + 1] = others
    board.prepare(0)
    assert not any(cells)


@pytest.mark.parametrize("bounds", [layout.DURATION_BOUNDS_S, layout.REAP_BOUNDS_S])
def test_bounds_go_up(bounds: tuple[float, ...]) -> None:
    """Bounds strictly increase: each value has one bucket, and so have values above all
    bounds.
    """
    assert list(bounds) == sorted(set(bounds))


def columns_for(limit: int) -> Columns:
    """Columns with room for ``limit`` names."""
    return Columns("services", memoryview(bytearray(limit * layout.NAME_BYTES)).cast("Q"), is_key)


def test_a_name_keeps_its_column() -> None:
    """A name keeps its column for the master's life, so that no series changes its
    meaning.
    """
    columns = columns_for(3)
    names = ("echo", "daytime", "echo", "time", "daytime")
    assert [columns.column(name) for name in names] == [0, 1, 0, 2, 1]


def test_columns_run_out() -> None:
    """The first name without room is refused; names that have a column keep it."""
    columns = columns_for(2)
    columns.column("echo")
    columns.column("daytime")
    reason = "more than 2 services in one life of the daemon: stop and start unpd to use time"
    with pytest.raises(ColumnsExhaustedError, match=reason):
        columns.column("time")
    assert columns.column("echo") == 0


def test_room_is_looked_for_before_any_is_taken() -> None:
    """A configuration with one name too many takes no column. Names that have a column
    need no other.
    """
    columns = columns_for(3)
    columns.column("echo")
    columns.check(("echo", "daytime", "time", "time"))
    reason = "more than 3 services in one life of the daemon: stop and start unpd to use"
    with pytest.raises(ColumnsExhaustedError, match=f"{reason} chargen, daytime, time"):
        columns.check(("time", "echo", "daytime", "chargen"))
    assert columns.names == ["echo"]


# --- a second life --------------------------------------------------------------------


def test_columns_are_known_again(board: Scoreboard) -> None:
    """The names stand on the board, so that the next master finds the same columns and
    the next free one.
    """
    area = board.names(layout.Board.LISTENER_NAMES, layout.MAX_LISTENERS)
    first = Columns("listeners", area, is_key)
    longest = "unix:///" + "ä" * 53
    assert [first.column(name) for name in ("tcp://[::]:7", longest)] == [0, 1]
    again = Columns("listeners", area, is_key)
    assert again.names == ["tcp://[::]:7", longest]
    assert [again.column(name) for name in (longest, "new", "tcp://[::]:7")] == [1, 2, 0]


@pytest.mark.parametrize("odd", "\xa0\xad\u200b\u202e\ue000\ufffd\u0378\U0010ffff é\\")
def test_every_path_that_the_configuration_takes_is_known_again(
    board: Scoreboard, odd: str
) -> None:
    """The next master takes over the counters of every UNIX listener: one rule decides
    which characters its path may have.
    """
    area = board.names(layout.Board.LISTENER_NAMES, layout.MAX_LISTENERS)
    key = parse_address(f"unix:///run/a{odd}b").text
    Columns("listeners", area, is_key).column(key)
    assert Columns("listeners", area, is_key).names == [key]


def test_a_name_may_fill_its_column() -> None:
    """A name of NAME_BYTES bytes is read back whole, and the next name too."""
    cells = memoryview(bytearray(2 * layout.NAME_BYTES)).cast("Q")
    names = ["n" * layout.NAME_BYTES, "next"]
    columns = Columns("services", cells, is_key)
    assert [columns.column(name) for name in names] == [0, 1]
    assert Columns("services", cells, is_key).names == names


def test_every_name_of_a_configuration_fits() -> None:
    """The longest keys of listeners fit: a free port on a scoped address with the
    longest service name, a UNIX path, and a name of systemd's.
    """
    keys = [
        f"{'s' * 32}#255 tcp://[fe80:1111:2222:3333:4444:5555:6666:7777%{'i' * 15}]:0",
        "unix://" + "p" * 107,
        "systemd:" + "n" * 100 + "#255",
    ]
    columns = columns_for(3)
    assert [columns.column(key) for key in keys] == [0, 1, 2]


@pytest.mark.parametrize("damage", [b"\xff", b"echo\0x", b"a\nb", b"\x01"])
def test_damaged_names_are_refused(damage: bytes) -> None:
    """A board whose names a child may have overwritten is refused."""
    cells = memoryview(bytearray(2 * layout.NAME_BYTES))
    cells[: len(damage)] = damage
    with pytest.raises(BoardRefusedError, match="the names of its services are damaged"):
        Columns("services", cells.cast("Q"), is_key)


def test_a_name_twice_is_damage() -> None:
    """A name with two columns is damage: its series would be counted twice."""
    cells = memoryview(bytearray(2 * layout.NAME_BYTES))
    cells[:4] = cells[layout.NAME_BYTES : layout.NAME_BYTES + 4] = b"echo"
    with pytest.raises(BoardRefusedError, match="damaged"):
        Columns("services", cells.cast("Q"), is_key)


def test_children_of_a_dead_master_are_counted(fd: int) -> None:
    """The children of a dead master count as reaped and their connections as ended, and
    their rows become free. Earlier counts stay.
    """
    first = Scoreboard(fd)
    first.enter(entry(0, birth=1))
    first.enter(entry(5, birth=2))
    first.count(layout.Master.SPAWNS + 3, 2)
    cells = first.row(5)
    cells[layout.service_cells(1) + layout.Service.ACCEPTED] = 10
    cells[layout.service_cells(1) + layout.Service.ENDED] = 7
    first.words[layout.Master.LISTEN_QUEUES] = 99
    second = adopt(fd)
    second.take_over()
    assert second.entries() == []
    assert second.rows_shown() == 6
    worker = layout.Master.REAPED + layout.KINDS.index(ChildKind.WORKER) * len(layout.REAP_REASONS)
    assert second.words[worker + layout.REAP_REASONS.index(ReapReason.MASTER_DIED)] == 2
    assert second.words[layout.Master.SPAWNS + 3] == 2
    ends = layout.service_cells(1) + layout.Service.ENDED
    ended = second.row(5)[ends : ends + len(layout.END_CAUSES)].tolist()
    assert ended[layout.END_CAUSES.index(EndCause.WORKER_DIED)] == 3
    assert sum(ended) == 10
    assert second.words[layout.Master.LISTEN_QUEUES] == 0
    second.take_over()
    assert sum(second.words[worker : worker + len(layout.REAP_REASONS)].tolist()) == 2


def reaped_by_kind(board: Scoreboard) -> list[int]:
    """How many children of each kind an earlier master left unreaped."""
    return [
        board.words[
            layout.Master.REAPED
            + kind * len(layout.REAP_REASONS)
            + layout.REAP_REASONS.index(ReapReason.MASTER_DIED)
        ]
        for kind in range(len(layout.KINDS))
    ]


@pytest.mark.parametrize("kind", ChildKind)
def test_a_child_of_a_dead_master_is_counted_by_its_kind(
    board: Scoreboard, kind: ChildKind
) -> None:
    """The kind stands in the child's own entry of the directory."""
    board.enter(Entry(4, 7, 4711, kind, 0, ChildPhase.READY, 1))
    board.take_over()
    assert reaped_by_kind(board) == [int(kind is other) for other in layout.KINDS]


def test_a_child_that_the_dead_master_had_reaped_is_not_counted_again(board: Scoreboard) -> None:
    """The connections of its sessions end with that master."""
    board.enter(entry(0))
    board.row(0)[layout.service_cells(1) + layout.Service.ACCEPTED] = 2
    board.mark_reaped(0)
    board.take_over()
    assert board.entries() == []
    assert not any(reaped_by_kind(board))
    ends = layout.service_cells(1) + layout.Service.ENDED
    assert sum(board.row(0)[ends : ends + len(layout.END_CAUSES)]) == 2


def test_a_child_of_an_unknown_kind_is_not_counted(board: Scoreboard) -> None:
    """A mad child wrote the first index beyond the table: the row is free, no counter
    of the master moves.
    """
    board.enter(entry(0))
    board.words[layout.entry_start(0) + layout.Directory.KIND] = len(layout.KINDS)
    board.take_over()
    assert board.entries() == []
    assert not any(board.words[layout.Master.SIGCHLD : layout.Master.ROWS_USED])
    assert not any(board.words[layout.Master.REAPED : layout.Master.size])


@pytest.mark.parametrize("last", [0, 4])
def test_rows_that_hold_no_count_are_not_taken_over(board: Scoreboard, last: int) -> None:
    """Whatever number stands there, the last row with a count is the last used."""
    board.row(last)[layout.Row.LISTENER_ACCEPTED] = 1
    board.words[layout.Master.ROWS_USED] = last + 4
    board.take_over()
    assert board.rows_shown() == last + 1


def test_a_board_without_counts_has_no_row_in_use(board: Scoreboard) -> None:
    """Every claimed row is empty, the first one too."""
    board.words[layout.Master.ROWS_USED] = 3
    board.take_over()
    assert board.rows_shown() == 0


@pytest.mark.parametrize("at", [layout.Master.PHASE, layout.Master.LISTEN_QUEUES - 1])
def test_a_masters_word_that_no_counter_reaches_is_not_taken_over(
    board: Scoreboard, at: int
) -> None:
    """It would overflow under the first honest count; one below is still a count."""
    board.words[at] = layout.SANE_COUNT
    board.take_over()
    assert board.words[at] == 0
    board.words[at] = layout.SANE_COUNT - 1
    board.take_over()
    assert board.words[at] == layout.SANE_COUNT - 1


def test_memory_that_is_no_board_is_refused(fd: int) -> None:
    """Memory of another size or layout is no board, and a pipe is not one either."""
    Scoreboard(fd).words[layout.Master.LAYOUT] ^= 1
    with pytest.raises(BoardRefusedError, match="another layout"):
        adopt(fd)
    other = os.memfd_create("other", os.MFD_CLOEXEC)
    os.ftruncate(other, 4096)
    with pytest.raises(BoardRefusedError, match="another size"):
        adopt(other)
    os.close(other)
    reader, writer = os.pipe()
    with pytest.raises(BoardRefusedError, match="another size"):
        adopt(reader)
    os.close(reader)
    os.close(writer)
