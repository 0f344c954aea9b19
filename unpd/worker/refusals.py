"""The log lines about refusals: few, whatever floods, and true in their sums.

The first refusal of a source gives a line at once. Those that follow are summed up into
one line a second. A source is a peer that a service refuses for one reason. A line
stands for as many refusals as its field ``repeated`` says, so the sum of that field is
the number of refusals.

The memory is bounded, and so are the lines: the table holds MAX_SOURCES sources, and
the refusals of all others are summed up into one line for each service and second. A
source that was not refused since the last sum is forgotten. So a process writes at most
MAX_SOURCES lines and two for each service within PERIOD_S.

Owns the table of one process. A worker and a dispatcher call it, with the time: at each
refusal, at ``next_at``, and before they exit. Nothing else wakes it, so a process whose
clients have all gone has to come back at ``next_at``. Writes to the log, and raises
nothing.
"""

import math
from dataclasses import dataclass
from typing import Literal

from unpd.log_events.row import Field
from unpd.logs import Log
from unpd.names import RefusalReason

MAX_SOURCES = 256
PERIOD_S = 1.0
"""How often refusals are summed up."""
OTHERS = "others"
"""The peer of a line about sources for which the table has no room."""
SEVERAL: Literal["several"] = "several"
"""The reason of such a line where they were refused for more than one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection or a datagram that was refused; or only would have been, if
    ``observed``.

    ``peer``: the address without the port. ``value`` was compared with ``limit``; None
    where nothing was. ``rule``: the entry that decided, "" if none did, with the
    ``file`` ("": unknown) and the ``line`` where it stands.
    """

    service: str
    peer: str
    reason: RefusalReason | Literal["several"]
    value: float | str | None = None
    limit: float | str | None = None
    rule: str = ""
    file: str = ""
    line: int = 0
    observed: bool = False


@dataclass(slots=True)
class _Sum:
    """Refusals that one line will stand for: the last of them, and how many no line
    stands for yet.
    """

    last: Refusal
    repeated: int = 0


class RefusalLines:
    """The lines of one process. ``next_at``: when to call :meth:`flush` next; inf while
    the table is empty.
    """

    def __init__(self, log: Log) -> None:
        self.next_at = math.inf
        self._log = log
        self._sources: dict[tuple[str, str, str, bool], _Sum] = {}
        self._others: dict[tuple[str, bool], _Sum] = {}

    def take(self, refusal: Refusal, now: float) -> None:
        """Take a refusal at the time ``now`` (monotonic seconds)."""
        key = (refusal.service, refusal.peer, refusal.reason, refusal.observed)
        source = self._sources.get(key)
        if source is not None:
            source.last = refusal
            source.repeated += 1
        elif len(self._sources) < MAX_SOURCES:
            self._sources[key] = _Sum(refusal)
            self._write(refusal, 1)
        else:
            self._take_other(refusal)
        if self.next_at == math.inf:
            self.next_at = now + PERIOD_S

    def _take_other(self, refusal: Refusal) -> None:
        """Take a refusal for which the table has no room."""
        service, reason, observed = refusal.service, refusal.reason, refusal.observed
        others = self._others.get((service, observed))
        if others is None:
            shared = Refusal(service, OTHERS, reason, observed=observed)
            others = self._others[service, observed] = _Sum(shared)
        elif reason != others.last.reason:
            others.last = Refusal(service, OTHERS, SEVERAL, observed=observed)
        others.repeated += 1

    def flush(self, now: float) -> None:
        """Write the sums, if it is time."""
        if now >= self.next_at:
            self.finish()
            self.next_at = now + PERIOD_S if self._sources else math.inf

    def finish(self) -> None:
        """Write the sums now, because the process is about to exit. Forget the sources
        that have none.
        """
        self._sources = {key: source for key, source in self._sources.items() if source.repeated}
        for summed in (*self._sources.values(), *self._others.values()):
            self._write(summed.last, summed.repeated)
            summed.repeated = 0
        self._others.clear()

    def _write(self, refusal: Refusal, repeated: int) -> None:
        """Write a line."""
        if refusal.observed:
            self._log.event(
                "connection.would_be_refused",
                service=refusal.service,
                peer=refusal.peer,
                reason=refusal.reason,
                **_grounds(refusal),
                repeated=repeated,
            )
        else:
            self._log.event(
                "connection.refused",
                service=refusal.service,
                peer=refusal.peer,
                reason=refusal.reason,
                **_grounds(refusal),
                repeated=repeated,
            )


def _grounds(refusal: Refusal) -> dict[str, Field]:
    """What decided, without the fields that the refusal has not."""
    grounds: dict[str, Field] = {}
    if refusal.value is not None:
        grounds |= {"value": refusal.value, "limit": refusal.limit}
    if refusal.rule:
        grounds["rule"] = refusal.rule
    if refusal.file:
        grounds |= {"file": refusal.file, "line": refusal.line}
    return grounds
