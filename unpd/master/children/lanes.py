"""Lanes: what outlives a dispatcher, because its sessions do.

A lane is the row of a dispatcher on the scoreboard, with what it counts of sources, and
the table of its sessions. If a dispatcher dies, its sessions go on and become children
of the master, which is a subreaper; so they stay counted. The next dispatcher in the
same slot, of the same generation, gets the lane: it counts these sessions, and gives
them orders.

A lane has one keeper at a time, which alone books in the row: its dispatcher, or the
master while there is none. When the master has reaped a session, it writes the status
into the table for the dispatcher, or books the end itself. A lane without a dispatcher
is given up after its last session.

Owns the lanes of a :class:`unpd.master.runtime.Runtime`. Called by the performers for
each birth, and by :mod:`unpd.master.children.reap` for each death. Raises OSError if
the kernel refuses the memory of a table.

The sessions of a dispatcher that was killed while it drained get no successor. They
have the time that it had, and count for ``max_connections`` of the others. So do those
of one that was dead when a reload took its slot away; they have the time of a drain.

Known gap: with ``reload_grace_s = 0`` they last as long as their clients, however many
reloads follow; the core cuts only the drains of dispatchers that live.
"""

import signal
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from unpd.board import layout
from unpd.board.ended import recent_ends
from unpd.board.layout import Session
from unpd.board.memory import Scoreboard
from unpd.board.sessions import SessionTable
from unpd.board.source_lane import SourceLane
from unpd.board.sources import Sources
from unpd.core.model import Child, Slot, State
from unpd.core.policy import CUT_GRACE_S, drain_end
from unpd.dispatcher.heirlooms import Heirlooms
from unpd.dispatcher.program_roll import ProgramRoll
from unpd.dispatcher.roll import ProcessEnd, Roll
from unpd.kernel import signals
from unpd.kernel.processes import is_our_child
from unpd.kernel.signals import Reaped
from unpd.logs import Log
from unpd.loop import now
from unpd.master.children.lost import book_lost
from unpd.names import ChildKind, EndCause, ReapReason
from unpd.worker.ledger import Ledger
from unpd.worker.selection import Kick
from unpd.worker.terms import Totals

_ROLLS: Mapping[ChildKind, type[Roll]] = MappingProxyType(
    {
        ChildKind.DISPATCHER: Roll,
        ChildKind.LAUNCHER: ProgramRoll,
        ChildKind.PYTHON: ProgramRoll,
    }
)
"""How the sessions of each kind are booked."""


@dataclass(frozen=True, slots=True)
class _Account:
    """A service, as far as its sessions are booked."""

    name: str
    words: int
    totals: Totals = field(default_factory=Totals)


