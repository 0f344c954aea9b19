"""The networks that are denied now, in memory that the master shares with its children.

The master writes them (:class:`DeniedWriter`), and workers and dispatchers look when
clients have come (:class:`Denied`). :class:`unpd.board.layout.Denied` names the words.

No lock: there are two halves, and the last bit of the version says which one holds. The
master fills the other one, then raises the version. A reader notes the version, looks
into the half, and compares: if the version has changed, the master may have written
where it looked, and it looks again. A look takes 2 us with 65,536 ranges, and 0.2 us
without any.

Only the master can write (:mod:`unpd.board.sealed`). Yet a reader trusts no word: it
never loops, waits or raises because of one.

Errors: OSError if the kernel refuses the memory.

Known gaps: between TRIES changes that all fall into one look, an address counts as not
denied; the master makes them so slowly that a process would have to be stopped for as
long in the middle of the look. A processor that delays stores (not x86) may show a
reader the version before the ranges; nothing here prevents that but the time between.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from unpd.board.layout import Denied as Words
from unpd.board.layout import DeniedHalf
from unpd.board.sealed import make_sealed
from unpd.names import MAX_DENIALS

TRIES = 4
"""How often a reader looks at most."""
_LOW = (1 << 64) - 1

# A word that is asked of its table costs 0.1 us (see unpd.worker.ledger).
_VERSION = Words.VERSION
_HALVES = (Words.HALVES, Words.HALVES + DeniedHalf.size)
_V4_COUNT, _V6_COUNT, _V4 = DeniedHalf.V4_COUNT, DeniedHalf.V6_COUNT, DeniedHalf.V4
_FIRST_HIGH, _FIRST_LOW = DeniedHalf.V6_FIRST_HIGH, DeniedHalf.V6_FIRST_LOW
_LAST_HIGH, _LAST_LOW = DeniedHalf.V6_LAST_HIGH, DeniedHalf.V6_LAST_LOW


class Denied:
    """The reader. ``words``: the shared memory."""

    def __init__(self, words: Sequence[int]) -> None:
        self._words = words

    @property
    def is_empty(self) -> bool:
        """Whether no network is denied."""
        words = self._words
        half = _HALVES[words[_VERSION] & 1]
        return not words[half + _V4_COUNT] and not words[half + _V6_COUNT]

    def find(self, family: int, number: int) -> tuple[int, int] | None:
        """The first and the last address of the denied range in which the address
        ``number`` of a family lies; None if it is not denied, as no address is of a
        family but 4 and 6.
        """
        words = self._words
        if not words[_VERSION]:
            return None  # nothing was ever denied, as mostly: 0.25 us less
        find = self._find_v4 if family == 4 else self._find_v6
        for _ in range(TRIES if family else 0):
            version = words[_VERSION]
            found = find(_HALVES[version & 1], number)
            if words[_VERSION] == version:
                return found
        return None

    def _find_v4(self, half: int, number: int) -> tuple[int, int] | None:
        words = self._words
        count = words[half + _V4_COUNT]
        if not count:
            return None
        start = half + _V4
        stop = start + min(count, MAX_DENIALS)
        at = bisect_right(words, number << 32 | 0xFFFFFFFF, start, stop) - 1
        if at < start:
            return None
        word = words[at]
        first, last = word >> 32, word & 0xFFFFFFFF
        return (first, last) if first <= number <= last else None

    def _find_v6(self, half: int, number: int) -> tuple[int, int] | None:
        words = self._words
        count = words[half + _V6_COUNT]
        if not count:
            return None
        start = half + _FIRST_HIGH
        stop = start + min(count, MAX_DENIALS)
        high, low = number >> 64, number & _LOW
        # The last range that begins at or before the address: of those that begin with
        # its first half, the last one by the second; else the one before them.
        like = bisect_left(words, high, start, stop)
        to_low = _FIRST_LOW - _FIRST_HIGH
        end = bisect_right(words, high, like, stop) + to_low
        at = bisect_right(words, low, like + to_low, end) - 1 - to_low
        if at < start:
            return None
        first = words[at] << 64 | words[at + to_low]
        to_last = _LAST_HIGH - _FIRST_HIGH
        last = words[at + to_last] << 64 | words[at + _LAST_LOW - _FIRST_HIGH]
        return (first, last) if first <= number <= last else None


class DeniedWriter:
    """The writer, which makes the memory. ``denied``: the reader of its children."""

    def __init__(self) -> None:
        self._words, shown = make_sealed("unpd-denied", Words.size)
        self._version = 0
        self.denied = Denied(shown)

    def publish(self, v4: Sequence["array[int]"], v6: Sequence["array[int]"]) -> None:
        """Show the children these ranges from now on: the columns of both families
        (:class:`unpd.access.ranges.Ranges`). 65,536 ranges take 1 ms.
        """
        self._version += 1
        half = _HALVES[self._version & 1]
        starts = (_V4, _FIRST_HIGH, _FIRST_LOW, _LAST_HIGH, _LAST_LOW)
        for start, column in zip(starts, (*v4, *v6), strict=True):
            self._words[half + start : half + start + len(column)] = memoryview(column)
        self._words[half + _V4_COUNT] = len(v4[0])
        self._words[half + _V6_COUNT] = len(v6[0])
        self._words[_VERSION] = self._version
