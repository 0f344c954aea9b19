"""Logs when a fault of the daemon begins, and when it is over, so that the recent
events have both. Most causes have a line of their own; a pool without a ready child has
none.

Owns the faults of the last look. The shell's sweep calls it about once a second. Calls
:func:`unpd.master.status.faults_of`. Raises nothing.
"""

from unpd.core.model import State
from unpd.master.runtime import Runtime
from unpd.master.status import faults_of
from unpd.names import Fault, MasterPhase


class FaultWatch:
    """Compares the faults that stand with those of the last look. A fault is the same
    while it is about the same part, whatever its sentence says.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stood: dict[tuple[Fault, str], str] = {}

    def look(self, state: State) -> None:
        """Log what has changed. A daemon that starts or stops has no faults."""
        if state.phase in (MasterPhase.STARTING, MasterPhase.STOPPING):
            return
        stands = {(found.fault, found.text): found.text for found in faults_of(state)}
        stands |= self._runtime.faults
        log, stood, self._stood = self._runtime.log, self._stood, stands
        for part, text in stood.items():
            if part not in stands:
                log.event("daemon.recovered", reason=str(part[0]), text=text)
        for part, text in stands.items():
            if part not in stood:
                log.event("daemon.degraded", reason=str(part[0]), text=text)
