"""What one life of the daemon leaves to the next: its scoreboard, in the service
manager's store. (Its listeners: :mod:`unpd.master.supply`.)
"""

import os
import time
from collections.abc import Collection

from unpd import scoreboard as sb
from unpd.config.schema import Config
from unpd.logs import Log
from unpd.master.holdings import BoardColumns
from unpd.master.listener import Wish
from unpd.master.supervision import Supervision
from unpd.records import record
from unpd.scoreboard import BoardRefusedError, ColumnsExhausted, Scoreboard

STORED_AS = "unpd-scoreboard"


@record
class Board:
    """A scoreboard with the columns of the first configuration."""

    board: Scoreboard
    columns: BoardColumns


def open_board(
    supervision: Supervision, log: Log, config: Config, wishes: Collection[Wish]
) -> Board:
    """The scoreboard of an earlier life, if it left one that can be used, so that
    counters go on; else a new one. OSError where the kernel refuses.
    """
    found = _inherited(supervision, log, config, wishes) or _new(supervision, config, wishes)
    words = found.board.words
    words[sb.START_WALL_NS_AT] = words[sb.LAST_RELOAD_WALL_NS_AT] = time.time_ns()
    words[sb.GENERATION_AT] = words[sb.LAST_RELOAD_OK_AT] = 1
    return found


def _inherited(
    supervision: Supervision, log: Log, config: Config, wishes: Collection[Wish]
) -> Board | None:
    fds = [passed.fd for passed in supervision.passed if passed.name == STORED_AS]
    if not fds:
        return None
    try:
        board = sb.adopt(fds[0])
        columns = BoardColumns(board)
        columns.take(config, wishes)
    except (BoardRefusedError, ColumnsExhausted) as error:
        log.warning("scoreboard.dropped", reason=str(error))
        supervision.store.forget(STORED_AS)
        return None
    finally:
        for fd in fds:
            os.close(fd)
    board.take_over()
    log.info("scoreboard.taken_over")
    return Board(board, columns)


def _new(supervision: Supervision, config: Config, wishes: Collection[Wish]) -> Board:
    fd = sb.create()
    try:
        board = Scoreboard(fd)
        columns = BoardColumns(board)
        columns.take(config, wishes)
        supervision.store.keep(STORED_AS, fd)
    finally:
        os.close(fd)  # the mapping is all that we need
    return Board(board, columns)
