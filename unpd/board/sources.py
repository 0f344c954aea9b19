"""The memory of the counts of sources, and how it is read: how many connections are
open, and how many were admitted lately, of each service and of each of its sources.

One sealed memfd, made by the master at boot. It begins with the sums
(:class:`unpd.board.layout.LaneSums`). Then each row of the scoreboard has a lane: a
hash table of sources, in buckets of a few entries (:class:`unpd.board.layout.Source`).
A child writes the lane of its row alone (:mod:`unpd.board.source_lane`), so there is no
lock; each word is one aligned 64-bit store. A reader sums over the lanes. A
dispatcher's lane goes to its successor with its sessions, and the successor counts them
anew. So the lane heals, whatever a dispatcher left half done. The memory is sparse: a
lane that is not used costs nothing.

Exact: the open connections of a service and of a source that were counted before the
caller looks. So a limit is exact for connections that come one after the other; of
those that come at the same moment, each other process may let in one too many.

Bounded: an entry with open connections is never evicted. A source that finds its bucket
full of such entries counts in the overflow of the bucket, and so for every source
there: their counts may be too high, never too low. No client can choose who shares its
bucket, because the hash has a secret key. Two sources with one 64-bit hash are one.

Estimated: rates. All processes cut windows from one clock, so their counts add up. In a
full bucket, the entry goes that has no open connection and whose counts are over, else
the one with the lowest. So a flood of sources that come once drives out the rates of
such as came once. A source has no rate if it got no entry. With a child, what it
admitted is forgotten: a rate may be too low for two windows after a death or a reload.

Another child may be hostile, and can write any number anywhere here. So a lane's writer
decides from its own memory, and repairs the lane as it goes on. A reader looks at a
fixed number of words, and takes a number that no honest count reaches for 0. Nothing
here raises or loops because of a number.

Called by the master, its children and the metrics. OSError if the kernel refuses the
memory. Known gaps: a limit for each source that comes with a reload counts the
connections of that time on, and so does another prefix length; a hostile child can
falsify the counts that others see, and so get clients refused or let in; and it can
fill all lanes, 2.8 GB, which the memory keeps. A child does not count what lanes beyond
the first ROWS_STEP hold while the kernel refuses to map them.
"""

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from unpd.board import layout
from unpd.board.layout import NS, WORD_BYTES, Bucket, LaneSums, Source
from unpd.board.memory import ROWS_STEP, sane

SECRET_BYTES = 16
_LARGEST = (1 << 64) - 1
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

Admitted = tuple[int, int, float]
"""How many were admitted in this window and in the one before, and which part of the
one before still counts: 1.0 at the start of a window, almost 0 at its end.
"""
Window = tuple[int, int, int]
"""The present window of a rate: when its counts are over, its length, and the present
time; all in nanoseconds of the monotonic clock.
"""
SourceFound = tuple[int, list[Sequence[int]]]
"""How many connections a source has open, and in each lane where it has an entry, the
count, the count before and the expiry.
"""

# A word that is asked of its table costs 0.1 us, because a call answers.
_ROWS, _SERVICES = layout.MAX_ROWS, layout.MAX_SERVICES
_SUM_OPEN, _SUM_COUNT = LaneSums.OPEN, LaneSums.COUNT
_SUM_BEFORE, _SUM_EXPIRES_NS = LaneSums.BEFORE, LaneSums.EXPIRES_NS
_OVERFLOW, _FIRST, _ENTRY = Bucket.OVERFLOW, Bucket.size, Source.size
_OPEN, _COUNT = Source.OPEN, Source.COUNT
_BEFORE, _EXPIRES_NS = Source.BEFORE, Source.EXPIRES_NS
_SANE_COUNT = layout.SANE_COUNT


