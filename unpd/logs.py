"""The log: one event, one line, structured.

Owns the threshold, the style and the fields that begin each line. Called only by the
top of each process. Calls a sink (:mod:`unpd.sinks`), and takes the level of each event
from the table :mod:`unpd.log_events.table`. The command line writes recent events in
the same words (:func:`in_words`), and the answers of the daemon have times in the same
form (:func:`stamp`, :func:`moment`).

A line is formatted once, and its control characters are escaped: no text of a peer can
make a line or a field of its own. An event that the table lacks is logged as an error:
a mistake here must not end a daemon. The tests compare all call sites with the table.

Errors: none. A line that cannot be written is dropped and counted by the sink.
"""

import json
import select
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from unpd.kernel import journal
from unpd.log_events.row import CONNECTIONS, LEVELS, Field, Level
from unpd.log_events.table import EVENTS
from unpd.sinks import Sink

Style = Literal["text", "json", "journal"]
"""How an event is written: the two formats of the configuration, and the entry that
:class:`unpd.sinks.Journal` takes.
"""

TRACE_CHARACTERS = 900
"""How many characters of a trace are logged."""
PRIORITIES: Mapping[Level, int] = MappingProxyType(
    {"debug": 7, "info": 6, "warning": 4, "error": 3}
)
"""The levels as numbers of syslog(3)."""
FIELD_LIMITS = (1000, 250, 60)
"""How many characters of a field are written. The next smaller limit applies while the
line is longer than PIPE_BUF: a pipe takes no more in one piece, and the lines of
several processes must not mix.
"""


OnEvent = Callable[[float, Level, str, Mapping[str, Field]], None]
"""Takes the time since the epoch, the level, the name and the fields of an event."""


def _keep_nothing(wall_s: float, level: Level, event: str, fields: Mapping[str, Field]) -> None:
    """A process that keeps no recent events."""


class Log:
    """Writes events to a sink. The fields ``base`` begin every line (role, pool).
    ``connections``: whether the lines about each connection are wanted, which have
    level debug otherwise. ``on_line`` is called with the name and the text of each
    event that is written. ``on_event`` is called for each event that its row calls
    recent, also where its level is not wanted. The log of a child begins without both.
    """

    def __init__(
        self, sink: Sink, level: Level, style: Style, *, connections: bool = False, **base: Field
    ) -> None:
        self.sink = sink
        self._override: Level | None = None
        self.set_level(level, connections=connections)
        self._format = _FORMATS[style]
        self._style: Style = style
        self._base = base
        self.on_line: Callable[[str, str], None] | None = None
        self.on_event: OnEvent = _keep_nothing

    def child(self, **base: Field) -> "Log":
        """Return the log of a forked child, which writes to the same sink in the same
        style. ``base``: more fields of each line, or others.
        """
        self.sink.forget_rest()
        own = {**self._base, **base}
        log = Log(self.sink, self._configured, self._style, connections=self._connections, **own)
        log.override(self._override)
        return log

    @property
    def level(self) -> Level:
        """The least severe level of which events are written."""
        return LEVELS[self._threshold]

    @property
    def configured(self) -> Level:
        """The level that the configuration wants."""
        return self._configured

    def set_level(self, level: Level, *, connections: bool) -> None:
        """Write the events of ``level`` and graver ones from now on, as the
        configuration wants it. ``connections``: as for a new log.
        """
        self._configured = level
        self._connections = connections
        self.override(self._override)

    def override(self, level: Level | None) -> None:
        """Write the events of this level and graver ones, whatever the configuration
        wants; None: no longer.
        """
        self._override = level
        self._threshold = LEVELS.index(level or self._configured)

    @property
    def writes_connections(self) -> bool:
        """Whether the lines about each connection are written: ask before you gather
        what only they show.
        """
        return self._threshold <= LEVELS.index("info" if self._connections else "debug")

    def event(self, event: str, **fields: Field) -> None:
        """Write one line about an event of the table, if its level is wanted."""
        wall_s = time.time()
        row = EVENTS.get(event)
        known = {**fields, CONNECTIONS: self._connections}
        level = "error" if row is None else row.level_of(known)
        if row is not None and row.recent:
            self.on_event(wall_s, level, event, fields)
        if LEVELS.index(level) >= self._threshold:
            all_fields = {**self._base, **fields}
            self.sink.put(self._line(wall_s, level, event, all_fields))
            if self.on_line is not None:
                self.on_line(event, _as_text(wall_s, level, event, all_fields).decode().rstrip())

    def _line(self, wall_s: float, level: Level, event: str, fields: dict[str, Field]) -> bytes:
        line = b""
        for limit in FIELD_LIMITS:
            bounded = {
                name: value[:limit] if isinstance(value, str) else value
                for name, value in fields.items()
            }
            line = self._format(wall_s, level, event, bounded)
            if len(line) <= select.PIPE_BUF:
                break
        return line


def take_level(log: Log, level: object) -> dict[str, Any]:
    """Have ``log`` take the level of a question of the master; return the answer."""
    for known in (*LEVELS, None):
        if level == known:
            log.override(known)
            return {}
    return {"error": f"level must be null or one of {', '.join(LEVELS)}"}


def moment(wall_s: float) -> str:
    """A time since the epoch in UTC, such as 2026-11-22T21:23:10Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))


def stamp(wall_s: float) -> str:
    """The same as the log writes it, with milliseconds."""
    whole = int(wall_s)
    return f"{moment(whole)[:-1]}.{int((wall_s - whole) * 1000):03d}Z"


def _as_json(wall_s: float, level: Level, event: str, fields: dict[str, Field]) -> bytes:
    # ASCII only: every control character, U+2028 and lone surrogate comes out escaped.
    text = json.dumps(
        {"time": stamp(wall_s), "level": level, "event": event, **fields},
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return text.encode("ascii") + b"\n"


def _as_text(wall_s: float, level: Level, event: str, fields: dict[str, Field]) -> bytes:
    return f"{stamp(wall_s)} {level:<7} {in_words(event, fields)}\n".encode(
        "utf-8", "backslashreplace"
    )


def _as_entry(wall_s: float, level: Level, event: str, fields: dict[str, Field]) -> bytes:
    del wall_s  # journald has a clock
    ours = (
        (journal.field_name(f"unpd_{name}"), _as_plain(value)) for name, value in fields.items()
    )
    return journal.entry(
        PRIORITIES[level],
        in_words(event, fields),
        (("SYSLOG_IDENTIFIER", "unpd"), ("UNPD_EVENT", event), *ours),
    )


_FORMATS: Mapping[Style, Callable[[float, Level, str, dict[str, Field]], bytes]] = MappingProxyType(
    {"text": _as_text, "json": _as_json, "journal": _as_entry}
)


def in_words(event: str, fields: Mapping[str, Field]) -> str:
    """An event with its fields, as a line of text has them."""
    return event + "".join(f" {name}={_as_word(value)}" for name, value in fields.items())


def _as_plain(value: Field) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_word(value: Field) -> str:
    text = _as_plain(value)
    if text and all((c.isalnum() and c.isascii()) or c in "-_./:+@,[]%*" for c in text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def trace_of(error: BaseException) -> str:
    """The last TRACE_CHARACTERS of the trace of ``error``: a log line is bounded."""
    return "".join(traceback.format_exception(error))[-TRACE_CHARACTERS:]
