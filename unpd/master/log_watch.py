"""Watches the log: whether it loses lines, and whether the lines still reach the file
that the configuration names.

Each of the two is a fault of the daemon (:attr:`Runtime.faults
<unpd.master.runtime.Runtime>`) until it is mended. The log itself cannot tell: the line
about it may be lost too. Made by the shell, whose sweep calls :meth:`LogWatch.look`
once a second. Calls :mod:`unpd.sinks` and :mod:`unpd.metrics.reading`. Raises nothing.

Known gap: a faulty child can forge its count of lost lines, and so make the daemon look
degraded.
"""

from unpd import sinks
from unpd.master.runtime import Runtime
from unpd.metrics.reading import lines_dropped
from unpd.names import Fault

QUIET_S = 10.0
"""How long no line may be lost before the log is tried, with a line about the loss."""
MOVED_S = 3.0
"""How long the file may be away. While logrotate renames it, and until it has sent
SIGUSR1, that is no fault.
"""
LOSING = (Fault.LOG_LOSING, "log")
LOST_FILE = (Fault.LOG_FILE_LOST, "log")


def lines_lost(runtime: Runtime) -> int:
    """How many lines master and children have lost."""
    return runtime.log.sink.dropped + lines_dropped(runtime.board, range(runtime.board.rows_given))


class LogWatch:
    """The watch over one daemon's log, from now on."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._seen = lines_lost(runtime)
        self._lost = self._logged = 0
        self._quiet_at = self._try_at = 0.0
        self._moved_at: float | None = None

    def look(self, at: float) -> None:
        """Look at the log at the time ``at``; show or remove the faults."""
        self._look_at_losses(at)
        self._look_at_file(at)

    def _look_at_losses(self, at: float) -> None:
        """The fault ends with a line that the log takes: a daemon that has nothing to
        log loses nothing on a full disk. A log that goes on losing some of its lines
        has such a line for each QUIET_S.
        """
        if self._count_losses():
            if not self._quiet_at:
                self._try_at = at + QUIET_S
            self._quiet_at = at + QUIET_S
            self._runtime.faults[LOSING] = (
                f"the log loses lines, {self._lost} so far: it is full, or gone"
            )
        if self._quiet_at and at >= min(self._try_at, self._quiet_at):
            self._try_at = at + QUIET_S
            self._log_losses()
            if self._logged == self._lost and at >= self._quiet_at:
                self._lost = self._logged = 0
                self._quiet_at = 0.0
                self._runtime.faults.pop(LOSING, None)

    def _count_losses(self) -> bool:
        """Count what was lost since the last look; whether there was any."""
        dropped = lines_lost(self._runtime)
        grown, self._seen = dropped - self._seen, dropped
        self._lost += max(0, grown)
        return grown > 0

    def _log_losses(self) -> None:
        """Log how many lines were lost since the last line about it."""
        if self._lost > self._logged:
            before = lines_lost(self._runtime)
            self._runtime.log.event("log.lines_lost", lines=self._lost - self._logged)
            if lines_lost(self._runtime) <= before:
                self._logged = self._lost

    def finish(self) -> None:
        """Log the last losses, at the end of the daemon."""
        self._count_losses()
        self._log_losses()

    def _look_at_file(self, at: float) -> None:
        runtime, path = self._runtime, self._runtime.deployment.config.log.file
        reason = sinks.why_lost(path, runtime.log.sink.fd)
        if not reason:
            self._moved_at = None
            runtime.faults.pop(LOST_FILE, None)
            return
        if self._moved_at is None:
            self._moved_at = at
        if at < self._moved_at + MOVED_S:
            return
        if path:
            text = f"no line reaches the log file {path}: {reason}; SIGUSR1 opens it anew"
        else:
            text = f"no line reaches the file of standard error: {reason}; restart unpd"
        if LOST_FILE not in runtime.faults:
            runtime.log.event("log.file_lost", file=path, reason=reason)
        runtime.faults[LOST_FILE] = text
