"""The services that an operator has halted, in memory that the master shares with its
children.

The master writes it (:class:`HaltedWriter`), and workers and dispatchers look before
they accept and after that (:class:`Halted`): so an order holds at once for all of them,
and for those that are born later, and the master waits for none. Each service has one
word, :class:`unpd.board.layout.Halted`; a store of it is whole. No child can write
(:mod:`unpd.board.sealed`), yet a reader takes a word that means nothing for no halt.

Errors: OSError if the kernel refuses the memory.
"""

from collections.abc import Mapping, Sequence

from unpd.board.layout import HALTS, MAX_SERVICES
from unpd.board.layout import Halted as Words
from unpd.board.sealed import make_sealed
from unpd.names import Halt

_SERVICES = Words.SERVICES
_MEANT: Mapping[int, Halt] = dict(enumerate(HALTS, 1))


class Halted:
    """The reader. ``words``: the shared memory."""

    def __init__(self, words: Sequence[int]) -> None:
        self._words = words

    def of(self, column: int) -> Halt | None:
        """How the service in ``column`` is halted; None: it takes clients. Costs
        0.1 us.
        """
        word = self._words[_SERVICES + column]
        return _MEANT.get(word) if word else None


class HaltedWriter:
    """The writer, which makes the memory. ``halted``: the reader of its children."""

    def __init__(self) -> None:
        self._words, shown = make_sealed("unpd-halted", Words.size)
        self.halted = Halted(shown)

    def show(self, halts: Mapping[int, Halt]) -> None:
        """Show the children which services are halted from now on, by column; no other
        is.
        """
        for column in range(MAX_SERVICES):
            halt = halts.get(column)
            self._words[_SERVICES + column] = HALTS.index(halt) + 1 if halt else 0
