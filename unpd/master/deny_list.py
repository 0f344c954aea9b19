"""The list of live denials, as the master keeps it: the list itself, the memory in
which its children see it, and the file in which it outlasts the master.

Owned by the runtime, so that it outlasts reloads. The orders of the control socket
change it; the shell calls :meth:`DenyList.look` in each turn. Calls :mod:`unpd.access`,
:mod:`unpd.board.denied` and :mod:`unpd.master.state_file`. Errors: DenialError from a
change; CannotCreateError from the start.

A change reaches the children within PAUSE_S: more changes in that time are published
together. So a flood of changes costs the master a fiftieth of its time at most, for
65,536 denials are published in 1 ms.
"""

from collections.abc import MutableMapping

from unpd.access.denials import Denial, Denials
from unpd.access.network import Network
from unpd.board.denied import Denied, DeniedWriter
from unpd.board.layout import Master
from unpd.board.memory import Scoreboard
from unpd.core.draft import sooner
from unpd.errors import CannotCreateError
from unpd.logs import Log
from unpd.master.state_file import StateFile
from unpd.names import Fault

PAUSE_S = 0.05
SAVE_S = 1.0
"""The file is written no more often than this, and for each SAVE_EACH denials as much
later: to write 65,536 holds the master up by 0.1 s.
"""
SAVE_EACH = 10_000
CLOCK_SET_S = 0.5
"""A wall clock that has gone wrong by more than this was set, or has drifted."""
RETRY_S = 10.0
"""When a file that could not be written is tried again."""


class DenyList:
    """The list. ``denied``: as children see it. ``due_at``: when :meth:`look` has
    something to do.
    """

    def __init__(
        self, board: Scoreboard, log: Log, faults: MutableMapping[tuple[Fault, str], str]
    ) -> None:
        try:
            self._writer = DeniedWriter()
        except OSError as error:
            raise CannotCreateError(
                f"cannot make the shared memory of live denials: {error.strerror}; it needs Linux"
                " 5.1"
            ) from error
        self.denied: Denied = self._writer.denied
        self._board = board
        self._log = log
        self._faults = faults
        self._denials = Denials()
        self._file: StateFile | None = None
        self._publish_at: float | None = None
        self._save_at: float | None = None
        self._published_at = self._saved_at = 0.0
        self._epoch_s = 0.0

    def __len__(self) -> int:
        """How many denials are live."""
        return len(self._denials)

    def find(self, network: Network) -> Denial | None:
        """The denial of exactly this network."""
        return self._denials.find(network)

    def covering(self, network: Network) -> Denial | None:
        """The denial of the widest network that holds this one, as long as one does."""
        return self._denials.holding(network)

    def after(self, network: Network | None, limit: int) -> list[Denial]:
        """The denials after a network, in their order, at most ``limit``."""
        return self._denials.after(network, limit)

    def epoch_s(self, measured: float) -> float:
        """When our clock was 0, in seconds since the epoch, as it was ``measured`` now.
        The same until the wall clock is set: so a time always has the same text.
        """
        if abs(measured - self._epoch_s) > CLOCK_SET_S:
            self._epoch_s = measured
        return self._epoch_s

    # --- changes ----------------------------------------------------------------------

    def deny(self, denial: Denial) -> None:
        """Add a denial, or put it in the place of the one of the same network.
        DenialError.
        """
        if self._denials.add(denial):
            self._changed()

    def undeny(self, network: Network) -> Denial:
        """Take a denial back. DenialError, if exactly this network has none."""
        denial = self._denials.remove(network)
        self._changed()
        return denial

    def _changed(self) -> None:
        self._publish_at = self._published_at + PAUSE_S
        if self._file is not None and self._save_at is None:
            pause_s = SAVE_S * (1 + len(self._denials) // SAVE_EACH)
            self._save_at = self._saved_at + pause_s

    def use_file(self, path: str, at: float) -> None:
        """Keep the list in this file from now on, "" for none. Add what it holds."""
        if self._file is not None:
            if self._file.path == path:
                return
            self._file.forget()
        self._file = StateFile(path, self._log, self._faults) if path else None
        if self._file is not None:
            before = len(self._denials)
            well = self._file.load(self._denials, at)
            if not well or before:
                self._save_at = at
            self._publish(at)

    # --- what is done later -----------------------------------------------------------

    @property
    def due_at(self) -> float | None:
        """When :meth:`look` has to be called; None: there is nothing to do."""
        due_at = self._denials.next_end
        if due_at is not None:  # many may end one after the other
            due_at = max(due_at, self._published_at + PAUSE_S)
        for at in (self._publish_at, self._save_at):
            if at is not None:
                due_at = sooner(due_at, at)
        return due_at

    def look(self, at: float) -> None:
        """Do what is due at the time ``at``."""
        due_at = self.due_at
        if due_at is None or at < due_at:
            return
        if self._denials.expire(at):
            self._changed()
        if self._publish_at is not None and self._publish_at <= at:
            self._publish(at)
        if self._save_at is not None and self._save_at <= at:
            self._save(at)

    def publish_now(self, at: float) -> None:
        """Let every child see the list as it is now, before it is asked anything."""
        if self._publish_at is not None:
            self._publish(at)

    def _publish(self, at: float) -> None:
        ranges = self._denials.ranges
        self._writer.publish(ranges[4].words, ranges[6].words)
        self._board.words[Master.DENIALS] = len(self._denials)
        self._published_at, self._publish_at = at, None

    def _save(self, at: float) -> None:
        self._save_at = None
        if self._file is not None:
            saved = self._file.save(self._denials, at)
            self._saved_at = at
            if not saved:
                self._save_at = at + RETRY_S

    def close(self, at: float) -> None:
        """Write what was not written: the master ends."""
        if self._save_at is not None:
            self._save(at)
