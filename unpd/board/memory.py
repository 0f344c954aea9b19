"""The scoreboard: one anonymous shared memory of fixed layout, made at boot, written by
master and children, read by the exporter.

Contract. A row has a single writer, its child; from the moment that a child is reaped
until the row is given to the next birth, the master. The master area has one writer,
the master (but for one word, which the exporters share). All counters are 64-bit words
written through ``memoryview.cast("Q")``: one aligned store each, so that a reader never
sees half a number (``struct.pack_into`` showed false zeros in a fifth of the reads).
Nothing is ever zeroed or folded: a row's counters are cumulative over all births that
used it, a scrape sums the rows, and so there is no moment at which a count is in two
places or in none. The memory is sparse (a row that was never used costs nothing).

The names of the columns stand on the board too. So the service manager can keep it over
the master's death or restart, and the next master goes on counting (:func:`adopt`):
connections and children that nobody saw end are booked then.

Within a service's cells the ends stand before ``ACCEPTED``: a reader that copies
upwards sees an end only together with its accept, and active = accepted - ended is not
negative.

Known gap: a child maps the whole board and could scribble over it. The master therefore
keeps its own truth in its own memory, range-checks what it reads here, and decides
nothing from it but the heartbeat of that very child.
"""

import mmap
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from unpd.names import (
    ACCEPT_ERRNOS,
    ChildKind,
    ChildPhase,
    EndCause,
    MasterPhase,
    ReapReason,
    ReloadResult,
)

MAX_ROWS = 2048
MAX_SERVICES = 64
MAX_POOLS = 32
MAX_LISTENERS = 256

WORD_BYTES = 8
NS = 1_000_000_000
SANE_COUNT = 1 << 62
"""No honest counter reaches this; a larger difference was not counted by us."""

END_CAUSES: tuple[EndCause, ...] = tuple(EndCause)
KINDS: tuple[ChildKind, ...] = tuple(ChildKind)
PHASES: tuple[ChildPhase, ...] = tuple(ChildPhase)
MASTER_PHASES: tuple[MasterPhase, ...] = tuple(MasterPhase)
REAP_REASONS: tuple[ReapReason, ...] = tuple(ReapReason)
RELOAD_RESULTS: tuple[ReloadResult, ...] = tuple(ReloadResult)

DURATION_BOUNDS_S: tuple[float, ...] = (
    0.001,
    0.005,
    0.01,
    0.05,
    0.1,
    0.5,
    1.0,
    5.0,
    10.0,
    60.0,
    600.0,
    3600.0,
)
REAP_BOUNDS_S: tuple[float, ...] = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)

# A service's cells, in words from the start of its column in a row.
ENDED = 0
DURATION_BUCKETS = ENDED + len(END_CAUSES)
DURATION_SUM_NS = DURATION_BUCKETS + len(DURATION_BOUNDS_S) + 1
RECEIVED = DURATION_SUM_NS + 1
SENT = RECEIVED + 1
ACCEPT_ERRORS = SENT + 1
ACCEPTED = ACCEPT_ERRORS + len(ACCEPT_ERRNOS)
SERVICE_WORDS = ACCEPTED + 1

# A row: its child's own cells, a column for each service, and what was accepted of each
# listener (for the watchdog: a service may have several).
BEAT_NS = 0
EXIT_NS = 1
LOG_DROPPED = 2
ROW_HEAD_WORDS = 8
LISTENER_ACCEPTED = ROW_HEAD_WORDS + MAX_SERVICES * SERVICE_WORDS
ROW_WORDS = LISTENER_ACCEPTED + MAX_LISTENERS

