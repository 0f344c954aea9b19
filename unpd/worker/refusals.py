"""The log lines about refusals: few, whatever floods, and true in their sums.

The first refusal of a source gives a line at once. Those that follow are summed up into
one line a second. A source is a host, or a /64 of IPv6, that a service refuses for one
reason. A line stands for as many refusals as its field ``repeated`` says, so the sum of
that field is the number of refusals.

The memory is bounded, and so are the lines: the table holds MAX_SOURCES sources, and
the refusals of all others are summed up into one line for each service and second. A
source that was not refused since the last sum is forgotten. So a process writes at most
MAX_SOURCES lines and two for each service within PERIOD_S.

Owns the table of one process. A worker and a dispatcher call it, with the time: at each
refusal, at ``next_at``, and before they exit. Nothing else wakes it, so a process whose
clients have all gone has to come back at ``next_at``. A refusal without a line costs
0.3 us: the text of an address, which costs up to 12 us, is made for lines alone. Writes
to the log, and raises nothing.
"""

import math
from dataclasses import dataclass

from unpd.access.decide import Verdict
from unpd.access.peer import Peer, prefix
from unpd.log_events.row import Field
from unpd.logs import Log

MAX_SOURCES = 32
V4_BITS, V6_BITS = 32, 64
"""The peers that share so many bits are one source here: a client has a whole /64, and
could have a line for each of its addresses.
"""
PERIOD_S = 1.0
"""How often refusals are summed up."""
OTHERS = "others"
"""The peer of a line about sources for which the table has no room."""
SEVERAL = "several"
"""The reason of such a line where they were refused for more than one."""


@dataclass(slots=True)
class _Sum:
    """Refusals that one line will stand for. ``peer``: None for all those for which the
    table has no room. ``verdict``: on the last one; None for all those.
    ``repeated``: how many no line stands for yet.
    """

    service: str
    peer: Peer | None
    reason: str
    verdict: Verdict | None
    observed: bool
    repeated: int = 0


class RefusalLines:
    """The lines of one process. ``next_at``: when to call :meth:`flush` next; inf while
    the table is empty.
    """

    def __init__(self, log: Log) -> None:
        self.next_at = math.inf
        self._log = log
        self._sources: dict[tuple[object, ...], _Sum] = {}
        self._others: dict[tuple[str, bool], _Sum] = {}

    def refused(self, service: str, peer: Peer, verdict: Verdict, now: float) -> None:
        """Take a connection or a datagram that was refused at the time ``now``
        (monotonic seconds).
        """
        self._take(service, peer, verdict, observed=False)
        self._come_back(now)

    def would_refuse(self, service: str, peer: Peer, verdict: Verdict, now: float) -> None:
        """Take one that was let in, because the reason to refuse it is only
        observed.
        """
        self._take(service, peer, verdict, observed=True)
        self._come_back(now)

    def _come_back(self, now: float) -> None:
        if self.next_at == math.inf:
            self.next_at = now + PERIOD_S

    def _take(self, service: str, peer: Peer, verdict: Verdict, *, observed: bool) -> None:
        reason = verdict.reason
        key = (service, prefix(peer, V4_BITS, V6_BITS), reason, observed)
        source = self._sources.get(key)
        if source is not None:
            source.verdict = verdict
            source.repeated += 1
        elif len(self._sources) < MAX_SOURCES:
            source = self._sources[key] = _Sum(service, peer, reason, verdict, observed)
            self._write(source, 1)
        else:
            others = self._others.get((service, observed))
            if others is None:
                others = _Sum(service, None, reason, None, observed)
                self._others[service, observed] = others
            elif others.reason != reason:
                others.reason = SEVERAL
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
            self._write(summed, summed.repeated)
            summed.repeated = 0
        self._others.clear()

    def _write(self, summed: _Sum, repeated: int) -> None:
        peer = OTHERS if summed.peer is None else summed.peer.text
        if summed.observed:
            self._log.event(
                "connection.would_be_refused",
                service=summed.service,
                peer=peer,
                reason=summed.reason,
                **_grounds(summed.verdict),
                repeated=repeated,
            )
        else:
            self._log.event(
                "connection.refused",
                service=summed.service,
                peer=peer,
                reason=summed.reason,
                **_grounds(summed.verdict),
                repeated=repeated,
            )


def _grounds(verdict: Verdict | None) -> dict[str, Field]:
    """The fields that say what decided, without those that are not known."""
    grounds: dict[str, Field] = {}
    if verdict is None:
        return grounds
    if verdict.value is not None:
        grounds |= {"value": round(verdict.value, 3), "limit": verdict.limit}
    if verdict.rule is not None:
        grounds["rule"] = verdict.rule.text
        if verdict.rule.origin.file:
            grounds |= {"file": verdict.rule.origin.file, "line": verdict.rule.origin.line}
    return grounds
