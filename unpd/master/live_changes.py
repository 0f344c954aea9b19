"""The live changes: what operators have changed in the running daemon, and no file has.

A service may be halted (:class:`unpd.names.Halt`), and the log may have another level,
until a time or until that is taken back. Nothing of it is saved: a restart ends it. It
outlasts reloads, but for the halt of a service that the new file has no more. How many
workers a pool has is the core's matter (:mod:`unpd.core.scaling`).

Owned by the runtime. Owns the memory in which children see the halts. Changed by
:mod:`unpd.master.halting` and :mod:`unpd.master.levelling`, which also log. Errors:
CannotCreateError from the start.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from unpd.board.halted import Halted, HaltedWriter
from unpd.board.layout import MAX_SERVICES, Master
from unpd.board.memory import Scoreboard
from unpd.control.spans import span_s
from unpd.errors import CannotCreateError
from unpd.log_events.row import Level
from unpd.logs import moment
from unpd.loop import now
from unpd.names import Halt


def clock() -> float:
    """Seconds since boot, those in suspend included: what lasts for an hour ends after
    an hour also on a machine that slept.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Term:
    """How long a change lasts. ``until``: a time of :func:`clock`, inf where it has to
    be taken back.
    """

    until: float = math.inf

    @classmethod
    def of_span(cls, span: str | None) -> "Term":
        """The term of a change that begins now, and lasts for a span such as "10m";
        None: until it is taken back.
        """
        if span is None:
            return cls()
        return cls(clock() + span_s(span))

    @property
    def left_s(self) -> float:
        """How many seconds are left; inf: it has to be taken back."""
        return self.until - clock()

    @property
    def text(self) -> str:
        """When it ends, in UTC, as the clock on the wall stands now; "" where it has to
        be taken back.
        """
        left_s = self.left_s
        return moment(round(time.time() + left_s)) if math.isfinite(left_s) else ""


@dataclass(frozen=True, slots=True)
class ServiceHalt:
    """How a service is halted, and for how long."""

    halt: Halt
    term: Term


@dataclass(frozen=True, slots=True)
class LiveLevel:
    """The level of the log, and how long it holds."""

    level: Level
    term: Term


class LiveChanges:
    """The changes. ``halts``: by service; call :meth:`show` after a change. ``level``:
    None for that of the configuration. ``halted``: the halts as children see them.
    """

    def __init__(self, board: Scoreboard) -> None:
        try:
            self._writer = HaltedWriter()
        except OSError as error:
            raise CannotCreateError(
                f"cannot make the shared memory of halted services: {error.strerror}; it needs"
                " Linux 5.1"
            ) from error
        self.halted: Halted = self._writer.halted
        self.halts: dict[str, ServiceHalt] = {}
        self.level: LiveLevel | None = None
        self._board = board

    def show(self, columns: Mapping[str, int]) -> None:
        """Show the halts to all children and to the exporter. ``columns``: those of the
        services.
        """
        by_column = {columns[name]: order.halt for name, order in self.halts.items()}
        self._writer.show(by_column)
        for column in range(MAX_SERVICES):
            self._board.words[Master.HALTED + column] = int(column in by_column)

    @property
    def due_at(self) -> float:
        """When the next change ends by itself, on the clock of the loop; inf: none
        does.
        """
        terms = [order.term for order in self.halts.values()]
        if self.level is not None:
            terms.append(self.level.term)
        return now() + min((term.left_s for term in terms), default=math.inf)
