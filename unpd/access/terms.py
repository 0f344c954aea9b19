"""The terms of one service: who may use it, and how much of it.

Made once for each service by the configuration; workers, dispatchers and the master
pass the record on by reference. Owns nothing else. Raises nothing.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from unpd.access.network import WIDTHS, Network
from unpd.access.peer import UNIX, Peer, prefix, source_bits
from unpd.access.rate import Rate
from unpd.access.rules import Entry, Rules
from unpd.access.times import AccessTimes
from unpd.names import RefusalReason, Resource


class OnLimit(enum.StrEnum):
    """What a client gets that a limit refuses. The values are those of the key
    ``on_limit``.
    """

    QUEUE = "queue"
    """It stays in the accept queue, where :data:`QUEUED` refuses; any other limit
    closes its connection.
    """
    REFUSE = "refuse"
    """Its connection is closed."""
    BANNER = "banner"
    """It gets ``banner_refused`` before that."""


QUEUED = frozenset((RefusalReason.MAX_CONNECTIONS, RefusalReason.ACCEPT_RATE))
"""The limits that need no peer, so that they can be decided before the accept."""

LIMITS = QUEUED | {
    RefusalReason.MAX_PRESSURE,
    RefusalReason.MAX_LOAD,
    RefusalReason.MAX_PER_SOURCE,
    RefusalReason.ACCEPT_RATE_PER_SOURCE,
}
"""The reasons that pass when others have left, so that ``on_limit`` concerns them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTerms:
    """What a decision about a service reads.

    ``allow``: an empty one refuses no peer. ``access_times``: None if the service is
    always open. ``max_pressure``: the limits that are set, in per cent. ``max_load``,
    ``max_connections``, ``max_per_source``: 0 for no limit; the last two of open
    connections. ``accept_rate``: of all sources, ``accept_rate_per_source``: of each
    one; None for no limit. A source is the first ``source_prefix_v4`` or
    ``source_prefix_v6`` bits of an address.

    ``on_limit``: REFUSE for datagrams, which no queue keeps. ``observe``: the reasons
    that do not refuse, but are counted as if they did; never DENIED, because that is no
    rule to try out but somebody's order. ``sensor_observes``: a sensor denies nobody,
    and counts whom it would deny. ``never_deny``: the sources that a sensor lets alone.
    ``proxies``: the load balancers, which tell the peer in a header of the PROXY
    protocol; a decision does not read it. ``keys``: the keys that refuse, as the
    configuration has them, for messages; one may be missing.
    """

    deny: Rules = field(default_factory=Rules)
    allow: Rules = field(default_factory=Rules)
    access_times: AccessTimes | None = None
    max_pressure: tuple[tuple[Resource, float], ...] = ()
    max_load: float = 0.0
    max_connections: int = 0
    max_per_source: int = 0
    source_prefix_v4: int = 32
    source_prefix_v6: int = 64
    accept_rate: Rate | None = None
    accept_rate_per_source: Rate | None = None
    on_limit: OnLimit = OnLimit.QUEUE
    banner_refused: bytes = b""
    banner_accepted: bytes = b""
    observe: frozenset[RefusalReason] = frozenset()
    sensor_observes: bool = False
    never_deny: Rules = field(default_factory=Rules)
    proxies: Rules = field(default_factory=Rules)
    keys: Mapping[RefusalReason, Entry] = field(default_factory=dict)

    decided: tuple[RefusalReason, ...] = field(init=False, repr=False, compare=False)
    """The reasons that can refuse, in the order of the decision."""
    queued: tuple[RefusalReason, ...] = field(init=False, repr=False, compare=False)
    """The reasons that keep clients in the accept queue instead. A limit that is only
    observed lets them out.
    """

    def __post_init__(self) -> None:
        """Choose the reasons, once: a decision must not cost what nobody asked for."""
        queues = QUEUED - self.observe if self.on_limit is OnLimit.QUEUE else frozenset()
        chosen = [reason for reason in RefusalReason if self._is_set(reason)]
        object.__setattr__(self, "decided", tuple(r for r in chosen if r not in queues))
        object.__setattr__(self, "queued", tuple(r for r in chosen if r in queues))

    def _is_set(self, reason: RefusalReason) -> bool:
        """Whether the terms can refuse for a reason, which has the name of its field. A
        denial needs no term; and a service that was halted is asked before its terms.
        """
        return reason is RefusalReason.DENIED or bool(getattr(self, reason, False))

    @property
    def limits_peers(self) -> bool:
        """Whether anything but a live denial can refuse a peer that was accepted."""
        return self.decided != (RefusalReason.DENIED,)

    def sensed(self, peer: Peer) -> Network | None:
        """The network that a sensor with these terms denies because of a peer: its
        source, or the address alone if the source has others that no sensor denies.
        None for a peer that no sensor denies, and for one without an address.
        """
        if peer.family == UNIX or self.never_deny.find(peer):
            return None
        bits = source_bits(peer, self.source_prefix_v4, self.source_prefix_v6)
        network = Network.around(peer.family, peer.number, bits)
        if self.never_deny.overlaps(network):
            return Network.around(peer.family, peer.number, WIDTHS[peer.family])
        return network

    def source_of(self, peer: Peer) -> bytes:
        """The source under which a peer is counted."""
        return prefix(peer, self.source_prefix_v4, self.source_prefix_v6)
