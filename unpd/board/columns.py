"""The columns of the scoreboard: each belongs to one service, pool or listener.

Owns the names on the board. A name that a configuration in use had keeps its column for
the life of the board, so that no series of a metric ever changes its meaning. A name
that only refused configurations had loses its column when no child that may write there
is left (:meth:`Columns.give_back`): otherwise reloads that are refused would use up the
columns. Its counts are set aside, and it gets them again with its next column, so that
no counter goes backwards.

Only the master gives columns to names (:class:`unpd.master.columns.BoardColumns`).

Errors: BoardRefusedError for a board with damaged names, and ColumnsExhaustedError.

Known gap: at most MAX_SET_ASIDE names have counts set aside, and the next master does
not have them; a name that is older than these begins again at 0.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from unpd.board.layout import NAME_WORDS, WORD_BYTES
from unpd.board.memory import BoardRefusedError, sane, wrapped

MAX_SET_ASIDE = 256
"""How many names may have counts set aside, of services, pools and listeners each."""


class ColumnsExhaustedError(Exception):
    """A configuration names more services, pools or listeners than the board has
    columns.
    """


@dataclass(frozen=True, slots=True)
class Cells:
    """The words of one column. ``counters``: groups of equally long parts, such as one
    part in each row; the value of a group is the sum of its parts. ``samples``: words
    that the master writes anew each second.
    """

    counters: Sequence[Sequence[memoryview]] = ()
    samples: Sequence[memoryview] = ()


class Columns:
    """The columns of one area. ``by_name`` has the column of each name. ``changes``:
    how often a name has got or lost its column, and its counts with it.
    """

    def __init__(
        self,
        plural: str,
        cells: memoryview,
        valid: Callable[[str], bool],
        cells_of: Callable[[int], Cells] = lambda _: Cells(),
        name_words: int = NAME_WORDS,
    ) -> None:
        """Read the names in ``cells`` (from :meth:`Scoreboard.names`).

        ``plural``: what the names belong to, for messages, such as "services".
        ``valid``: the rule of the configuration for such a name. ``cells_of``: the
        words of a column. ``name_words``: the length of a name. BoardRefusedError if a
        name is no UTF-8, occurs twice, or is not ``valid``.
        """
        self.plural = plural
        self.limit = len(cells) // name_words
        self._name_bytes = name_words * WORD_BYTES
        self._bytes = cells.cast("B")
        self._cells_of = cells_of
        self._on_trial: dict[str, set[int]] = {}
        """By name, the births of the refused children that may write to its column; for
        each name that no configuration in use had.
        """
        self._set_aside: dict[str, list[list[int]]] = {}
        self.by_name: dict[str, int] = {}
        self.changes = 0
        for column in range(self.limit):
            encoded = bytes(self._bytes[self._span(column)]).rstrip(b"\0")
            if not encoded:
                continue
            try:
                name = encoded.decode()
            except UnicodeDecodeError:
                name = ""
            if not name or name in self.by_name or not valid(name):
                raise BoardRefusedError(f"the names of its {plural} are damaged")
            self.by_name[name] = column

    def _span(self, column: int) -> slice:
        return slice(column * self._name_bytes, (column + 1) * self._name_bytes)

    @property
    def names(self) -> list[str]:
        """Every name that has a column."""
        return list(self.by_name)

    def shown_with(self, names: Collection[str]) -> tuple[tuple[str, int], ...]:
        """The names that a configuration in use had, and ``names``, each with its
        column. The others may lose theirs while an exporter lives.
        """
        return tuple(
            (name, column)
            for name, column in self.by_name.items()
            if name not in self._on_trial or name in names
        )

    def check(self, names: Iterable[str]) -> None:
        """Check that all ``names`` can have columns, without giving them any.
        ColumnsExhaustedError if there is no room.
        """
        new = set(names) - self.by_name.keys()
        if len(self.by_name) + len(new) > self.limit:
            raise ColumnsExhaustedError(
                f"more than {self.limit} {self.plural} in one life of the daemon: stop and start"
                f" unpd to use {', '.join(sorted(new))}"
            )

    def column(self, name: str) -> int:
        """Return the column of ``name``; give it one if it has none.
        ColumnsExhaustedError if there is no room.
        """
        if name not in self.by_name:
            self.check((name,))
            encoded = name.encode()
            if len(encoded) > self._name_bytes:
                raise AssertionError(f"a name of {len(encoded)} bytes: {name}")
            taken = set(self.by_name.values())
            column = next(free for free in range(self.limit) if free not in taken)
            self._restore(name, column)
            self._bytes[self._span(column)] = encoded.ljust(self._name_bytes, b"\0")
            self.by_name[name] = column
            self.changes += 1
        return self.by_name[name]

    # --- configurations that may be refused -------------------------------------------

    def try_out(self, names: Iterable[str]) -> None:
        """Give every name its column, for a configuration that has yet to prove itself.
        ColumnsExhaustedError if there is no room.
        """
        for name in names:
            if name not in self.by_name:
                self.column(name)
                self._on_trial[name] = set()

    def keep(self, names: Iterable[str]) -> None:
        """Give every name its column for good. ColumnsExhaustedError if there is no
        room.
        """
        for name in names:
            self.column(name)
            self._on_trial.pop(name, None)

    def refuse(self, names: Iterable[str], births: Collection[int]) -> None:
        """Note that a configuration with these names was refused, and that its children
        ``births`` may write to their columns until they are reaped.
        """
        for name in names:
            if name in self._on_trial:
                self._on_trial[name].update(births)

    def give_back(self, alive: Collection[int]) -> None:
        """Take its column from each name that only refused configurations had, unless
        one of the children ``alive`` may write there. No configuration is on trial now.
        """
        for name, births in list(self._on_trial.items()):
            births.intersection_update(alive)
            if not births:
                del self._on_trial[name]
                self._clear(name)

    def _clear(self, name: str) -> None:
        """Take the column from ``name``, and set its counts aside."""
        column = self.by_name.pop(name)
        self.changes += 1
        self._bytes[self._span(column)] = bytes(self._name_bytes)
        cells = self._cells_of(column)
        counts = [_taken_from(parts) for parts in cells.counters]
        for sample in cells.samples:
            _taken_from((sample,))
        if any(map(any, counts)):
            self._set_aside[name] = counts
            if len(self._set_aside) > MAX_SET_ASIDE:
                del self._set_aside[next(iter(self._set_aside))]

    def _restore(self, name: str, column: int) -> None:
        """Write the counts that were set aside into the new column of ``name``. No
        child knows that column yet.
        """
        counts = self._set_aside.pop(name, [])
        for sums, parts in zip(counts, self._cells_of(column).counters, strict=False):
            for offset, count in enumerate(sums):
                parts[0][offset] = wrapped(count)


def _taken_from(parts: Iterable[memoryview]) -> list[int]:
    """The sums over equally long ``parts``, which are 0 afterwards."""
    found = []
    for part in parts:
        values = part.tolist()
        if any(values):
            found.append([sane(value) for value in values])
            for offset, value in enumerate(values):
                if value:
                    part[offset] = 0
    return [sum(values) for values in zip(*found, strict=True)]
