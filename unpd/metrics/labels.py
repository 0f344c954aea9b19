"""The label values of the metrics: which names the columns of the scoreboard belong to.

The master makes one :class:`Labels` before it forks an exporter. A reload replaces the
exporter, so the labels of one exporter never change. Read by the catalogue and by the
readiness check. Calls and raises nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from unpd.names import ChildKind


@dataclass(frozen=True, slots=True)
class ListenerLabels:
    """One listener. ``address``: as configured (``tcp://[::]:7``). ``column``: its
    place in the samples of the accept queues. ``is_tcp``: only TCP listeners have such
    samples (TCP_INFO).
    """

    service: str
    address: str
    column: int
    is_tcp: bool


@dataclass(frozen=True, slots=True)
class TargetLabels:
    """One target of a redirect, as configured (``tcp://192.0.2.1:80``)."""

    service: str
    target: str
    column: int


@dataclass(frozen=True, slots=True)
class Server:
    """The children that serve a service: those of a kind in a pool, or only the one in
    the slot ``index`` there.
    """

    kind: ChildKind
    pool: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """The label values of every series, each with its column.

    ``services``, ``pools`` and ``targets`` hold every name that a configuration in use
    ever had in this life of the master, so that no counter disappears at a reload.
    ``served_by`` has the children that serve each service that is configured now, in
    the order of the configuration; /readyz asks about these. ``config``: the path of
    the configuration file, None for the built-in default.

    A value here that a reload can change is part of the exporter's recipe
    (:mod:`unpd.master.children.kinds`), so that the exporter is replaced with it.
    """

    services: tuple[tuple[str, int], ...]
    pools: tuple[tuple[str, int], ...]
    listeners: tuple[ListenerLabels, ...]
    targets: tuple[TargetLabels, ...]
    served_by: Mapping[str, frozenset[Server]]
    version: str
    master_pid: int
    config: str | None = None
