"""The lane of one row as its writer has it: counts one child's open connections, and
what it admits, for services and for their sources.

A lane has one writer at a time: its worker; its dispatcher; or the master, while the
sessions in the lane have no dispatcher. The writer decides from its own copy of the
lane, and stores each change in the shared memory too. When a source opens a connection,
it writes the whole bucket again: that repairs what a hostile process wrote there. Calls
:mod:`unpd.board.sources`, which says what is exact and what is bounded. Raises OSError
if the kernel refuses the memory of the copy.

Known gap: the copy needs as much memory as the lane, at most 1.3 MB for a child.
"""

import mmap
from collections.abc import Mapping, Sequence

from unpd.board import layout
from unpd.board.layout import Bucket, LaneSums, Source
from unpd.board.memory import sane
from unpd.board.sources import Sources, Window

# A word that is asked of its table costs 0.1 us, because a call answers.
_USED, _SUM_OPEN, _SUM_COUNT, _SUM_BEFORE, _SUM_EXPIRES_NS = (
    word.offset // layout.MAX_ROWS for word in LaneSums.words
)
_OVERFLOW, _FIRST, _ENTRY = Bucket.OVERFLOW, Bucket.size, Source.size
_KEY, _OPEN, _COUNT = Source.KEY, Source.OPEN, Source.COUNT
_BEFORE, _EXPIRES_NS = Source.BEFORE, Source.EXPIRES_NS


