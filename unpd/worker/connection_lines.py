"""The log lines about single connections: their starts and their ends.

Called by sessions and by the dispatcher, which ask :attr:`Log.writes_connections`
first. The peer of a line is the address that accept(2) returned, so it is known however
the connection ended. Calls :mod:`unpd.kernel.connections`, and raises nothing.

Known gap: nobody logs the ends of the connections that a child took with it when it
died; ``child.reaped`` counts them.
"""

from dataclasses import dataclass

from unpd.kernel.connections import address_text
from unpd.logs import Log
from unpd.names import EndCause


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedConnection:
    """A connection that has ended, with its bytes. ``target``: that of a redirect."""

    service: str
    peer: bytes
    cause: EndCause
    duration_s: float
    received: int = 0
    sent: int = 0
    target: str = ""


def log_start(log: Log, service: str, peer: bytes) -> None:
    """Log that a connection of ``service`` begins. ``peer``: a sockaddr."""
    log.event("connection.started", service=service, peer=address_text(peer))


def log_end(log: Log, ended: EndedConnection) -> None:
    """Log that a connection has ended."""
    more = {"target": ended.target} if ended.target else {}
    log.event(
        "connection.ended",
        service=ended.service,
        cause=ended.cause,
        received=ended.received,
        sent=ended.sent,
        duration_s=round(ended.duration_s, 6),
        peer=address_text(ended.peer),
        **more,
    )