@dataclass(slots=True)
class Lane:
    """The row and the table of the dispatchers of one slot in one generation.

    ``last``: the birth of its last dispatcher. ``keeper``: the same while that one
    lives; 0 for the master, which then has a ``roll`` and a ``ledger``. ``ends_at``:
    when the sessions have to end that will have no dispatcher, inf: they may last;
    ``signalled``: they have SIGTERM already. ``heirlooms``: what programs share with
    all their launchers.
    """

    slot: Slot
    generation: int
    row: int
    table: SessionTable
    last: int = 0
    keeper: int = 0
    ends_at: float | None = None
    signalled: bool = False
    roll: Roll | None = None
    ledger: Ledger | None = None
    heirlooms: Heirlooms | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that its dispatcher inherits."""
        return self.heirlooms.fds if self.heirlooms else ()


class Lanes:
    """All lanes. ``columns`` returns the columns of the services by name. ``ended``:
    the last ends that the master has booked itself.
    """

    def __init__(
        self,
        board: Scoreboard,
        sources: Sources,
        columns: Callable[[], Mapping[str, int]],
        log: Log,
    ) -> None:
        self._board = board
        self._sources = sources
        self._log = log
        self._columns = columns
        self._lanes: list[Lane] = []
        self._ending = False
        self.ended = recent_ends()

    @property
    def rows(self) -> set[int]:
        """The rows of the board that belong to lanes."""
        return {lane.row for lane in self._lanes}

    @property
    def births(self) -> set[int]:
        """The dispatchers whose rows are still written, though they may be dead."""
        return {lane.last for lane in self._lanes}

    def left_for(self, child: Child) -> Lane | None:
        """The lane that an earlier dispatcher in the same place has left, if any."""
        for lane in self._lanes:
            if (lane.slot, lane.generation, lane.keeper) == (child.slot, child.generation, 0):
                return lane
        return None

    def give(
        self,
        child: Child,
        row: int,
        sessions: int,
        heirlooms: Callable[[], Heirlooms | None] = lambda: None,
    ) -> Lane:
        """Give a dispatcher, before it is forked, the lane that is left for it, or a
        new one with ``row``, room for ``sessions``, and new ``heirlooms``. OSError.
        """
        lane = self.left_for(child)
        if lane is None:
            table = SessionTable(sessions)
            lane = Lane(child.slot, child.generation, row, table, heirlooms=heirlooms())
            self._lanes.append(lane)
        lane.last = lane.keeper = child.birth
        lane.roll = lane.ledger = None
        return lane

    def earlier(self, child: Child) -> list[SessionTable]:
        """The tables of the dispatchers of earlier generations."""
        return [lane.table for lane in self._lanes if lane.generation < child.generation]

    def unkept(self) -> list[Lane]:
        """The lanes that have sessions, and no dispatcher."""
        return [lane for lane in self._lanes if lane.roll is not None]

    def held_by(self, birth: int) -> Lane | None:
        """The lane of a dispatcher; None for a child of another kind."""
        return next((lane for lane in self._lanes if lane.keeper == birth), None)

    def take_back(
        self, lane: Lane, reaped: Collection[Reaped] = (), ends_at: float | None = None
    ) -> int:
        """Keep the lane of a dispatcher that has died or was never forked. Return how
        many connections are lost with it. ``reaped``: what the master has reaped and
        not yet accounted for; more may come meanwhile. ``ends_at``: when the drain of
        the dispatcher would have been over, if it had lost its slot.
        """
        lane.ends_at = ends_at
        if not lane.table.used():  # also where memory is short, after a refused fork
            return self._give_up(lane)
        accounts = {
            column: _Account(name, layout.service_cells(column))
            for name, column in self._columns().items()
        }
        lane.keeper = 0
        lane.ledger = Ledger(self._board.row(lane.row), accounts.values())
        lane.ledger.ends = self.ended
        source_lane = SourceLane(self._sources, lane.row)
        lane.roll = _ROLLS[lane.slot.kind](lane.table, lane.ledger, accounts, source_lane)
        lost = 0
        for index, session in list(lane.roll.enrolled.items()):
            if (end := lane.roll.end_of(index)) is not None:
                self._book(lane, index, end)
            elif not session.pid:
                ended = lane.roll.ended(index, None, _now_ns(), EndCause.WORKER_DIED)
                ended.log_connection(self._log)
                lost += 1
            elif not (is_our_child(session.pid) or _has(reaped, session.pid)):
                # The dispatcher had reaped it and died before it could book that.
                ended = lane.roll.ended(index, ReapReason.UNKNOWN, _now_ns())
                ended.log_connection(self._log)
        lane.ledger.book()
        # It stays in the directory, so that other dispatchers count its sessions.
        self._board.mark_reaped(lane.row)
        if self._ending:  # the dispatcher may have died before it told them
            self.end_unkept()
        return lost + self._give_up_if_empty(lane)

    def session_ended(self, reaped: Reaped) -> bool:
        """Account for a process that the master has reaped and did not fork. False if
        it was no session.
        """
        for lane in self._lanes:
            index = lane.table.find(reaped.pid)
            if index is None:
                continue
            if lane.roll is None or lane.ledger is None:
                words = lane.table.entry(index)
                words[Session.CPU_NS], words[Session.PEAK_BYTES] = reaped.cpu_ns, reaped.peak_bytes
                words[Session.STATUS] = reaped.status + 1
            elif index in lane.roll.enrolled:
                self._book(lane, index, ProcessEnd.of(reaped))
                lane.ledger.book()
                self._give_up_if_empty(lane)
            return True
        return False

    def _book(self, lane: Lane, index: int, end: ProcessEnd) -> None:
        if lane.roll is not None:
            ended = lane.roll.reaped(index, end, _now_ns())
            ended.log_death(self._log, end.reason, str(end.report))
            ended.log_connection(self._log)

    def _give_up_if_empty(self, lane: Lane) -> int:
        """Give up a lane without sessions. Return how many connections its row still
        shows as open: the dispatcher died between two words.
        """
        return 0 if lane.roll is None or lane.roll.enrolled else self._give_up(lane)

    def _give_up(self, lane: Lane) -> int:
        self._lanes.remove(lane)
        if lane.heirlooms:
            lane.heirlooms.close()
        self._sources.clear(lane.row)
        self._board.leave(lane.row)
        return book_lost(self._board, lane.row, self._columns(), self.ended, self._log)

    def kick(self, kick: Kick, left_by: int | None = None) -> int:
        """End the sessions that have no dispatcher and that an operator means; return
        how many. ``left_by``: only those of this dispatcher.
        """
        kicked = 0
        for lane in self._lanes:
            if lane.roll is None or left_by not in (None, lane.last):
                continue
            entries = lane.roll.kick(kick, now())
            if not kick.dry_run:
                _send(lane.roll, signal.SIGQUIT, entries)
            kicked += len(entries)
        return kicked

    def retire(self, state: State, at: float) -> None:
        """Give the sessions that have no dispatcher, and will have none because the
        slot is no longer wanted, the time of a drain.
        """
        for lane in self._lanes:
            waits = lane.roll is not None and lane.ends_at is None
            kept = state.wants(lane.generation, lane.slot)
            if waits and not (kept or state.wanted.spares(lane.generation, lane.slot)):
                lane.ends_at = drain_end(lane.slot, state.wanted.limits, at)

    def expire(self, at: float) -> None:
        """End the sessions whose time is over and that have no dispatcher: tell them to
        finish, and kill what is left after CUT_GRACE_S.
        """
        for lane in self._lanes:
            if lane.roll is not None and lane.ends_at is not None and lane.ends_at <= at:
                _send(lane.roll, signal.SIGKILL if lane.signalled else signal.SIGTERM)
                lane.signalled, lane.ends_at = True, at + CUT_GRACE_S

    def end_unkept(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """Tell the sessions that have no dispatcher to finish, because the daemon
        stops; also those that will have none. SIGKILL ends them at once.
        """
        self._ending = True
        for lane in self._lanes:
            if lane.roll is not None:
                _send(lane.roll, signum)


def _send(roll: Roll, signum: signal.Signals, entries: Container[int] | None = None) -> None:
    """Send a signal to the sessions of a roll that are our children; not to all, but to
    those in some ``entries``, if these are given.
    """
    with signals.blocked():  # none of them is reaped meanwhile
        for index, session in roll.enrolled.items():
            wanted = entries is None or index in entries
            if wanted and session.pid and is_our_child(session.pid):
                roll.signal(index, signum)


def _has(reaped: Collection[Reaped], pid: int) -> bool:
    """Whether ``pid`` waits to be accounted for. A handler may append meanwhile."""
    return any(each.pid == pid for each in tuple(reaped))


def _now_ns() -> int:
    return int(now() * layout.NS)