# The master area, in words from the start of the board.
MAGIC_AT = 0
LAYOUT_AT = 1
PHASE_AT = 2
GENERATION_AT = 3
START_WALL_NS_AT = 4
SIGCHLD_AT = 5
UNKNOWN_REAPED_AT = 6
FORK_FAILURES_AT = 7
LAST_RELOAD_OK_AT = 8
LAST_RELOAD_WALL_NS_AT = 9
MASTER_LOG_DROPPED_AT = 10
CPU_NS_AT = 11
RESIDENT_BYTES_AT = 12
VIRTUAL_BYTES_AT = 13
OPEN_FDS_AT = 14
MAX_FDS_AT = 15
ROWS_USED_AT = 16
# counted by the exporters, of which a reload has two: each knows by it whether the
# other has shown newer counts
RENDERINGS_AT = 17
RELOADS_AT = 18
SPAWNS_AT = RELOADS_AT + len(RELOAD_RESULTS)
REAPED_AT = SPAWNS_AT + MAX_POOLS
REAP_BUCKETS_AT = REAPED_AT + len(KINDS) * len(REAP_REASONS)
REAP_SUM_NS_AT = REAP_BUCKETS_AT + len(REAP_BOUNDS_S) + 1
LISTEN_QUEUE_AT = REAP_SUM_NS_AT + 1  # two words a listener: length, limit
DIRECTORY_AT = LISTEN_QUEUE_AT + 2 * MAX_LISTENERS

# A row's entry in the directory, written by the master. A birth of 0: no child holds
# the row.
ENTRY_BIRTH, ENTRY_PID, ENTRY_KIND, ENTRY_POOL, ENTRY_PHASE, ENTRY_GENERATION = range(6)
ENTRY_WORDS = 8

# Who owns which column: UTF-8, filled up with zeros.
NAME_WORDS = 16
NAME_BYTES = NAME_WORDS * WORD_BYTES
SERVICE_NAMES_AT = DIRECTORY_AT + MAX_ROWS * ENTRY_WORDS
POOL_NAMES_AT = SERVICE_NAMES_AT + MAX_SERVICES * NAME_WORDS
LISTENER_NAMES_AT = POOL_NAMES_AT + MAX_POOLS * NAME_WORDS

ROWS_AT = LISTENER_NAMES_AT + MAX_LISTENERS * NAME_WORDS
BOARD_WORDS = ROWS_AT + MAX_ROWS * ROW_WORDS

MAGIC = int.from_bytes(b"unpd-sb\0", "little")
LAYOUT = zlib.crc32(
    repr(
        (
            MAX_ROWS,
            MAX_SERVICES,
            MAX_POOLS,
            MAX_LISTENERS,
            END_CAUSES,
            KINDS,
            PHASES,
            MASTER_PHASES,
            REAP_REASONS,
            RELOAD_RESULTS,
        )
        + (DURATION_BOUNDS_S, REAP_BOUNDS_S, ACCEPT_ERRNOS, NAME_WORDS, ROWS_AT, ROW_WORDS)
    ).encode()
)
"""A fingerprint of everything that gives the words their meaning."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The directory's line about one living child."""

    row: int
    birth: int
    pid: int
    kind: ChildKind
    pool: int
    phase: ChildPhase
    generation: int


