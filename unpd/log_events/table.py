"""The table of log events: name, level, fields, meaning, and what the operator does.

Owns the whole table; names, levels and fields are public interface. :mod:`unpd.logs`
takes the level of each line from here, the tests compare every place that logs with
these rows, and ``packaging/manual.py`` prints them into unpd(8). A new event is a row
in one of the modules beside this one. Raises nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType

from unpd.log_events import children, daemon, programs, redirects
from unpd.log_events.row import LogEvent

ROWS: tuple[LogEvent, ...] = (
    *daemon.ROWS,
    *children.ROWS,
    *programs.ROWS,
    *redirects.ROWS,
)

EVENTS: Mapping[str, LogEvent] = MappingProxyType({row.name: row for row in ROWS})
"""Every event by its name, in the order of the manual page."""
