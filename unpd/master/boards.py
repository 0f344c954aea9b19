"""Opens the scoreboard: the one that an earlier master left in the service manager's
descriptor store, so that counters go on, or a new one. Makes the memory of the counts
of sources, which begin anew with each master: they belong to connections of children.

Called by boot; calls :mod:`unpd.board.memory` and :mod:`unpd.board.sources`.
:mod:`unpd.master.listening.sources` does the same for listeners.
"""

import os
import stat
import time
from collections.abc import Collection
from dataclasses import dataclass

from unpd.board import layout, memory, sources
from unpd.board.columns import ColumnsExhaustedError
from unpd.board.memory import BoardRefusedError, Scoreboard
from unpd.board.sources import Sources
from unpd.config.schema import Config
from unpd.errors import CannotCreateError
from unpd.logs import Log
from unpd.loop import now
from unpd.master.columns import BoardColumns
from unpd.master.listening.listener import WantedListener
from unpd.master.systemd.offers import Offers

STORED_AS = "unpd-scoreboard"
"""The name of the scoreboard in the descriptor store."""


@dataclass(frozen=True, slots=True)
class OpenedBoard:
    """A scoreboard with the columns of the first configuration."""

    board: Scoreboard
    columns: BoardColumns


def open_board(
    offers: Offers, log: Log, config: Config, wanted_listeners: Collection[WantedListener]
) -> OpenedBoard:
    """Return the stored scoreboard of an earlier master if it can be used, otherwise a
    new one. CannotCreateError if the kernel refuses that.
    """
    opened = _adopt_stored(offers, log, config, wanted_listeners)
    if opened is None:
        opened = _create(offers, config, wanted_listeners)
    words = opened.board.words
    words[layout.Master.START_WALL_NS] = words[layout.Master.LAST_RELOAD_WALL_NS] = time.time_ns()
    words[layout.Master.START_NS] = int(now() * layout.NS)
    words[layout.Master.GENERATION] = words[layout.Master.LAST_RELOAD_OK] = 1
    return opened


def make_sources() -> Sources:
    """Make the memory of the counts of sources. CannotCreateError if the kernel refuses
    that.
    """
    try:
        return sources.create()
    except OSError as error:
        size = sources.SUMS_BYTES + layout.MAX_ROWS * sources.LANE.lane_bytes
        raise CannotCreateError(
            f"cannot make the counts of sources, a sparse file of {size} bytes in shared memory:"
            f" {error.strerror}; the limits of file size (ulimit -f), address space (ulimit -v) and"
            " open files (ulimit -n) apply to it"
        ) from error


def drop_impostors(offers: Offers, log: Log) -> None:
    """Close what the descriptor store has under the name of the scoreboard and is none.
    A listener there would hold its address.

    Called before any listener is opened.
    """
    for passed in offers.passed:
        if passed.name == STORED_AS and not stat.S_ISREG(os.fstat(passed.fd).st_mode):
            log.event("scoreboard.dropped", reason="what was stored under its name is none")
            offers.store.remove(STORED_AS)
            # The number stays taken, so that open_board() closes nothing of others.
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(null, passed.fd, inheritable=False)
            os.close(null)
            offers.store.wait()


def _adopt_stored(
    offers: Offers, log: Log, config: Config, wanted_listeners: Collection[WantedListener]
) -> OpenedBoard | None:
    fds = [passed.fd for passed in offers.passed if passed.name == STORED_AS]
    if not fds:
        return None
    try:
        board = memory.adopt(fds[0])
        columns = BoardColumns(board)
        columns.take(config, wanted_listeners)
    except (BoardRefusedError, ColumnsExhaustedError) as error:
        log.event("scoreboard.dropped", reason=str(error))
        offers.store.remove(STORED_AS)
        return None
    finally:
        for fd in fds:
            os.close(fd)
    board.take_over()
    log.event("scoreboard.taken_over")
    return OpenedBoard(board, columns)


def _create(
    offers: Offers, config: Config, wanted_listeners: Collection[WantedListener]
) -> OpenedBoard:
    try:
        fd = memory.create()
    except OSError as error:
        raise CannotCreateError(
            f"cannot make the scoreboard of {layout.BOARD_BYTES} bytes in shared memory:"
            f" {error.strerror}; the limits of file size (ulimit -f), address space (ulimit -v) and"
            " open files (ulimit -n) apply to it"
        ) from error
    try:
        board = Scoreboard(fd)
        columns = BoardColumns(board)
        columns.take(config, wanted_listeners)
        offers.store.add(STORED_AS, fd)
    finally:
        os.close(fd)  # the mapping stays
    return OpenedBoard(board, columns)
