"""The scoreboard: one anonymous area of shared memory with a fixed layout.

The master makes it at boot; the master and its children write it; the exporter and the
status read it. Owns the mapping and the rules for writing it.
:mod:`unpd.board.layout` says what each word means and which process writes it.

A store to ``memoryview.cast("Q")`` is one aligned 64-bit store, so that a reader never
sees half a number (with ``struct.pack_into`` a fifth of the reads saw false zeros).
Counters are never zeroed and never moved: a row's counters are cumulative over all
births that used it, and a scrape sums the rows. So a scrape neither misses a count nor
sees it twice. The memory is sparse: a row that was never used costs nothing.

The board also holds the names of its columns (:mod:`unpd.board.columns`). So the
service manager can keep the board when the master dies or restarts, and the next master
goes on counting (:func:`adopt`).

The size of the memory is sealed: otherwise a process that shares it could shrink it,
and SIGBUS would kill the others (memfd_create(2)).

Errors: BoardRefusedError for a stored board that this program cannot use.

A child maps the whole board and could write any number into any word at any moment, in
the middle of a read too. So nothing here raises, loops or slows down because of a
number on the board: each word is read once, each sum that is written wraps
(:func:`wrapped`), each index is compared with its table, and the master counts the rows
in use in its own memory and tells its children a bound (:func:`rows_bound`). It bases
only one decision on the board: whether a child is hung, from that child's own
heartbeat.

Known gap: a hostile child can falsify the metrics.
"""

import fcntl
import mmap
import os
from dataclasses import dataclass

from unpd.board import layout
from unpd.board.layout import Directory, Master, Row, Service
from unpd.names import ChildKind, ChildPhase, EndCause, ReapReason

_LARGEST = (1 << 64) - 1
_ROWS_USED = Master.ROWS_USED
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_WORKER_DIED = Service.ENDED + layout.END_CAUSES.index(EndCause.WORKER_DIED)
_MASTER_DIED = layout.REAP_REASONS.index(ReapReason.MASTER_DIED)


ROWS_STEP = 128
"""The steps in which the master raises the number of rows that a child reads."""


