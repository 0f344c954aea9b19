"""Why a connection ended, where only the kernel knows: an error of its socket, and a
peer that has gone silent.
"""

import errno
import math
import socket

from unpd.kernel import connections as kernel
from unpd.kernel.sockets import Silence, silence
from unpd.names import EndCause

GONE_SHARE = 0.75
"""A peer whose kernel acknowledged nothing for this part of the user timeout has
vanished. One that lives and does not read acknowledges the probes of its closed window;
as they come in doubling intervals, the last one may be half of the time ago.
"""

_RESET = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ESHUTDOWN))
_UNREACHABLE = frozenset((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN))


def cause_of(error: OSError, fd: int, user_timeout_s: float) -> EndCause:
    """Why the socket ``fd`` failed with ``error``."""
    if error.errno in _RESET:
        return EndCause.CLIENT_RST
    if error.errno == errno.ETIMEDOUT:
        return why_silent(silence_of(fd), user_timeout_s)
    return EndCause.PEER_VANISHED if error.errno in _UNREACHABLE else EndCause.ERROR


def silence_of(fd: int) -> Silence:
    """What the kernel knows of a peer's silence. A UNIX peer is always there, and of
    what it reads nothing is known.
    """
    try:
        with kernel.borrowed(fd) as sock:
            return silence(sock) or Silence(math.inf, 0.0, in_flight=False, queued=False, probes=0)
    except OSError:
        return Silence(math.inf, math.inf, in_flight=True, queued=False, probes=0)


def why_silent(known: Silence, user_timeout_s: float) -> EndCause:
    """Tell a peer that is gone from one that lives and does not read.

    The latter may leave one probe of its closed window unanswered: Linux answers no two
    such segments within half a second (tcp_invalid_ratelimit), and the second one comes
    0.4 s after the first. Every probe of keepalive is answered.
    """
    owed = known.in_flight or known.probes > int(known.queued)
    gone = owed and known.acknowledged_s >= GONE_SHARE * user_timeout_s
    return EndCause.PEER_VANISHED if gone else EndCause.STALLED


def peer_name(sock: socket.socket) -> str:
    """The peer for the log, a v4-mapped address as v4; "unknown" once the connection is
    reset (getpeername(2): ENOTCONN), "unix" for a UNIX socket.
    """
    if sock.family == socket.AF_UNIX:
        return "unix"
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return "unknown"
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
