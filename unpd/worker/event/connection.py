"""One connection: what the engine knows of it. No behaviour but its own deadlines;
memory counts here, for there may be ten thousand.
"""

import enum
import math
import select
from dataclasses import dataclass, field

from unpd.names import EndCause
from unpd.services.base import Reply, Service

LINGER_S = 2.0
"""How long a connection that we ended waits for the peer's FIN, so that no unread byte
turns our close into a reset.
"""
BULK = 3
"""In place of a number of great reads: the flow is one in bulk."""
QUIET_S = 0.25
"""On a graceful stop, a peer that was silent for this long has said what it had to say.
"""


@dataclass(slots=True)
class Traffic:
    """Bytes, of one connection or of one service. The latter's are booked on the
    scoreboard at the end of each turn: adding to a cell costs three times what this
    does. ``echoed``: received and sent, and counted nowhere else.
    """

    received: int = 0
    sent: int = 0
    echoed: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which the connections of one service are served, over TCP or over
    UNIX sockets. ``cells``: where the service's counters start in this worker's row.
    ``relays``: whether what is echoed in bulk may stay within the kernel. Times in
    seconds, 0 for none.
    """

    name: str
    service: Service
    cells: int
    idle_timeout_s: float
    session_timeout_s: float
    user_timeout_s: float
    relays: bool = True
    traffic: Traffic = field(default_factory=Traffic)


class Stage(enum.IntEnum):
    """The way of a connection through the engine."""

    SERVING = 0
    PARTING = 1
    """We will end it: nothing is read any more, what is pending goes out, then our FIN.
    """
    LINGERING = 2
    """Our FIN is sent: what still comes is read and thrown away until the peer's FIN.
    """
    HALF_CLOSED = 3
    """The peer's FIN has come: what is pending goes out, then it is over."""


class Connection:
    """A client. ``reply`` answers what it says (None: nothing more is answered),
    ``out`` is what the socket did not take yet (None: nothing), ``great_reads`` how
    many of the next reads ask for much (BULK: the next piece is relayed if that can
    be), ``traffic`` its own bytes where its end will be told (None: where nobody asks),
    ``cause`` why we are ending it, ``mask`` what epoll watches.
    """

    __slots__ = (
        "active_at",
        "cause",
        "fd",
        "great_reads",
        "linger_at",
        "mask",
        "opened_at",
        "out",
        "reply",
        "stage",
        "terms",
        "traffic",
        "wheel_slot",
    )

    def __init__(self, fd: int, terms: Terms, now: float, traffic: Traffic | None) -> None:
        self.fd = fd
        self.terms = terms
        self.reply: Reply | None = None
        self.out: bytearray | None = None
        self.great_reads = 1
        self.traffic = traffic
        self.opened_at = now
        self.active_at = now
        self.linger_at = math.inf
        self.stage = Stage.SERVING
        self.cause: EndCause | None = None
        self.mask = select.EPOLLIN
        self.wheel_slot = -1

    def due_at(self, finish_at: float) -> tuple[float, EndCause]:
        """When and why this connection ends if nothing happens until then.
        ``finish_at``: when a graceful stop has no more patience (inf: there is none).
        """
        terms = self.terms
        if self.stage is not Stage.SERVING and self.stage is not Stage.HALF_CLOSED:
            return self.linger_at, self.cause or EndCause.DONE
        at, cause = math.inf, EndCause.IDLE
        if terms.idle_timeout_s:
            at = self.active_at + terms.idle_timeout_s
        if terms.session_timeout_s and self.opened_at + terms.session_timeout_s < at:
            at, cause = self.opened_at + terms.session_timeout_s, EndCause.SESSION_LIMIT
        if self.out and terms.user_timeout_s and self.active_at + terms.user_timeout_s <= at:
            at, cause = self.active_at + terms.user_timeout_s, EndCause.STALLED
        if finish_at < math.inf:
            stop_at = finish_at if self.out else min(finish_at, self.active_at + QUIET_S)
            if stop_at < at:
                at, cause = stop_at, EndCause.SHUTDOWN
        return at, cause