class Scoreboard:
    """The mapped board. ``words`` is all of it as 64-bit words; offsets come from this
    module's constants.
    """

    def __init__(self, fd: int) -> None:
        """Map the board behind ``fd`` (of :func:`create`), which stays the caller's."""
        self._map = mmap.mmap(fd, BOARD_WORDS * WORD_BYTES)
        self.words: memoryview = memoryview(self._map).cast("Q")

    def row(self, row: int) -> memoryview:
        """All cells of row ``row`` (0 to MAX_ROWS - 1) as 64-bit words."""
        start = ROWS_AT + row * ROW_WORDS
        return self.words[start : start + ROW_WORDS]

    def count(self, at: int, number: int = 1) -> None:
        """Add to a word of the master area, whatever a mad child may have written
        there: a counter wraps, the master goes on (the master, and exporters their
        renderings).
        """
        self.words[at] = (self.words[at] + number) % (1 << 64)

    def names(self, at: int, limit: int) -> memoryview:
        """The area of ``limit`` column names that begins at word ``at``."""
        return self.words[at : at + limit * NAME_WORDS]

    def take_over(self) -> None:
        """Book what an earlier master left: its children are dead (the service manager
        saw to that), it did not reap them, and their connections went with them.

        Whatever a mad child of its may have written, the next life can count on: no
        word that would overflow, no more rows than hold a count.
        """
        for row in range(self.rows_used()):
            at = DIRECTORY_AT + row * ENTRY_WORDS
            if self.words[at + ENTRY_BIRTH]:
                kind = self.words[at + ENTRY_KIND]
                if kind < len(KINDS):
                    self.count(
                        REAPED_AT
                        + kind * len(REAP_REASONS)
                        + REAP_REASONS.index(ReapReason.MASTER_DIED)
                    )
                self.book_worker_died(row)
                self.leave(row)
        for at in range(LISTEN_QUEUE_AT, DIRECTORY_AT):
            self.words[at] = 0
        for at in range(PHASE_AT, LISTEN_QUEUE_AT):
            if self.words[at] >= SANE_COUNT:
                self.words[at] = 0
        rows = self.rows_used()
        while rows and not any(self.row(rows - 1)):
            rows -= 1
        self.words[ROWS_USED_AT] = rows

    def prepare(self, row: int) -> None:
        """Make a free row fit for its next birth (the master only): no stamp of the
        last one's death, and no cell that would overflow under the first honest count.

        Readers take such a cell as 0 already, so that nothing they show changes.
        """
        cells = self.row(row)
        cells[EXIT_NS] = 0
        if max(cells) >= SANE_COUNT:
            for at, cell in enumerate(cells):
                if cell >= SANE_COUNT:
                    cells[at] = 0

    def rows_used(self) -> int:
        """How many rows were ever given out: none beyond holds a count."""
        return min(self.words[ROWS_USED_AT], MAX_ROWS)

    def enter(self, entry: Entry) -> None:
        """Write ``entry`` into the directory (the master only)."""
        at = DIRECTORY_AT + entry.row * ENTRY_WORDS
        words = self.words
        words[at + ENTRY_PID] = entry.pid
        words[at + ENTRY_KIND] = KINDS.index(entry.kind)
        words[at + ENTRY_POOL] = entry.pool
        words[at + ENTRY_PHASE] = PHASES.index(entry.phase)
        words[at + ENTRY_GENERATION] = entry.generation
        words[at + ENTRY_BIRTH] = entry.birth
        words[ROWS_USED_AT] = max(words[ROWS_USED_AT], entry.row + 1)

    def set_phase(self, row: int, phase: ChildPhase) -> None:
        """Note a child's new phase in the directory (the master only)."""
        self.words[DIRECTORY_AT + row * ENTRY_WORDS + ENTRY_PHASE] = PHASES.index(phase)

    def leave(self, row: int) -> None:
        """Mark the row as held by no child (the master only)."""
        self.words[DIRECTORY_AT + row * ENTRY_WORDS + ENTRY_BIRTH] = 0

    def entries(self) -> list[Entry]:
        """The living children, by row. An entry whose numbers make no sense is left
        out.
        """
        found = []
        for row in range(self.rows_used()):
            at = DIRECTORY_AT + row * ENTRY_WORDS
            birth, pid, kind, pool, phase, generation = self.words[at : at + 6].tolist()
            if birth and kind < len(KINDS) and phase < len(PHASES) and pool < MAX_POOLS:
                found.append(Entry(row, birth, pid, KINDS[kind], pool, PHASES[phase], generation))
        return found

    def book_worker_died(self, row: int) -> int:
        """Book every connection that the dead child of ``row`` left open as ended by
        ``worker_died``; return how many (the master only, after the reap).
        """
        booked = 0
        cells = self.row(row)
        for column in range(MAX_SERVICES):
            at = ROW_HEAD_WORDS + column * SERVICE_WORDS
            missing = cells[at + ACCEPTED] - sum(cells[at + ENDED : at + ENDED + len(END_CAUSES)])
            if 0 < missing < SANE_COUNT:
                cells[at + ENDED + END_CAUSES.index(EndCause.WORKER_DIED)] += missing
                booked += missing
        return booked


