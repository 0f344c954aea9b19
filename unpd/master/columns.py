"""The columns of a scoreboard that the names of configurations get.

Owns which words of the board belong to which column. Made by
:mod:`unpd.master.boards`; the performers call it at each reload, and the shell's sweep
once a second. Calls :mod:`unpd.board.columns`. Errors: BoardRefusedError and
ColumnsExhaustedError.
"""

from collections.abc import Collection, Mapping

from unpd.board import layout
from unpd.board.columns import Cells, Columns
from unpd.board.layout import Master, Row
from unpd.board.memory import Scoreboard
from unpd.config.schema import Config, ServiceConfig
from unpd.master.listening.listener import WantedListener, is_key
from unpd.names import METRICS, is_name
from unpd.services.redirect import RedirectOptions, parse_target

WantedListeners = Collection[WantedListener]


def is_target_key(key: str) -> bool:
    """Whether :func:`target_keys` could have made ``key``."""
    service, _, target = key.partition(" ")
    try:
        return is_name(service) and parse_target(target).text == target
    except ValueError:
        return False


def target_keys(services: Mapping[str, ServiceConfig]) -> list[str]:
    """The names of the columns of the targets of all redirects among ``services``."""
    return [
        f"{name} {target}"
        for name, service in services.items()
        if isinstance(service.options, RedirectOptions)
        for target in service.options.to
    ]


class BoardColumns:
    """The columns of a scoreboard, by name."""

    def __init__(self, board: Scoreboard) -> None:
        """Read the names that stand on ``board``. BoardRefusedError if they are
        damaged.
        """
        areas = layout.Board
        services = board.names(areas.SERVICE_NAMES, layout.MAX_SERVICES)
        pools = board.names(areas.POOL_NAMES, layout.MAX_POOLS)
        listeners = board.names(areas.LISTENER_NAMES, layout.MAX_LISTENERS)
        targets = board.names(areas.TARGET_NAMES, layout.MAX_TARGETS, layout.TARGET_NAME_WORDS)
        self._board = board
        self.services = Columns("services", services, is_name, self._cells_of_service)
        self.pools = Columns("pools", pools, is_name, self._cells_of_pool)
        self.listeners = Columns("listeners", listeners, is_key, self._cells_of_listener)
        self.targets = Columns(
            "targets of redirects",
            targets,
            is_target_key,
            self._cells_of_target,
            layout.TARGET_NAME_WORDS,
        )

    def check(self, config: Config, wanted_listeners: WantedListeners) -> None:
        """Check that every name of ``config`` can have a column, without giving it one.
        ColumnsExhaustedError if there is no room.
        """
        for columns, names in self._names(config, wanted_listeners):
            columns.check(names)

    def take(self, config: Config, wanted_listeners: WantedListeners) -> None:
        """Give every name of ``config``, which is in use from now on, its column for
        good, and write the limits of its services. ColumnsExhaustedError if there is no
        room for all; then none gets one.
        """
        self.check(config, wanted_listeners)
        for columns, names in self._names(config, wanted_listeners):
            columns.keep(names)
        for name, column in self.services.by_name.items():
            service = config.services.get(name)
            limit = service.max_connections if service else 0
            self._board.words[Master.LIMITS + column] = limit

    def try_out(self, config: Config, wanted_listeners: WantedListeners) -> None:
        """Give every name of ``config``, whose children have yet to prove it, its
        column. ColumnsExhaustedError if there is no room for all; then none gets one.
        """
        self.check(config, wanted_listeners)
        for columns, names in self._names(config, wanted_listeners):
            columns.try_out(names)

    def refuse(
        self, config: Config, wanted_listeners: WantedListeners, births: Collection[int]
    ) -> None:
        """Note that ``config`` was refused, and that its children ``births`` may write
        to its columns until they are reaped.
        """
        for columns, names in self._names(config, wanted_listeners):
            columns.refuse(names, births)

    def give_back(self, alive: Collection[int]) -> None:
        """Free the columns that only refused configurations had, unless one of the
        children ``alive`` may write there. No configuration is being proved now.
        """
        for columns in (self.services, self.pools, self.listeners, self.targets):
            columns.give_back(alive)

    def _names(
        self, config: Config, wanted_listeners: WantedListeners
    ) -> tuple[tuple[Columns, list[str]], ...]:
        return (
            (self.services, list(config.services)),
            (self.pools, [service.pool for service in config.services.values()]),
            (
                self.listeners,
                [wanted.key for wanted in wanted_listeners if wanted.service != METRICS],
            ),
            (self.targets, target_keys(config.services)),
        )

    # --- the words of a column --------------------------------------------------------

    def _cells_of_service(self, column: int) -> Cells:
        start, size = layout.service_cells(column), layout.Service.size
        return Cells(
            counters=(
                [row[start : start + size] for row in self._rows()],
                [self._word(Master.KERNEL_DROPS + column)],
            ),
            samples=[
                self._word(Master.UNREACHABLE + column),
                self._word(Master.CONNECTION_PEAKS + column),
                self._word(Master.HALTED + column),
                self._word(Master.LIMITS + column),
            ],
        )

    def _cells_of_pool(self, column: int) -> Cells:
        wanted = layout.wanted_words(column)
        return Cells(
            counters=([self._word(Master.SPAWNS + column)],),
            samples=[
                self._board.words[wanted : wanted + len(layout.SERVING_KINDS)],
                self._word(Master.BUSY + column),
            ],
        )

    def _cells_of_listener(self, column: int) -> Cells:
        """No metric has the counts of a listener, so that none is set aside."""
        accepted = Row.LISTENER_ACCEPTED + column
        queue = Master.LISTEN_QUEUES + 2 * column
        return Cells(
            samples=[
                *(row[accepted : accepted + 1] for row in self._rows()),
                self._word(Master.DROPS_SEEN + column),
                self._board.words[queue : queue + 2],
            ]
        )

    def _cells_of_target(self, column: int) -> Cells:
        start, size = layout.target_cells(column), layout.Target.size
        return Cells(counters=([row[start : start + size] for row in self._rows()],))

    def _rows(self) -> list[memoryview]:
        """The rows that may hold counts, and at least one that can take some."""
        return [self._board.row(row) for row in range(max(1, self._board.rows_given))]

    def _word(self, word: int) -> memoryview:
        return self._board.words[word : word + 1]
