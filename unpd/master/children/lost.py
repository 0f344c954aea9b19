"""Books the connections that a dead child has left open: in the counters, in the list
of ends, and in the log. Nobody knows which clients they had, so that each service has
one entry and one line for all of them.

Called by :mod:`unpd.master.children.reap` and :mod:`unpd.master.children.lanes`, after
the reap. Owns nothing; raises nothing.
"""

from collections.abc import Mapping

from unpd.board import layout
from unpd.board.ended import RecentEnd, RecentEnds
from unpd.board.memory import Scoreboard
from unpd.logs import Log
from unpd.loop import now
from unpd.names import EndCause


def book_lost(
    board: Scoreboard, row: int, columns: Mapping[str, int], ends: RecentEnds, log: Log
) -> int:
    """Book the connections that the dead child of ``row`` left open; return their
    number. ``columns``: those of the services by name. ``ends`` gets the entries.
    """
    lost = board.book_worker_died(row)
    names = {column: name for name, column in columns.items()}
    for column, number in lost.items():
        ends.append(
            RecentEnd(
                words=layout.service_cells(column),
                peer=b"",
                cause=EndCause.WORKER_DIED,
                ended_at=now(),
                duration_s=0.0,
                received=0,
                sent=0,
                path=None,
                lost=number,
            )
        )
        if column in names:
            log.event(
                "connections.lost",
                service=names[column],
                cause=EndCause.WORKER_DIED,
                connections=number,
            )
    return sum(lost.values())
