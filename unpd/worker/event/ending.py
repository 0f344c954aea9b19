"""Why a connection ended, where only the kernel knows: from an error of its socket, and
from the silence of its peer. Also reports the end by a fault.

Owns nothing. Called by sessions and streams. Asks the kernel by
:mod:`unpd.kernel.tcp_info`, and turns its errors into a cause.
"""

import errno
import math
from collections.abc import Callable

from unpd.errors import error_text
from unpd.kernel import connections as kernel
from unpd.kernel.tcp_info import Silence, silence
from unpd.logs import Log, trace_of
from unpd.names import EndCause
from unpd.worker.terms import Terms

GONE_SHARE = 0.75
"""A peer has vanished if its kernel acknowledged nothing for this share of the user
timeout. A peer that lives and does not read acknowledges the probes of its closed
window; these come in doubling intervals, so the last one may be half of the time ago.
"""

QUIET_SHARE = 0.9
"""A stalled peer counts as silent if, for this share of the user timeout, our kernel
has sent it nothing or it has acknowledged nothing.
"""
_RESET = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ESHUTDOWN))
_UNREACHABLE = frozenset(
    (
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.ECONNREFUSED,  # a firewall's "port unreachable"; a reset is ECONNRESET
        errno.EACCES,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    )
)
"""The errors that ICMP stores for an open connection (icmp_err_convert in
net/ipv4/icmp.c, icmpv6_err_convert in net/ipv6/icmp.c), and those of our own network.
"""


def cause_of(
    error: OSError, silence_of_peer: Callable[[], Silence], user_timeout_s: float
) -> EndCause:
    """Return why a socket failed with ``error``. ``silence_of_peer`` is called if the
    error alone does not tell.
    """
    if error.errno in _RESET:
        return EndCause.CLIENT_RST
    if error.errno == errno.ETIMEDOUT:
        return why_silent(silence_of_peer(), user_timeout_s)
    # When TCP gives up, an ICMP error that came meanwhile takes the place of ETIMEDOUT
    # (tcp_write_err()).
    return EndCause.UNREACHABLE if error.errno in _UNREACHABLE else EndCause.ERROR


def report_failure(error: BaseException, terms: Terms, log: Log, now: float) -> None:
    """Log that the service or the engine raised ``error``, once a second at most for
    each service: any of its clients may cause it.
    """
    suppressed = terms.failures.take(now)
    if suppressed is not None:
        log.event(
            "connection.failed",
            service=terms.name,
            error=error_text(error),
            suppressed=suppressed,
            trace=trace_of(error),
        )


def silence_of(fd: int) -> Silence:
    """Return what the kernel knows about a peer's silence. A UNIX peer is always there,
    and the kernel does not tell what it reads.
    """
    try:
        with kernel.borrowed(fd) as sock:
            return silence(sock) or Silence(math.inf, 0.0, in_flight=False, queued=False, probes=0)
    except OSError:
        return Silence(math.inf, math.inf, in_flight=True, queued=False, probes=0)


def why_silent(known: Silence, user_timeout_s: float) -> EndCause:
    """Tell a peer that is gone (PEER_VANISHED, or KEEPALIVE if only its probes found
    that) from one that lives and does not read (STALLED).

    A living peer may leave one probe of its closed window unanswered: Linux does not
    answer two such segments within half a second (tcp_invalid_ratelimit), and the
    second one comes 0.4 s after the first. It answers every probe of keepalive.
    """
    owed = known.in_flight or known.probes > int(known.queued)
    if not owed or known.acknowledged_s < GONE_SHARE * user_timeout_s:
        return EndCause.STALLED
    probed = not known.in_flight and not known.queued
    return EndCause.KEEPALIVE if probed else EndCause.PEER_VANISHED