class SourceLane:
    """The writer of the lane of ``row``, which must be in reach. The lane is empty,
    unless it is taken over. ``column``: that of a service. ``key``: that of a source,
    from :meth:`Sources.key`. ``now``: monotonic seconds.
    """

    def __init__(self, sources: Sources, row: int) -> None:
        shape = sources.shape
        self._sources = sources
        self._row = row
        self._lane = sources.lanes[row]
        self._sums = sources.sums[row :: layout.MAX_ROWS]
        copy = mmap.mmap(-1, shape.lane_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._own = memoryview(copy).cast("Q")[: shape.lane_words]
        self._own_sums = memoryview(bytearray(self._sums.nbytes)).cast("Q")
        self._mask = shape.buckets - 1
        self._bucket_words = shape.bucket_words

    # --- services ---------------------------------------------------------------------

    def service_opened(self, column: int, count: int = 1) -> None:
        """Count open connections of a service."""
        sums, which = self._own_sums, _SUM_OPEN + column
        sums[which] = self._sums[which] = sums[which] + count

    def service_closed(self, column: int) -> None:
        """Count the end of one of them."""
        sums, which = self._own_sums, _SUM_OPEN + column
        sums[which] = self._sums[which] = sums[which] - 1

    def service_admitted(self, column: int, window: Window, count: int = 1) -> None:
        """Count connections or datagrams for the rate of a service. One for the window
        before the present one counts in this: a clock may be read twice in a turn.
        """
        sums, which = self._own_sums, _SUM_COUNT + column
        last_end = sums[_SUM_EXPIRES_NS + column]
        if last_end == window[0] or last_end - window[0] == window[1]:
            sums[which] = self._sums[which] = sums[which] + count
            return
        before = _before(sums[which], last_end, window)
        self._store_sum(_SUM_EXPIRES_NS + column, window[0])
        self._store_sum(_SUM_BEFORE + column, before)
        self._store_sum(which, count)

    def service_released(self, column: int, window: Window, count: int) -> None:
        """Take back some that were counted in a ``window``, which may be over."""
        late_ns = self._own_sums[_SUM_EXPIRES_NS + column] - window[0]
        if late_ns == 0:
            self._add_to_sum(_SUM_COUNT + column, -count)
        elif late_ns == window[1]:
            self._add_to_sum(_SUM_BEFORE + column, -count)

    # --- sources ----------------------------------------------------------------------

    def source_opened(self, key: int, now: float, window: Window | None = None) -> int:
        """Count an open connection of a source, and with a ``window`` also for its
        rate, as :meth:`source_admitted`. Return the token that :meth:`source_closed`
        needs.
        """
        own, lane = self._own, self._lane
        start = (key & self._mask) * self._bucket_words
        entry = start + _FIRST
        if own[entry + _KEY] != key:  # else it is the first, as mostly: 0.7 us less
            entry = self._entry_of(key, int(now * layout.NS))
        if entry:
            word = entry + _OPEN
            self._sums[_USED] = self._own_sums[_USED]
            if window is not None:
                self._count(entry, window)
        else:
            word = start + _OVERFLOW
            self._add_to_sum(_USED, 1)
        own[word] = lane[word] = own[word] + 1
        # No word changes here, unless a hostile process has written it.
        bucket = slice(start, start + self._bucket_words)
        lane[bucket] = own[bucket]
        return word

    def source_closed(self, token: int) -> None:
        """Count the end of the connection with the ``token``."""
        own = self._own
        is_open = own[token] = self._lane[token] = own[token] - 1
        if token % self._bucket_words == _OVERFLOW:
            self._add_to_sum(_USED, -1)
        elif not is_open and not own[token - _OPEN + _EXPIRES_NS]:
            self._store(token - _OPEN + _KEY, 0)
            self._add_to_sum(_USED, -1)

    def source_admitted(self, key: int, window: Window) -> None:
        """Count a connection or datagram for the rate of a source. It is not counted if
        every entry of the bucket has open connections.
        """
        entry = self._entry_of(key, window[2])
        if entry:
            self._count(entry, window)

    def _count(self, entry: int, window: Window) -> None:
        """As for a service."""
        own, word = self._own, entry + _COUNT
        last_end = own[entry + _EXPIRES_NS]
        if last_end == window[0] or last_end - window[0] == window[1]:
            own[word] = self._lane[word] = own[word] + 1
            return
        before = _before(own[word], last_end, window)
        self._store(entry + _EXPIRES_NS, window[0])
        self._store(entry + _BEFORE, before)
        self._store(word, 1)

    def _find(self, key: int) -> int:
        """Where the entry of a source stands; 0 if it has none."""
        start = (key & self._mask) * self._bucket_words
        keys = self._own[start + _FIRST : start + self._bucket_words : _ENTRY].tolist()
        return start + _FIRST + keys.index(key) * _ENTRY if key in keys else 0

    def _entry_of(self, key: int, now_ns: int) -> int:
        """Find the entry of a source, or give it one without counts. Return where; 0 if
        each entry of its bucket has open connections.
        """
        first = (key & self._mask) * self._bucket_words + _FIRST
        if self._own[first + _KEY] == key:
            return first  # as mostly: 0.6 us less
        entry = self._find(key)
        if not entry:
            entry = self._free_entry(key, now_ns)
            if not entry:
                return 0
            self._add_to_sum(_USED, 0 if self._own[entry + _KEY] else 1)
            for word in range(entry, entry + _ENTRY):  # the key first: no reader finds it
                self._store(word, 0)
            self._store(entry + _KEY, key)
        return entry

    def _free_entry(self, key: int, now_ns: int) -> int:
        """Choose an entry without open connections: a free one; or one whose counts are
        over; or the one with the lowest. Return where it stands; 0 if there is none.
        """
        found, fewest = 0, layout.SANE_COUNT
        start = (key & self._mask) * self._bucket_words
        for entry in range(start + _FIRST, start + self._bucket_words, _ENTRY):
            holder, is_open, count, before, end = self._own[entry : entry + _ENTRY].tolist()
            if not holder:
                return entry
            worth = count + before if end > now_ns else 0
            if not is_open and worth < fewest:
                found, fewest = entry, worth
        return found

    def _store(self, word: int, number: int) -> None:
        self._own[word] = self._lane[word] = number

    def _store_sum(self, which: int, number: int) -> None:
        self._own_sums[which] = self._sums[which] = number

    def _add_to_sum(self, which: int, number: int) -> None:
        self._own_sums[which] = self._sums[which] = self._own_sums[which] + number

    # --- the lane of an earlier writer ------------------------------------------------

    def take_over(self, services: Mapping[int, int], keys: Sequence[int]) -> list[int]:
        """Take the lane over from a writer that has died: count exactly the connections
        that it has left open, whatever it wrote, and go on with its rates.

        ``services``: how many each service has, by column. ``keys``: the source of each
        connection that is counted by source. Return their tokens, in that order. No
        other method may have been called. At no moment is a count of a source lower
        than the number of its connections here, unless it was before.
        """
        stored = self._sources.stored(self._row)
        lane, sums = self._lane, self._sums
        self._lane, self._sums = self._own, self._own_sums  # show nothing half done
        for which in range(_SUM_COUNT, len(sums)):
            self._own_sums[which] = sane(sums[which])
        for column, count in services.items():
            self._own_sums[_SUM_OPEN + column] = count
        buckets, wanted = self._used_buckets(stored), set(keys)
        for start in buckets:
            self._keep_entries(stored, start, wanted)
        tokens = [0] * len(keys)
        # Those that have an entry come first: until then it looks as if it could go.
        for number in sorted(range(len(keys)), key=lambda number: not self._find(keys[number])):
            tokens[number] = self.source_opened(keys[number], now=0.0)
        self._lane, self._sums = lane, sums
        self._sums[_USED] = self._own_sums[_USED] + 1  # readers must not skip the lane
        for start in buckets | {token - token % self._bucket_words for token in tokens}:
            self._publish(stored, start)
        self._sums[:] = self._own_sums
        return tokens

    def _used_buckets(self, stored: memoryview) -> set[int]:
        """Where the buckets start that have a word."""
        content, size = stored.tobytes(), self._bucket_words * layout.WORD_BYTES
        empty = bytes(size)
        starts = range(0, len(content), size)
        used = (start for start in starts if content[start : start + size] != empty)
        return {start // layout.WORD_BYTES for start in used}

    def _keep_entries(self, stored: memoryview, start: int, wanted: set[int]) -> None:
        """Copy the sound entries of the bucket at ``start`` that are ``wanted`` or have
        a rate, each to the same place, without open connections.
        """
        for entry in range(start + _FIRST, start + self._bucket_words, _ENTRY):
            key, _, *counts = stored[entry : entry + _ENTRY].tolist()
            counted = [sane(count) for count in counts]
            belongs = key and (key & self._mask) * self._bucket_words == start
            if belongs and (key in wanted or any(counted)) and not self._find(key):
                self._own[entry + _KEY] = key
                for word, count in enumerate(counted, entry + _COUNT):
                    self._own[word] = count
                self._own_sums[_USED] += 1

    def _publish(self, stored: memoryview, start: int) -> None:
        """Write our copy of a bucket over the one that was ``stored``. Its entries come
        before its overflow, so that no connection is missing in between.
        """
        for entry in range(start + _FIRST, start + self._bucket_words, _ENTRY):
            if stored[entry + _KEY] != self._own[entry + _KEY]:
                self._lane[entry + _KEY] = 0
            for word in range(entry + _ENTRY - 1, entry - 1, -1):  # the key last
                self._lane[word] = self._own[word]
        self._lane[start + _OVERFLOW] = self._own[start + _OVERFLOW]


def _before(count: int, last_end: int, window: Window) -> int:
    """How many were counted in the window before this one, of which none is counted
    yet. ``count`` and ``last_end``: of the last window that had any.
    """
    end, window_ns, _ = window
    return count if last_end == end - window_ns else 0
