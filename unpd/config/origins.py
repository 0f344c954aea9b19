"""Remembers which file each key of a merged configuration came from, so that what is
wrong with it is said of that file and line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unpd.config.lines import KeyPath, line_of, lines_of
from unpd.config.source import Source


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file. ``rank``: the file's place in the order of the merge, 0 for the
    main file. ``line``: 1-based, None if the key stands in no line.
    """

    rank: int
    file: str
    line: int | None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Origins:
    """``sources`` in the order of the merge. A table that several files write has its
    place in the first of them; what stands in none, in the main file.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self._ranks: dict[KeyPath, int] = {}
        self._lines: dict[int, Mapping[KeyPath, int]] = {}

    def of_table(self, path: KeyPath, rank: int) -> None:
        """The table ``path`` is written in the file of this rank, and perhaps in
        others.
        """
        self._ranks.setdefault(path, rank)

    def of_value(self, path: KeyPath, rank: int) -> None:
        """The value of ``path`` is that of the file of this rank."""
        self._ranks[path] = rank

    def place(self, path: KeyPath) -> Place:
        """Where ``path`` stands, else the closest table around it. The lines of a file
        are looked for when the first is asked for.
        """
        rank = next(
            (
                self._ranks[path[:length]]
                for length in range(len(path), 0, -1)
                if path[:length] in self._ranks
            ),
            0,
        )
        source = self.sources[rank]
        if rank not in self._lines:
            self._lines[rank] = lines_of(source.text)
        return Place(rank, source.file, line_of(self._lines[rank], path))
