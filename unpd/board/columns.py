"""The columns of the scoreboard: each belongs to one service, pool or listener.

Owns the names on the board. A name keeps its column for the life of the board, and no
column is used again, so that no series of a metric ever changes its meaning. Only the
master gives columns to names (:class:`unpd.master.runtime.BoardColumns`).

Errors: BoardRefusedError for a board with damaged names, and ColumnsExhaustedError.
"""

from collections.abc import Callable, Iterable

from unpd.board.layout import NAME_BYTES, NAME_WORDS
from unpd.board.memory import BoardRefusedError


class ColumnsExhaustedError(Exception):
    """A configuration names more services, pools or listeners than the board has
    columns.
    """


class Columns:
    """The columns of one area. ``names`` lists their names in order."""

    def __init__(self, plural: str, cells: memoryview, valid: Callable[[str], bool]) -> None:
        """Read the names in ``cells`` (from :meth:`Scoreboard.names`).

        ``plural``: what the names belong to, for messages, such as "services".
        ``valid``: the rule of the configuration for such a name. BoardRefusedError if a
        name is no UTF-8, occurs twice, or is not ``valid``.
        """
        self.plural = plural
        self.limit = len(cells) // NAME_WORDS
        self._bytes = cells.cast("B")
        self.names: list[str] = []
        for start in range(0, len(self._bytes), NAME_BYTES):
            encoded = bytes(self._bytes[start : start + NAME_BYTES]).rstrip(b"\0")
            if not encoded:
                break
            try:
                name = encoded.decode()
            except UnicodeDecodeError:
                name = ""
            if not name or name in self.names or not valid(name):
                raise BoardRefusedError(f"the names of its {plural} are damaged")
            self.names.append(name)

    def check(self, names: Iterable[str]) -> None:
        """Check that all ``names`` can have columns, without giving them any.
        ColumnsExhaustedError if there is no room.
        """
        new = set(names) - set(self.names)
        if len(self.names) + len(new) > self.limit:
            raise ColumnsExhaustedError(
                f"more than {self.limit} {self.plural} in one life of the daemon: stop and start"
                f" unpd to use {', '.join(sorted(new))}"
            )

    def column(self, name: str) -> int:
        """Return the column of ``name``; give it one if it has none.
        ColumnsExhaustedError if there is no room.
        """
        if name not in self.names:
            self.check((name,))
            start = len(self.names) * NAME_BYTES
            encoded = name.encode()
            if len(encoded) > NAME_BYTES:
                raise AssertionError(f"a name of {len(encoded)} bytes: {name}")
            self._bytes[start : start + NAME_BYTES] = encoded.ljust(NAME_BYTES, b"\0")
            self.names.append(name)
        return self.names.index(name)