def rows_bound(rows: int) -> int:
    """How many rows a child may read while the master has given out ``rows``: more
    than that, in steps of ROWS_STEP.
    """
    return min((rows // ROWS_STEP + 1) * ROWS_STEP, layout.MAX_ROWS)


def wrapped(number: int) -> int:
    """The number as a word can hold it. A word that another process overwrote may be so
    large that the next count does not fit.
    """
    return number & _LARGEST


def sane(number: int) -> int:
    """The number, or 0 if no honest counter reaches it."""
    return number if number < layout.SANE_COUNT else 0


class BoardRefusedError(Exception):
    """This program cannot use a stored scoreboard. The text is the reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One living child in the directory, the part of the board that lists them; or a
    dispatcher that was reaped, whose sessions live on. ``pool``: the column of its
    pool; ``index``: its place there. ``born_ns``: when it was forked, on the monotonic
    clock. ``accepted_before``: how many connections the children before it in its row
    had accepted.
    """

    row: int
    birth: int
    pid: int
    kind: ChildKind
    pool: int
    phase: ChildPhase
    generation: int
    index: int = 0
    born_ns: int = 0
    accepted_before: int = 0

    @property
    def reaped(self) -> bool:
        """Whether only the sessions of the child are left."""
        return not self.pid


class Scoreboard:
    """The mapped board. ``words`` is the whole board as 64-bit words. ``rows_given``:
    how many rows this process, the master, gave to children or took over; a forked
    child keeps the number of that moment. ``rows_held``: those that children hold now,
    as this master has entered them. ``rows_bound``: how many rows this process reads at
    most, whatever number a faulty child writes.
    """

    def __init__(self, fd: int) -> None:
        """Map the board behind ``fd`` (from :func:`create`), which the caller keeps."""
        self._map = mmap.mmap(fd, layout.BOARD_BYTES)
        self.words: memoryview = memoryview(self._map).cast("Q")
        self.rows_given = 0
        self.rows_held: set[int] = set()
        self._rows_left: set[int] = set()
        self.rows_bound = layout.MAX_ROWS

    def row(self, row: int) -> memoryview:
        """Return the words of row ``row`` (0 to MAX_ROWS - 1)."""
        start = layout.row_start(row)
        return self.words[start : start + Row.size]

    def count(self, word: int, number: int = 1) -> None:
        """Add ``number`` to one of the master's counters."""
        self.words[word] = wrapped(self.words[word] + number)

    def names(self, start: int, limit: int, name_words: int = layout.NAME_WORDS) -> memoryview:
        """Return the words of ``limit`` column names of ``name_words`` each, from word
        ``start`` on.
        """
        return self.words[start : start + limit * name_words]

    def rows_shown(self) -> int:
        """How many rows were ever given to children, as far as a child can know: no
        later row holds a count. A forged number makes a reader slower, up to its
        ``rows_bound``. The master asks ``rows_given`` instead.
        """
        # No min() and max(), and no look-up in Master: an accept asks three times, and
        # each would take 0.2 us more.
        used, given, bound = self.words[_ROWS_USED], self.rows_given, self.rows_bound
        shown = used if used < bound else bound  # noqa: FURB136
        return shown if shown > given else given  # noqa: FURB136

    # --- children: the master writes, every process reads ----------------------------

    def prepare(self, row: int) -> None:
        """Prepare a free row for its next birth. Clear the words that describe only the
        last child, and every value that is too large for an honest counter: the next
        count could overflow it.

        Readers take such a value for 0 anyway, so the metrics do not change.
        """
        cells = self.row(row)
        for offset in (Row.BEAT_NS, Row.EXIT_NS, Row.OPEN, Row.BUSY_NS):
            cells[offset] = 0
        if max(cells) >= layout.SANE_COUNT:
            for offset, cell in enumerate(cells):
                if cell >= layout.SANE_COUNT:
                    cells[offset] = 0

    def enter(self, entry: Entry) -> None:
        """Write ``entry`` into the directory. The birth comes last: it makes the entry
        valid.
        """
        start, words = layout.entry_start(entry.row), self.words
        words[start + Directory.PID] = entry.pid
        words[start + Directory.KIND] = layout.KINDS.index(entry.kind)
        words[start + Directory.POOL] = entry.pool
        words[start + Directory.PHASE] = layout.PHASES.index(entry.phase)
        words[start + Directory.GENERATION] = entry.generation
        words[start + Directory.INDEX] = entry.index
        words[start + Directory.BORN_NS] = entry.born_ns
        words[start + Directory.ACCEPTED_BEFORE] = entry.accepted_before
        self.show_usage(entry.row, 0, None, 0)
        words[start + Directory.BIRTH] = entry.birth
        self.rows_held.add(entry.row)
        self.rows_given = words[Master.ROWS_USED] = max(self.rows_given, entry.row + 1)

    def show_usage(
        self, row: int, cpu_ns: int, cpu_percent: float | None, resident_bytes: int
    ) -> None:
        """Write what a child uses. ``cpu_percent``: None if it is not known yet;
        ``resident_bytes``: 0 if nothing is.
        """
        start, words = layout.entry_start(row), self.words
        words[start + Directory.CPU_NS] = cpu_ns
        words[start + Directory.CPU] = 0 if cpu_percent is None else round(100 * cpu_percent) + 1
        words[start + Directory.RESIDENT_BYTES] = resident_bytes

    def set_phase(self, row: int, phase: ChildPhase) -> None:
        """Write a child's new phase into the directory."""
        self.words[layout.entry_start(row) + Directory.PHASE] = layout.PHASES.index(phase)

    def mark_reaped(self, row: int) -> None:
        """Mark the child as reaped. It stays in the directory, for its sessions."""
        self.set_phase(row, ChildPhase.KILLED)
        self.words[layout.entry_start(row) + Directory.PID] = 0

    def leave(self, row: int) -> None:
        """Mark the row as held by no child."""
        self.words[layout.entry_start(row) + Directory.BIRTH] = 0
        self.rows_held.discard(row)
        self._rows_left.add(row)

    def rows_to_read(self) -> set[int]:
        """The rows whose counts may have changed since the last call: those that a
        child holds, or has held in between. It has one caller.
        """
        left, self._rows_left = self._rows_left, set()
        return self.rows_held | left

    def entries(self) -> list[Entry]:
        """Return the living children by row, and those reaped whose sessions live on;
        leave out entries that make no sense.
        """
        found = []
        for row in range(self.rows_shown()):
            start = layout.entry_start(row)
            words = self.words[start : start + Directory.size].tolist()
            birth, pid, kind, pool, phase, generation, index, born_ns, accepted, *_ = words
            known = kind < len(layout.KINDS) and phase < len(layout.PHASES)
            if birth and known and pool < layout.MAX_POOLS:
                entry = Entry(
                    row=row,
                    birth=birth,
                    pid=pid,
                    kind=layout.KINDS[kind],
                    pool=pool,
                    phase=layout.PHASES[phase],
                    generation=generation,
                    index=index,
                    born_ns=born_ns,
                    accepted_before=accepted,
                )
                found.append(entry)
        return found

    def book_worker_died(self, row: int) -> dict[int, int]:
        """Count every connection that the dead child of ``row`` left open as ended by
        ``worker_died``; return their number for each column of a service that has any.
        Called after the reap.
        """
        booked: dict[int, int] = {}
        cells = self.row(row)
        for column in range(layout.MAX_SERVICES):
            start = layout.service_cells(column)
            counts = cells[start : start + Service.size].tolist()
            if counts[Service.OLDEST_NS]:
                cells[start + Service.OLDEST_NS] = 0
            missing = counts[Service.ACCEPTED] - sum(counts[Service.span(Service.ENDED)])
            if 0 < missing < layout.SANE_COUNT:
                cells[start + _WORKER_DIED] = wrapped(counts[_WORKER_DIED] + missing)
                booked[column] = missing
        cells[Row.OPEN] = 0
        return booked

    # --- the board of an earlier master -----------------------------------------------

    def take_over(self) -> None:
        """Count the children of an earlier master as reaped, and their connections as
        ended: the service manager killed them, and that master did not reap them.

        Afterwards the board is sound, whatever a faulty child wrote: no word of the
        master overflows at the next count, and every row from ROWS_USED on is empty.
        """
        for row in range(self.rows_shown()):
            self._book_master_died(row)
        for word in range(Master.LISTEN_QUEUES, Master.size):
            self.words[word] = 0
        for word in range(Master.PHASE, Master.LISTEN_QUEUES):
            if self.words[word] >= layout.SANE_COUNT:
                self.words[word] = 0
        rows = self.rows_shown()
        while rows and not any(self.row(rows - 1)):
            rows -= 1
        self.rows_given = self.words[Master.ROWS_USED] = rows

    def _book_master_died(self, row: int) -> None:
        start = layout.entry_start(row)
        if not self.words[start + Directory.BIRTH]:
            return
        kind = self.words[start + Directory.KIND]
        reaped = not self.words[start + Directory.PID]
        if kind < len(layout.KINDS) and not reaped:
            self.count(Master.REAPED + kind * len(layout.REAP_REASONS) + _MASTER_DIED)
        self.book_worker_died(row)
        self.leave(row)


def create() -> int:
    """Make the shared memory (memfd_create(2), close-on-exec), seal its size, and write
    its header. Return its descriptor. OSError if the kernel refuses.
    """
    fd = os.memfd_create("unpd-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, layout.BOARD_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        words = Scoreboard(fd).words
    except BaseException:
        os.close(fd)
        raise
    words[Master.MAGIC] = layout.MAGIC
    words[Master.LAYOUT] = layout.FINGERPRINT
    return fd


def adopt(fd: int) -> Scoreboard:
    """Map the board behind ``fd``, which an earlier master left. That master may have
    been another version of unpd. BoardRefusedError if the board has another layout or
    is not sealed.
    """
    try:
        if os.fstat(fd).st_size != layout.BOARD_BYTES:
            raise BoardRefusedError("it is of another size")
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise BoardRefusedError("its size is not sealed")
        board = Scoreboard(fd)
    except (OSError, ValueError) as error:
        raise BoardRefusedError(f"it cannot be mapped: {error}") from error
    header = (board.words[Master.MAGIC], board.words[Master.LAYOUT])
    if header != (layout.MAGIC, layout.FINGERPRINT):
        raise BoardRefusedError("it is of another layout")
    return board
