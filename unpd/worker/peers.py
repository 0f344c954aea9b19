"""Who is at the other end of a connection that a process has accepted.

Called by :mod:`unpd.worker.admission` and :mod:`unpd.worker.arrivals`. Raises nothing.
"""

from unpd.access.peer import UNIX, Peer, peer_of
from unpd.kernel.connections import borrowed
from unpd.kernel.credentials import peer_credentials, peer_groups


def peer_of_connection(fd: int, sockaddr: bytes) -> Peer:
    """The peer of a connection: of a UNIX one its user, as far as the kernel tells."""
    peer = peer_of(sockaddr)
    if peer.family != UNIX:
        return peer
    try:
        with borrowed(fd) as sock:
            credentials = peer_credentials(sock)
            gids = (credentials.gid, *peer_groups(sock))
    except OSError:
        return peer  # of no known user
    return Peer(UNIX, uid=credentials.uid, gids=gids)
