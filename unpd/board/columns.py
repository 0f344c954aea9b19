"""The columns of the scoreboard: which service, pool or listener owns which.

Owns the names that stand on the board. A name keeps its column for the board's life and
no column is used again, so that no series of a metric ever changes its meaning. The
master gives columns out; nobody else writes them.
"""

from collections.abc import Callable, Iterable

from unpd.board.layout import NAME_BYTES, NAME_WORDS
from unpd.board.memory import BoardRefusedError


class ColumnsExhaustedError(Exception):
    """A configuration asks for more services, pools or listeners than there are
    columns.
    """


class Columns:
    """The names of one area. ``names`` lists them by column."""

    def __init__(self, what: str, cells: memoryview, valid: Callable[[str], bool] = bool) -> None:
        """Read the names that stand in ``cells`` (of :meth:`Scoreboard.names`).

        ``what``: the plural of what has these names, for messages. BoardRefusedError if
        a name is damaged, stands there twice, or is not ``valid``.
        """
        self.what = what
        self.limit = len(cells) // NAME_WORDS
        self._bytes = cells.cast("B")
        self.names: list[str] = []
        for at in range(0, len(self._bytes), NAME_BYTES):
            written = bytes(self._bytes[at : at + NAME_BYTES]).rstrip(b"\0")
            if not written:
                break
            name = written.decode("utf-8", "replace")
            damaged = not name.isprintable() or "\ufffd" in name
            if damaged or name in self.names or not valid(name):
                raise BoardRefusedError(f"the names of its {what} are damaged")
            self.names.append(name)

    def check(self, names: Iterable[str]) -> None:
        """Take no column; ColumnsExhaustedError if all of these have no room."""
        new = set(names) - set(self.names)
        if len(self.names) + len(new) > self.limit:
            raise ColumnsExhaustedError(
                f"more than {self.limit} {self.what} in one life of the daemon: stop and start"
                f" unpd to use {', '.join(sorted(new))}"
            )

    def column(self, name: str) -> int:
        """Return the column of ``name``, given now if it had none.
        ColumnsExhaustedError.
        """
        if name not in self.names:
            self.check((name,))
            at = len(self.names) * NAME_BYTES
            encoded = name.encode()
            if len(encoded) > NAME_BYTES:
                raise AssertionError(f"a name of {len(encoded)} bytes: {name}")
            self._bytes[at : at + NAME_BYTES] = encoded.ljust(NAME_BYTES, b"\0")
            self.names.append(name)
        return self.names.index(name)
