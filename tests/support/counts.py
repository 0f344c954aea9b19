"""Reads the connection counts of a service from a scrape, and waits for given counts.

Integration and chaos tests use it after each round of clients. Every read checks that
accepted connections equal open plus ended ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.daemon import Unpd
from tests.support.observed import total
from tests.support.waiting import until

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """The counts of one service in one scrape. ``ended`` maps each cause that occurred
    to its number of connections.
    """

    accepted: int
    active: int
    ended: Mapping[str, int]
    received: int
    sent: int


def service_counts(unpd: Unpd, service: str = "echo") -> ServiceCounts:
    """Return the present counts. AssertionError unless accepted = active + ended."""
    samples = unpd.metrics()
    causes = {
        dict(labels)["cause"]: int(value)
        for (name, labels), value in samples.items()
        if name == ENDED and ("service", service) in labels and value
    }
    counts = {name: int(total(samples, f"unpd_{name}", service=service)) for name in COUNTS}
    found = ServiceCounts(
        counts[COUNTS[0]], counts[COUNTS[1]], causes, counts[COUNTS[2]], counts[COUNTS[3]]
    )
    assert found.accepted == found.active + sum(found.ended.values()), (
        f"the counts of {service} do not balance: {found}"
    )
    return found


COUNTS = (
    "connections_accepted_total",
    "connections_active",
    "received_bytes_total",
    "sent_bytes_total",
)
ENDED = "unpd_connections_ended_total"


def wait_ended(
    unpd: Unpd, ended: Mapping[str, int], *, service: str = "echo", timeout_s: float = PATIENCE_S
) -> ServiceCounts:
    """Wait until no connection is open. Return the counts. AssertionError unless the
    connections ended for exactly the causes in ``ended``.
    """
    last: list[ServiceCounts] = []

    def closed() -> bool:
        last[:] = [service_counts(unpd, service)]
        return last[0].active == 0 and last[0].accepted >= sum(ended.values())

    until(closed, timeout_s, lambda: f"no open connection of {service} after {dict(ended)}: {last}")
    assert last[0].ended == ended, f"connections of {service} ended for other causes: {last[0]}"
    return last[0]


def wait_active(
    unpd: Unpd, count: int, *, service: str = "echo", timeout_s: float = PATIENCE_S
) -> ServiceCounts:
    """Wait until ``count`` connections are open. Return the counts."""
    last: list[ServiceCounts] = []

    def there() -> bool:
        last[:] = [service_counts(unpd, service)]
        return last[0].active == count

    until(there, timeout_s, lambda: f"{count} open connections of {service}: {last}")
    return last[0]
