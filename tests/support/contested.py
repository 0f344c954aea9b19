"""Words of shared memory that another process writes, or looks at, in the middle of
what a test does.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

from unpd.board import layout

VALUES = (0, 1, layout.SANE_COUNT - 1, layout.SANE_COUNT, (1 << 64) - 2, (1 << 64) - 1)
"""The numbers that a hostile process writes."""


class Contested:
    """Words that a hostile process writes too. Before every second access it writes a
    number into one of the words that are about to be read or written.
    """

    def __init__(self, words: memoryview, rng: random.Random) -> None:
        self._words, self._rng = words, rng

    def _lose(self, at: int) -> None:
        if self._rng.randrange(2):
            self._words[at] = self._rng.choice(VALUES)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Contested(self._words[at], self._rng)
        self._lose(at)
        return self._words[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        if isinstance(at, slice):
            for each, number in zip(range(*at.indices(len(self))), value, strict=True):
                self[each] = number
        else:
            self._lose(at)
            self._words[at] = value

    def __len__(self) -> int:
        return len(self._words)

    def __iter__(self) -> Iterator[int]:
        return (self[at] for at in range(len(self._words)))

    @property
    def nbytes(self) -> int:
        """As of the words."""
        return self._words.nbytes

    def tolist(self) -> list[int]:
        """As memoryview.tolist, with one word written before."""
        if len(self._words):
            self._lose(self._rng.randrange(len(self._words)))
        return self._words.tolist()


class Watched:
    """Words that another process looks at after each store: it calls ``look``."""

    def __init__(self, words: memoryview, look: Callable[[], None]) -> None:
        self._words, self._look = words, look

    def __getitem__(self, at: Any) -> Any:
        return Watched(self._words[at], self._look) if isinstance(at, slice) else self._words[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        if isinstance(at, slice):
            for each, number in zip(range(*at.indices(len(self))), value, strict=True):
                self[each] = number
        else:
            self._words[at] = value
            self._look()

    def __len__(self) -> int:
        return len(self._words)

    @property
    def nbytes(self) -> int:
        """As of the words."""
        return self._words.nbytes

    def tolist(self) -> list[int]:
        """As memoryview.tolist."""
        return self._words.tolist()
