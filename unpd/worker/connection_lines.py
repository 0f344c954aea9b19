"""The log lines about single connections: their starts and their ends.

Called by sessions and by the dispatcher, which ask :attr:`Log.writes_connections`
first. The peer of a line is the address that accept(2) returned, so it is known however
the connection ended; of a UNIX connection it is the user, as in the lines about
refusals. Calls :mod:`unpd.kernel.connections` and :mod:`unpd.kernel.credentials`, and
raises nothing.

Known gaps: of the connections that a worker took with it when it died, the log has one
line for each service (``connections.lost``). A UNIX connection that never got a
process, or whose process has died, has no user in its lines.
"""

import errno
from dataclasses import dataclass

from unpd.access.peer import UNIX, Peer
from unpd.kernel.connections import address_text, borrowed
from unpd.kernel.credentials import peer_credentials
from unpd.logs import Log
from unpd.names import EndCause

_BY_ERROR = (EndCause.ERROR, EndCause.TARGET_LOST)
"""The causes that do not tell which error of a socket it was."""
UNKNOWN = -1
"""In place of a descriptor that is closed, or does not tell the user of the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedConnection:
    """A connection that has ended, with its bytes. ``fd``: UNKNOWN if it is closed.
    ``target``: that of a redirect. ``error``: the errno of a socket that failed, 0 if
    none did.
    """

    service: str
    peer: bytes
    fd: int
    cause: EndCause
    duration_s: float
    received: int = 0
    sent: int = 0
    target: str = ""
    error: int = 0


def log_start(log: Log, service: str, peer: bytes, fd: int) -> None:
    """Log that a connection of ``service`` begins. ``peer``: a sockaddr. ``fd``: its
    descriptor, or UNKNOWN.
    """
    log.event("connection.started", service=service, peer=_shown(peer, fd))


def log_end(log: Log, ended: EndedConnection) -> None:
    """Log that a connection has ended."""
    more = {"target": ended.target} if ended.target else {}
    if ended.error and ended.cause in _BY_ERROR:
        more["error"] = errno.errorcode.get(ended.error, str(ended.error))
    log.event(
        "connection.ended",
        service=ended.service,
        cause=ended.cause,
        received=ended.received,
        sent=ended.sent,
        duration_s=round(ended.duration_s, 6),
        peer=_shown(ended.peer, ended.fd),
        **more,
    )


def _shown(sockaddr: bytes, fd: int) -> str:
    """The address and the port of a client, or the user of a UNIX one."""
    text = address_text(sockaddr)
    if fd < 0 or text != "unix":
        return text
    try:
        with borrowed(fd) as sock:
            return Peer(UNIX, uid=peer_credentials(sock).uid).text
    except OSError:
        return text
