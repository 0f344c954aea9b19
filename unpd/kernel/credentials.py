"""The credentials of the process at the other end of a UNIX stream socket: SO_PEERCRED
(unix(7)). The kernel took them at connect(2), or at listen(2) for the listening end.

Owns nothing. Called by both ends of the control socket, and for access rules. OSError
if the socket is none of the family AF_UNIX.
"""

import ctypes
import os
import socket
import struct
from dataclasses import dataclass

_UCRED = struct.Struct("iII")
_libc = ctypes.CDLL(None, use_errno=True)
_SO_PEERGROUPS = 59
"""asm-generic/socket.h; the module socket lacks it in Python 3.11."""
_GID_BYTES = 4
_MOST_GROUPS = 65_536
"""NGROUPS_MAX of Linux (credentials(7))."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """``pid`` is 0 if that process lives in another pid namespace. ``groups``: the
    supplementary ones, where they were asked for.
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def peer_credentials(sock: socket.socket) -> Credentials:
    """Return the credentials of the peer of a connected UNIX socket. OSError if there
    is no peer.
    """
    return Credentials(
        *_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    )


def peer_groups(sock: socket.socket) -> tuple[int, ...]:
    """Return the supplementary groups of the peer of a connected UNIX socket
    (SO_PEERGROUPS in unix(7), Linux 4.13). OSError.
    """
    # The module socket has no buffer for more than 256 groups.
    size = ctypes.c_uint(_MOST_GROUPS * _GID_BYTES)
    groups = (ctypes.c_uint32 * _MOST_GROUPS)()
    if _libc.getsockopt(
        sock.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, groups, ctypes.byref(size)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return tuple(groups[: size.value // _GID_BYTES])
