"""The lag of a loop: how long its longest turns take, as a histogram in shared memory.

A turn is the time from one wait to the next: an event that comes, or a deadline that
falls, at its beginning is served at its end. So the longest turn says how late the loop
may be. A loop takes note of that at most every HEARTBEAT_S, a worker with its
heartbeat: so a lag counts by the time in which it could be felt, and not as one of many
short turns, and a turn costs one comparison.

Owned by the master for its own loop and by the engine of a worker for its loop; each
has words of its own (:mod:`unpd.board.layout`). Raises nothing. The counts stand in
this process's own memory, for the reason given at :mod:`unpd.worker.ledger`.
"""

from bisect import bisect_left

from unpd.board.layout import LAG_BOUNDS_S, NS
from unpd.board.memory import sane

HEARTBEAT_S = 0.01
"""A worker writes its heartbeat, and any loop its lag, no more often than this: a word
of the board costs 0.1 us, which is a tenth of a short turn.
"""


class LoopLag:
    """``words``: one for each bound, one above, and the sum."""

    __slots__ = ("_counts", "_words")

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._counts = [sane(word) for word in words]

    def book(self, longest_s: float) -> None:
        """Count the longest turn since the last booking."""
        self._add(bisect_left(LAG_BOUNDS_S, longest_s), 1)
        self._add(len(LAG_BOUNDS_S) + 1, int(longest_s * NS))

    def _add(self, word: int, number: int) -> None:
        self._counts[word] = self._words[word] = self._counts[word] + number
