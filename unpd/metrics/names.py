"""What the numbers on the scoreboard belong to. The master makes one :class:`Names`
before it forks an exporter; the exporter is born anew at each reload.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listener:
    """One listener: its service, its address as configured (``tcp://[::]:7``), its
    column in the queue samples. Only TCP has a queue to sample (TCP_INFO).
    """

    service: str
    address: str
    column: int
    is_tcp: bool


@dataclass(frozen=True, slots=True)
class Names:
    """The label values of every series, each with its column.

    ``services`` and ``pools`` hold every name that ever had a column in this life of
    the master, so that no counter disappears at a reload. ``service_pools`` holds the
    services configured now, in the order of the configuration, each with its pool: what
    readiness is asked for.
    """

    services: tuple[tuple[str, int], ...]
    pools: tuple[tuple[str, int], ...]
    listeners: tuple[Listener, ...]
    service_pools: Mapping[str, str]
    version: str
    master_pid: int
