"""The scoreboard: one anonymous shared memory of fixed layout, made at boot, written by
master and children, read by the exporter.

Owns the mapping and the rules for writing it; :mod:`unpd.board.layout` has the words,
and who may write each. A store to ``memoryview.cast("Q")`` is one aligned 64-bit store,
so that a reader never sees half a number (``struct.pack_into`` showed false zeros in a
fifth of the reads). Counters are never zeroed and never moved: a row's counters are
cumulative over all births that used it, and a scrape sums the rows, so that no count is
ever in two places or in none. The memory is sparse: a row that was never used costs
nothing.

The names of the columns stand on the board too (:mod:`unpd.board.columns`). So the
service manager can keep the board over the master's death or restart, and the next
master goes on counting (:func:`adopt`).

The memory is sealed: no process that shares it can shrink it under the others, which
would kill them with SIGBUS (memfd_create(2)).

Known gap: a child maps the whole board and could scribble over it. The master therefore
keeps its own truth in its own memory, range-checks what it reads here, and decides
nothing from it but the heartbeat of that very child.
"""

import fcntl
import mmap
import os
from dataclasses import dataclass

from unpd.board import layout
from unpd.board.layout import Directory, Master, Row, Service
from unpd.names import ChildKind, ChildPhase, EndCause, ReapReason

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_WORKER_DIED = Service.ENDED + layout.END_CAUSES.index(EndCause.WORKER_DIED)
_MASTER_DIED = layout.REAP_REASONS.index(ReapReason.MASTER_DIED)


class BoardRefusedError(Exception):
    """A stored scoreboard cannot be used by this program; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The directory's entry of one living child. ``pool``: the column of its pool."""

    row: int
    birth: int
    pid: int
    kind: ChildKind
    pool: int
    phase: ChildPhase
    generation: int


class Scoreboard:
    """The mapped board. ``words`` is all of it as 64-bit words."""

    def __init__(self, fd: int) -> None:
        """Map the board behind ``fd`` (of :func:`create`), which stays the caller's."""
        self._map = mmap.mmap(fd, layout.BOARD_BYTES)
        self.words: memoryview = memoryview(self._map).cast("Q")

    def row(self, row: int) -> memoryview:
        """Return the words of row ``row`` (0 to MAX_ROWS - 1)."""
        start = layout.row_start(row)
        return self.words[start : start + Row.size]

    def count(self, at: int, number: int = 1) -> None:
        """Add to a counter of the master's. It wraps, so that no value that a faulty
        child wrote there can stop the master.
        """
        self.words[at] = (self.words[at] + number) % (1 << 64)

    def names(self, at: int, limit: int) -> memoryview:
        """Return the area of ``limit`` column names that begins at word ``at``."""
        return self.words[at : at + limit * layout.NAME_WORDS]

    def rows_used(self) -> int:
        """How many rows were ever given out: no row beyond holds a count."""
        return min(self.words[Master.ROWS_USED], layout.MAX_ROWS)

    # --- children: the master writes, everybody reads -------------------------------

    def prepare(self, row: int) -> None:
        """Make a free row fit for its next birth: remove what belonged to the last
        child alone, and every value that would overflow under the first honest count.

        Readers take such a value as 0 already, so that nothing they show changes.
        """
        cells = self.row(row)
        cells[Row.EXIT_NS] = cells[Row.OPEN] = 0
        if max(cells) >= layout.SANE_COUNT:
            for at, cell in enumerate(cells):
                if cell >= layout.SANE_COUNT:
                    cells[at] = 0

    def enter(self, entry: Entry) -> None:
        """Write ``entry`` into the directory; its birth last, which makes it valid."""
        at, words = layout.entry_start(entry.row), self.words
        words[at + Directory.PID] = entry.pid
        words[at + Directory.KIND] = layout.KINDS.index(entry.kind)
        words[at + Directory.POOL] = entry.pool
        words[at + Directory.PHASE] = layout.PHASES.index(entry.phase)
        words[at + Directory.GENERATION] = entry.generation
        words[at + Directory.BIRTH] = entry.birth
        words[Master.ROWS_USED] = max(words[Master.ROWS_USED], entry.row + 1)

    def set_phase(self, row: int, phase: ChildPhase) -> None:
        """Note a child's new phase in the directory."""
        self.words[layout.entry_start(row) + Directory.PHASE] = layout.PHASES.index(phase)

    def leave(self, row: int) -> None:
        """Mark the row as held by no child."""
        self.words[layout.entry_start(row) + Directory.BIRTH] = 0

    def entries(self) -> list[Entry]:
        """Return the living children, by row, without entries whose numbers make no
        sense.
        """
        found = []
        for row in range(self.rows_used()):
            at = layout.entry_start(row)
            birth, pid, kind, pool, phase, generation = self.words[
                at : at + Directory.size
            ].tolist()
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
                )
                found.append(entry)
        return found

    def book_worker_died(self, row: int) -> int:
        """Book every connection that the dead child of ``row`` left open as ended by
        ``worker_died``; return how many. Called after the reap.
        """
        booked = 0
        cells = self.row(row)
        for column in range(layout.MAX_SERVICES):
            at = layout.service_cells(column)
            ended = cells[at + Service.ENDED : at + Service.ENDED + len(layout.END_CAUSES)]
            missing = cells[at + Service.ACCEPTED] - sum(ended)
            if 0 < missing < layout.SANE_COUNT:
                cells[at + _WORKER_DIED] += missing
                booked += missing
        cells[Row.OPEN] = 0
        return booked

    # --- the board of an earlier master -----------------------------------------------

    def take_over(self) -> None:
        """Book what an earlier master left. Its children are dead (the service manager
        saw to that), it did not reap them, and their connections ended with them.

        Afterwards the board is sound whatever a faulty child wrote: no word that would
        overflow, and no more rows in use than hold a count.
        """
        for row in range(self.rows_used()):
            self._book_master_died(row)
        for at in range(Master.LISTEN_QUEUES, Master.size):
            self.words[at] = 0
        for at in range(Master.PHASE, Master.LISTEN_QUEUES):
            if self.words[at] >= layout.SANE_COUNT:
                self.words[at] = 0
        rows = self.rows_used()
        while rows and not any(self.row(rows - 1)):
            rows -= 1
        self.words[Master.ROWS_USED] = rows

    def _book_master_died(self, row: int) -> None:
        at = layout.entry_start(row)
        if not self.words[at + Directory.BIRTH]:
            return
        kind = self.words[at + Directory.KIND]
        if kind < len(layout.KINDS):
            self.count(Master.REAPED + kind * len(layout.REAP_REASONS) + _MASTER_DIED)
        self.book_worker_died(row)
        self.leave(row)


def create() -> int:
    """Make the shared memory (memfd_create(2), close-on-exec), seal its size, write its
    header; return its descriptor. OSError where the kernel refuses.
    """
    fd = os.memfd_create("unpd-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, layout.BOARD_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    words = Scoreboard(fd).words
    words[Master.MAGIC] = layout.MAGIC
    words[Master.LAYOUT] = layout.FINGERPRINT
    return fd


def adopt(fd: int) -> Scoreboard:
    """Map the board behind ``fd`` as an earlier master left it, perhaps another version
    of unpd. BoardRefusedError if it has another layout or its size is not sealed.
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
