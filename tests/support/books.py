"""A service's books as its metrics show them: what was accepted, what is open, why the
rest ended, how many bytes went each way.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.daemon import Unpd
from tests.support.observed import total
from tests.support.waiting import until

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Books:
    """One service in one scrape. ``ended``: connections by cause, without the causes
    that did not occur.
    """

    accepted: int
    active: int
    ended: Mapping[str, int]
    received: int
    sent: int


def books(unpd: Unpd, service: str = "echo") -> Books:
    """The books now. AssertionError if they do not balance: accepted = ended +
    active.
    """
    samples = unpd.metrics()
    causes = {
        dict(labels)["cause"]: int(value)
        for (name, labels), value in samples.items()
        if name == ENDED and ("service", service) in labels and value
    }
    counts = {name: int(total(samples, f"unpd_{name}", service=service)) for name in COUNTS}
    found = Books(
        counts[COUNTS[0]], counts[COUNTS[1]], causes, counts[COUNTS[2]], counts[COUNTS[3]]
    )
    assert found.accepted == found.active + sum(found.ended.values()), (
        f"the books of {service} do not balance: {found}"
    )
    return found


COUNTS = (
    "connections_accepted_total",
    "connections_active",
    "received_bytes_total",
    "sent_bytes_total",
)
ENDED = "unpd_connections_ended_total"


def settled(
    unpd: Unpd, ended: Mapping[str, int], *, service: str = "echo", timeout_s: float = PATIENCE_S
) -> Books:
    """The books once no connection is open; the connections have ended for just the
    causes ``ended``.
    """
    last: list[Books] = []

    def closed() -> bool:
        last[:] = [books(unpd, service)]
        return last[0].active == 0 and last[0].accepted >= sum(ended.values())

    until(closed, timeout_s, lambda: f"no open connection of {service} after {dict(ended)}: {last}")
    assert last[0].ended == ended, f"{service} ended otherwise: {last[0]}"
    return last[0]


def active(
    unpd: Unpd, count: int, *, service: str = "echo", timeout_s: float = PATIENCE_S
) -> Books:
    """The books once ``count`` connections are open."""
    last: list[Books] = []

    def there() -> bool:
        last[:] = [books(unpd, service)]
        return last[0].active == count

    until(there, timeout_s, lambda: f"{count} open connections of {service}: {last}")
    return last[0]
