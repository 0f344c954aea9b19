"""Keeps the lines that a reload logs, for the answer of ``unpd reload``.

Owns the lines of the last reload. The log calls it with each line that it writes; the
performers begin and end it, whatever level the log has. Only lines of the main process
are there: the children write their own. Raises nothing.
"""

from dataclasses import dataclass, field
from typing import Any

from unpd.logs import Log

MAX_LINES = 200
MAX_CHARACTERS = 1000
"""How many lines an answer has at most, and how long they are."""
LAST = ("reload.succeeded", "reload.refused")
"""The lines with the result, which are kept also beyond MAX_LINES."""


@dataclass(slots=True)
class ReloadLog:
    """The lines. ``more``: how many there were beyond MAX_LINES."""

    lines: list[str] = field(default_factory=list)
    more: int = 0

    def begin(self, log: Log) -> None:
        """Keep the lines of the reload that begins now, in place of the last ones."""
        self.lines, self.more = [], 0
        log.on_line = self._take

    def end(self, log: Log) -> None:
        """Keep no more lines: the reload has ended."""
        log.on_line = None

    def fields(self) -> dict[str, Any]:
        """The fields of the answer."""
        return {"log": self.lines, "log_left_out": self.more}

    def _take(self, event: str, line: str) -> None:
        if len(self.lines) < MAX_LINES or event in LAST:
            self.lines.append(line[:MAX_CHARACTERS])
        else:
            self.more += 1
