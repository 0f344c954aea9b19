"""The progress of a command that lasts: one line of standard error, on a terminal only.

Called by the commands stop, reload, drain and wait. Owns that line. Raises nothing: a
terminal that is gone is no reason to end a command.
"""

import os
import sys
from types import TracebackType
from typing import Self

from unpd.cli.output import printable
from unpd.cli.tables import Values
from unpd.names import MasterPhase
from unpd.wording import counted

TICK_S = 1.0
"""How often a line is made anew."""
_CLEAR = "\r\x1b[K"


class Progress:
    """The line, which the end of the ``with`` block clears. ``shows``: whether there is
    a terminal.
    """

    def __init__(self) -> None:
        self.shows = sys.stderr.isatty()
        self._text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.show("")

    def show(self, text: str) -> None:
        """Show the text in the place of the one before."""
        if not self.shows or text == self._text:
            return
        self._text = text
        try:
            sys.stderr.write(_CLEAR + printable(text)[: _width() - 1])
            sys.stderr.flush()
        except OSError:
            self.shows = False


def _width() -> int:
    """How many characters a line has room for: a longer one could not be cleared."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def stopping(status: Values) -> str:
    """How far a stop is."""
    active = counted(sum(service["active"] for service in status["services"]), "connection")
    until = _until(status["stop_ends_at"])
    if status["phase"] == MasterPhase.LAME:
        return f"lame, and serving: {active} open{until}"
    return f"stopping: {active} left{until}"


def reloading(status: Values) -> str:
    """How far a reload is."""
    old = retired(status)
    return f"reloading ({status['phase']})" + (f"; {old}" if old else "")


def retired(status: Values) -> str:
    """How many connections retired processes have, and until when; "" if none have
    any.
    """
    left = [one for one in status["retired"] if one["connections"]]
    if not left:
        return ""
    number = sum(one["connections"] for one in left)
    ends = [one["drain_ends_at"] for one in left]
    until = None if None in ends else max(ends)
    return f"{counted(number, 'connection')} of retired processes left{_until(until)}"


def waiting(condition: str, answer: Values) -> str:
    """Why a condition does not hold yet."""
    return f"not {condition}: {answer['why']}{_until(answer['until'])}"


def _until(moment: str | None) -> str:
    return f", until {moment} at the latest" if moment else ""