def create() -> int:
    """Make the shared memory (memfd_create(2), close on exec) with its header filled
    in; return its descriptor. OSError where the kernel refuses.
    """
    fd = os.memfd_create("unpd-scoreboard", os.MFD_CLOEXEC)
    os.ftruncate(fd, BOARD_WORDS * WORD_BYTES)
    words = Scoreboard(fd).words
    words[MAGIC_AT] = MAGIC
    words[LAYOUT_AT] = LAYOUT
    return fd


def adopt(fd: int) -> Scoreboard:
    """The board behind ``fd`` as an earlier master left it, which may have been another
    version of us. BoardRefusedError if it is none of this layout.
    """
    try:
        if os.fstat(fd).st_size != BOARD_WORDS * WORD_BYTES:
            raise BoardRefusedError("it is of another size")
        board = Scoreboard(fd)
    except (OSError, ValueError) as error:
        raise BoardRefusedError(f"it cannot be mapped: {error}") from error
    if (board.words[MAGIC_AT], board.words[LAYOUT_AT]) != (MAGIC, LAYOUT):
        raise BoardRefusedError("it is of another layout")
    return board


class BoardRefusedError(Exception):
    """A scoreboard that was kept cannot be used by this program; the reason."""


def service_cells(column: int) -> int:
    """Where the cells of service ``column`` start within a row, in words."""
    return ROW_HEAD_WORDS + column * SERVICE_WORDS


class Columns:
    """Names that own a column for the board's life: never reused, so that no series
    ever changes its meaning.

    They are written to ``cells`` (of :meth:`Scoreboard.names`), which has room for
    ``limit`` of them; the one after raises :class:`ColumnsExhausted`. What stands there
    already owns its column. BoardRefusedError if that is nonsense, or not ``valid``.
    """

    def __init__(self, what: str, cells: memoryview, valid: Callable[[str], bool] = bool) -> None:
        self.what = what
        self.limit = len(cells) // NAME_WORDS
        self._bytes = cells.cast("B")
        self.names: list[str] = []
        for at in range(0, len(self._bytes), NAME_BYTES):
            written = bytes(self._bytes[at : at + NAME_BYTES]).rstrip(b"\0")
            if not written:
                break
            name = written.decode("utf-8", "replace")
            if not name.isprintable() or "\ufffd" in name or name in self.names or not valid(name):
                raise BoardRefusedError(f"the names of its {what} are damaged")
            self.names.append(name)

    def check(self, names: Iterable[str]) -> None:
        """ColumnsExhausted if there is no room for all of these; takes none."""
        new = set(names) - set(self.names)
        if len(self.names) + len(new) > self.limit:
            raise ColumnsExhausted(
                f"more than {self.limit} {self.what} in one life of the daemon: stop and start unpd"
                f" to use {', '.join(sorted(new))}"
            )

    def column(self, name: str) -> int:
        """The column of ``name``, given now if it had none."""
        if name not in self.names:
            self.check((name,))
            at = len(self.names) * NAME_BYTES
            encoded = name.encode()
            if len(encoded) > NAME_BYTES:
                raise AssertionError(f"a name of {len(encoded)} bytes: {name}")
            self._bytes[at : at + NAME_BYTES] = encoded.ljust(NAME_BYTES, b"\0")
            self.names.append(name)
        return self.names.index(name)


class ColumnsExhausted(Exception):
    """A configuration asks for more services, pools or listeners than the scoreboard
    has columns.
    """