def _whole_pages(words: int) -> int:
    return -(-words * WORD_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE


SUMS_BYTES = _whole_pages(LaneSums.size)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a lane is: the number of ``buckets``, a power of two, and of
    ``entries`` in each. Tests use small lanes.
    """

    buckets: int = layout.LANE_BUCKETS
    entries: int = layout.BUCKET_SOURCES

    @property
    def bucket_words(self) -> int:
        """The length of a bucket."""
        return _FIRST + self.entries * _ENTRY

    @property
    def lane_words(self) -> int:
        """The length of a lane."""
        return self.buckets * self.bucket_words

    @property
    def lane_bytes(self) -> int:
        """The length of a lane in memory, where each begins with a page."""
        return _whole_pages(self.lane_words)


LANE = Shape()


class Sources:
    """The memory, as one process maps it: the ``sums``, and by row those ``lanes`` that
    it has needed yet.

    ``fd`` stays open, and children inherit it, so that they can map more lanes. They
    are mapped ROWS_STEP at a time, because mmap keeps a descriptor for each mapping.
    """

    def __init__(self, fd: int, secret: bytes, shape: Shape = LANE) -> None:
        """Map the sums of the memory behind ``fd`` (from :func:`create`), which this
        object closes. ``secret`` is the key of the hash, the same in all processes.
        """
        self.fd = fd
        self.shape = shape
        self.lanes: list[memoryview] = []
        self._maps: list[mmap.mmap] = []
        self._salts = [secret + bytes((column,)) for column in range(_SERVICES)]
        self.sums: memoryview = memoryview(mmap.mmap(fd, SUMS_BYTES)).cast("Q")

    def key(self, column: int, prefix: bytes) -> int:
        """The key of a source of the service in ``column``, never 0: a hash that no
        client can foresee (SipHash in CPython).
        """
        return hash(self._salts[column] + prefix) & _LARGEST or 1

    def reach(self, rows: int) -> None:
        """Map the lanes of at least ``rows`` rows. OSError if the kernel refuses."""
        size = self.shape.lane_bytes
        while len(self.lanes) < min(rows, _ROWS):
            offset = SUMS_BYTES + len(self.lanes) * size
            mapped = mmap.mmap(self.fd, ROWS_STEP * size, offset=offset)
            with contextlib.suppress(OSError):  # a sandbox may refuse it
                # A core dump would make every page of it real.
                mapped.madvise(mmap.MADV_DONTDUMP)
            self._maps.append(mapped)
            words, step = memoryview(mapped).cast("Q"), size // WORD_BYTES
            for start in range(0, ROWS_STEP * step, step):
                self.lanes.append(words[start : start + self.shape.lane_words])

    def clear(self, row: int) -> None:
        """Forget what the child of a row has counted: it was reaped, so its connections
        have ended. The lane, which must be in reach, gives its memory back.
        """
        sums = self.sums[row::_ROWS]
        sums[:] = memoryview(bytes(sums.nbytes)).cast("Q")
        step, index = divmod(row, ROWS_STEP)
        size = self.shape.lane_bytes
        try:
            self._maps[step].madvise(mmap.MADV_REMOVE, index * size, size)
        except OSError:  # a sandbox may lack it: gVisor does
            lane = self.lanes[row]
            lane[:] = memoryview(bytes(lane.nbytes)).cast("Q")

    def stored(self, row: int) -> memoryview:
        """A copy of a lane. It makes no page of a sparse lane real, unlike a look at
        the mapping.
        """
        size = self.shape.lane_words * WORD_BYTES
        copied = os.pread(self.fd, size, SUMS_BYTES + row * self.shape.lane_bytes)
        return memoryview(copied).cast("Q")

    def close(self) -> None:
        """Close the descriptor. The mappings stay."""
        os.close(self.fd)


def create(shape: Shape = LANE) -> Sources:
    """Make the memory (memfd_create(2), close-on-exec), seal its size, and map the
    first lanes. OSError if the kernel refuses.
    """
    fd = os.memfd_create("unpd-sources", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, SUMS_BYTES + _ROWS * shape.lane_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        sources = Sources(fd, os.urandom(SECRET_BYTES), shape)
        sources.reach(1)
    except BaseException:
        os.close(fd)
        raise
    return sources


def window_of(now: float, window_s: float) -> Window:
    """The window of a rate at the time ``now``."""
    return window_at(int(now * NS), int(window_s * NS) or 1)


def window_at(now_ns: int, window_ns: int) -> Window:
    """The same, in nanoseconds."""
    return now_ns - now_ns % window_ns + 2 * window_ns, window_ns, now_ns


class SourceCounts:
    """Reads the counts over all lanes. ``rows`` returns how many rows were ever given
    to children. ``now`` is in monotonic seconds.
    """

    def __init__(self, sources: Sources, rows: Callable[[], int]) -> None:
        self._sources = sources
        self._rows = rows
        self._sums = sources.sums
        self._lanes = sources.lanes
        self._mask = sources.shape.buckets - 1
        self._bucket_words = sources.shape.bucket_words
        self._used = sources.sums[:0]
        self._rates: dict[int, tuple[int, memoryview, memoryview, memoryview]] = {}

    @property
    def processes(self) -> int:
        """How many processes may count at the same moment, at most."""
        return self._rows()

    def service_open(self, column: int) -> int:
        """How many connections of the service in ``column`` are open."""
        start = _SUM_OPEN + column * _ROWS
        counts = self._sums[start : start + self._rows()].tolist()
        total = sum(counts)
        return total if total < _SANE_COUNT else sum(map(sane, counts))

    def service_rate(self, column: int, window: Window) -> Admitted:
        """How many were admitted to a service lately."""
        rows = self._rows()
        found = self._rates.get(column)
        if found is None or found[0] != rows:
            found = self._rates[column] = self._rates_of(column, rows)
        _, counts, befores, ends = found
        counted = zip(counts.tolist(), befores.tolist(), ends.tolist())  # noqa: B905 - 0.1 us
        return admitted(counted, window)

    def _rates_of(self, column: int, rows: int) -> tuple[int, memoryview, memoryview, memoryview]:
        """The number of rows, and their words of the rate of a service. They are kept,
        because an accept would need 0.3 us to find them.
        """
        starts = (word + column * _ROWS for word in (_SUM_COUNT, _SUM_BEFORE, _SUM_EXPIRES_NS))
        counts, befores, ends = (self._sums[start : start + rows] for start in starts)
        return rows, counts, befores, ends

    def source(self, key: int) -> SourceFound:
        """How many connections the source ``key`` has open with its service, and what
        :func:`admitted` needs to tell its rate. It is one look at each lane for both:
        that is what costs most.
        """
        start = (key & self._mask) * self._bucket_words
        first = start + _FIRST
        windows: list[Sequence[int]] = []
        total = 0
        for used, lane in self._all_lanes():
            if used:
                # The overflow comes first: connections move only from there to entries.
                count = lane[start + _OVERFLOW]
                entry = first
                if lane[first] != key:  # else it is the first, as mostly: 0.15 us less
                    found = lane[first : start + self._bucket_words : _ENTRY].tolist()
                    entry = first + found.index(key) * _ENTRY if key in found else 0
                if entry:
                    count += lane[entry + _OPEN]
                    # Upwards, and word by word: a slice takes 0.1 us more.
                    counted = lane[entry + _COUNT], lane[entry + _BEFORE], lane[entry + _EXPIRES_NS]
                    windows.append(counted)
                if count < _SANE_COUNT:
                    total += count
        return total, windows

    def has_fewer(self, key: int, limit: int, burst: float, window: Window) -> bool:
        """Whether the source ``key`` has fewer than ``limit`` connections open, and
        fewer than ``burst`` were admitted lately. False also where a word is odd: then
        :meth:`source` and :func:`admitted` have to tell. It is what they say of nearly
        every client, in one pass and without a record of it.
        """
        start = (key & self._mask) * self._bucket_words
        first, stop = start + _FIRST, start + self._bucket_words
        end, window_ns, now_ns = window
        are_open = present = earlier = 0
        for used, lane in self._all_lanes():
            if used:
                # In the order of source(), for its reasons.
                are_open += lane[start + _OVERFLOW]
                entry = first
                if lane[first] != key:
                    found = lane[first:stop:_ENTRY].tolist()
                    if key not in found:
                        continue
                    entry = first + found.index(key) * _ENTRY
                are_open += lane[entry + _OPEN]
                count, before = lane[entry + _COUNT], lane[entry + _BEFORE]
                its_end = lane[entry + _EXPIRES_NS]
                if its_end == end:
                    present += count
                    earlier += before
                elif its_end == end - window_ns:
                    earlier += count
                elif its_end > end:
                    return False
        share = (end - window_ns - now_ns) / window_ns
        return are_open < limit and present + earlier * share < burst

    def _all_lanes(self) -> Iterator[tuple[int, memoryview]]:
        """Each lane that is in reach, and how many of its entries are in use."""
        rows = self._rows()
        if rows != len(self._used):
            self._used = self._sums[:rows]
        if rows > len(self._lanes):
            self._reach(rows)
        return zip(self._used.tolist(), self._lanes)  # noqa: B905 - 0.1 us

    def _reach(self, rows: int) -> None:
        with contextlib.suppress(OSError):
            self._sources.reach(rows)

    def tracked(self, now: float) -> int:
        """How many entries are in use: those of sources with an open connection, or
        with a rate that is not over. A source has one for each service and child.
        """
        now_ns = int(now * NS)
        used = self._sums[: self._rows()].tolist()
        return sum(self._in_use(row, now_ns) for row, count in enumerate(used) if count)

    def _in_use(self, row: int, now_ns: int) -> int:
        words, step = self._sources.stored(row), self._bucket_words
        found = 0
        for start in range(_FIRST, step, _ENTRY):
            counts = words[start + _OPEN :: step].tolist()
            ends = words[start + _EXPIRES_NS :: step].tolist()
            found += sum(map(now_ns.__lt__, ends))
            if any(counts):
                pairs = zip(counts, ends, strict=True)
                found += sum(1 for count, end in pairs if count and end <= now_ns)
        return found


def admitted(counted: Iterable[Sequence[int]], window: Window) -> Admitted:
    """Add up what the lanes have counted in the present window, and in the one before.
    The clock of a writer may be a turn ahead of ours, in the next window. Windows of
    another length are those of another configuration, and do not count.
    """
    end, window_ns, now_ns = window
    present = earlier = 0
    for count, before, its_end in counted:
        if count >= _SANE_COUNT or before >= _SANE_COUNT:
            continue
        if its_end == end:
            present += count
            earlier += before
        elif its_end == end - window_ns:
            earlier += count
        elif its_end == end + window_ns:
            present += count + before
    return present, earlier, (end - window_ns - now_ns) / window_ns
