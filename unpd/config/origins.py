"""Remembers from which file each key of a merged configuration came, so that messages
name the right file and line.

Owns the ranks of the keys and, once asked, the lines of the files. Filled by
unpd.config.merge, asked by unpd.config.findings. Calls unpd.config.lines. Raises
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unpd.config.lines import KeyPath, line_of, lines_of
from unpd.config.source import Source


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file.

    ``rank``: the file's position in the merge, 0 for the main file. ``line``: 1-based,
    None if it is unknown.
    """

    rank: int
    file: str
    line: int | None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Origins:
    """The origins of the keys of ``sources``, which are in the order of the merge.

    A table in several files has its place in the first of them. A key in no file has
    its place in the main file.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self._ranks: dict[KeyPath, int] = {}
        self._lines: dict[int, Mapping[KeyPath, int]] = {}

    def note_table(self, path: KeyPath, rank: int) -> None:
        """Note that the file of this rank has the table ``path``; others may too."""
        self._ranks.setdefault(path, rank)

    def note_value(self, path: KeyPath, rank: int) -> None:
        """Note that the value of ``path`` comes from the file of this rank."""
        self._ranks[path] = rank

    def place(self, path: KeyPath) -> Place:
        """The place of ``path``, or else of the closest table around it.

        The first question about a file scans its lines.
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
