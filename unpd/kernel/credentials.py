"""The credentials of the process at the other end of a UNIX stream socket: SO_PEERCRED
(unix(7)). The kernel took them at connect(2), or at listen(2) for the listening end.

Owns nothing. Called by both ends of the control socket. OSError if the socket is none
of the family AF_UNIX.
"""

import socket
import struct
from dataclasses import dataclass

_UCRED = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Credentials:
    """``pid`` is 0 if that process lives in another pid namespace."""

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: socket.socket) -> Credentials:
    """Return the credentials of the peer of a connected UNIX socket. OSError if there
    is no peer.
    """
    return Credentials(
        *_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    )
