"""A row of the table of log events, and the words that the rows share.

Owns the levels and the types of fields. Called by everything that logs, and by the rows
beside this module. Imports only :mod:`unpd.names`, and raises nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from unpd.names import ChildKind

Level = Literal["debug", "info", "warning", "error"]
Field = str | int | float | bool | None
"""The types that a field of a log line may have."""

LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
"""The levels, from the least to the most severe."""

CHILD_FIELDS = ("role", "pool", "index", "pid")
"""The first fields of every line that a child logs."""

CONNECTIONS = "log.connections"
"""The key of the configuration that wants a line about each connection."""

ABOUT_CHILD = ("pool", "index", "birth", "generation", "service")
"""The first fields of most lines that the master logs about one child. ``service``: the
one that an iterative worker or a python dispatcher alone serves.
"""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One row: an event that the master, a child or the command line logs.

    ``fields`` are in the order of the line; those in ``optional`` may be missing.
    ``meaning`` and ``what_to_do`` are one sentence each, with fields, keys and other
    names in backticks; ``what_to_do`` is "" if the operator has nothing to do. If
    ``debug_unless`` names a field, a line in which that field is false has level debug;
    if it names the key CONNECTIONS, so has every line while that key is false.

    ``recent`` is false for an event that may come too often for ``unpd events``, which
    shows the last events of the main process. Those of children are in the log only.
    """

    name: str
    level: Level
    fields: tuple[str, ...]
    meaning: str
    what_to_do: str = ""
    optional: tuple[str, ...] = ()
    debug_unless: str = ""
    recent: bool = True

    def level_of(self, fields: Mapping[str, Field]) -> Level:
        """The level of a line with these fields."""
        return self.level if not self.debug_unless or fields.get(self.debug_unless) else "debug"


def of_each_kind(
    name: str, level: Level, fields: tuple[str, ...], meaning: str, what_to_do: str = ""
) -> Iterator[LogEvent]:
    """A row for each kind of child, such as worker.ready and exporter.ready."""
    optional = ("service",) if "service" in fields else ()
    return (
        LogEvent(f"{kind}.{name}", level, fields, meaning, what_to_do, optional)
        for kind in ChildKind
    )
