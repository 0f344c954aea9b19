"""The terms of a service: everything its connections in one worker have in common.

Owned by the worker, which makes them once, before it accepts. Read by listeners and
sessions. Calls nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unpd.config.times import ServiceTimes
from unpd.line_limit import LineLimit
from unpd.services.base import StreamService
from unpd.worker.admission import Admission

if TYPE_CHECKING:
    from unpd.worker.redirect.targets import Targets


@dataclass(slots=True)
class Totals:
    """Bytes of one service since the ledger last booked them on the board: writing a
    word of the board costs three times as much as adding to an attribute.
    """

    received: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """How the connections of one service are served, over TCP or over UNIX sockets.

    ``words``: where the service's counters start in the worker's row. ``over_tcp``:
    whether its connections may have a path that TCP measures. ``relays``:
    whether bulk data may be relayed within the kernel. ``offered``: the times of the
    services to which its sessions may be handed over; they hold from then on.
    ``failures``: the limit of the lines about connections that failed. ``banner``: what
    each client is sent first. ``has_proxies``: whether load balancers may tell who the
    client is, so that the user of a UNIX connection is not always that of the client.
    ``admission``: who may come in; None where that is decided elsewhere: by the
    dispatcher of a session process. ``targets``: those of a redirect, which has no
    other service; else None.
    """

    name: str
    service: StreamService
    times: ServiceTimes
    words: int
    over_tcp: bool = True
    relays: bool = True
    totals: Totals = field(default_factory=Totals)
    offered: Mapping[str, ServiceTimes] = field(default_factory=dict)
    failures: LineLimit = field(default_factory=LineLimit)
    banner: bytes = b""
    has_proxies: bool = False
    admission: Admission | None = None
    targets: "Targets | None" = None

    def user_fd(self, fd: int) -> int:
        """The descriptor that tells the user of a UNIX client, -1 for none."""
        return -1 if self.has_proxies else fd
