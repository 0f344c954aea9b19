"""TCP_INFO: the accept queue of a listener, how long a peer has been silent, and how
good the path to it is.

Owns nothing but the buffer of :class:`PeerPaths`: each socket belongs to the caller,
which is the master, a worker or a client. Calls nothing of unpd. Raises OSError where a
function does not say otherwise.
"""

import ctypes
import socket
import struct
from dataclasses import dataclass

# Offsets in struct tcp_info (linux/tcp.h): eight bytes, then 32-bit words.
_TCP_INFO_BYTES = 148
_RETRANSMITS = 2
_PROBES = 3
# tcpi_unacked of a listener is the length of its accept queue; the next word,
# tcpi_sacked, is the limit of that queue.
_UNACKED = 24
_QUEUE = struct.Struct("=II")
_LAST_DATA_SENT = 44
_LAST_ACK_RECV = 56
_RTT = 68
_TOTAL_RETRANSMITS = 100
_NOT_SENT = 144
_PATH_BYTES = _TOTAL_RETRANSMITS + 4
_PATH = struct.Struct(f"={_RTT}xI{_TOTAL_RETRANSMITS - _RTT - 4}xI")
_TCP, _TCP_INFO = int(socket.IPPROTO_TCP), int(socket.TCP_INFO)

# Both are made here: each session process would make them anew.
_PathBuffer = ctypes.c_char * _PATH_BYTES
_getsockopt = ctypes.PyDLL(None).getsockopt


def accept_queue(sock: socket.socket) -> tuple[int, int] | None:
    """The length and the limit of a TCP listener's accept queue, in connections, from
    TCP_INFO; None for UNIX listeners and datagram sockets, which show none.
    """
    is_tcp = sock.family != socket.AF_UNIX and sock.type == socket.SOCK_STREAM
    return tcp_accept_queue(sock) if is_tcp else None


def tcp_accept_queue(sock: socket.socket) -> tuple[int, int]:
    """:func:`accept_queue` of a TCP listener.

    It does not ask for the family: Python makes an enumeration's member of that, which
    takes longer than all the rest.
    """
    length, limit = _QUEUE.unpack_from(
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED + _QUEUE.size), _UNACKED
    )
    return length, limit


@dataclass(frozen=True, slots=True)
class Silence:
    """How long a peer has been silent, as our kernel knows it.

    ``sent_s``: seconds since our kernel last sent data. Retransmissions count as data,
    probes of a closed window do not. ``acknowledged_s``: seconds since the peer's
    kernel last acknowledged data or a probe. ``in_flight``: data waits for its
    acknowledgement, or was retransmitted in vain until the kernel gave up. ``queued``:
    data in our kernel waits for room in the peer's window. ``probes``: how many probes
    went unanswered, also when the kernel gave up; probes of the window if data is
    queued, else of keepalive.
    """

    sent_s: float
    acknowledged_s: float
    in_flight: bool
    queued: bool
    probes: int


def silence(sock: socket.socket) -> Silence | None:
    """How long the peer of a TCP connection has been silent, from TCP_INFO; None for a
    UNIX socket. OSError on a socket that never was connected.
    """
    if sock.family == socket.AF_UNIX:
        return None
    tcp_info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    sent_ms, acknowledged_ms, unacknowledged, not_sent = (
        struct.unpack_from("=I", tcp_info, offset)[0]
        for offset in (_LAST_DATA_SENT, _LAST_ACK_RECV, _UNACKED, _NOT_SENT)
    )
    return Silence(
        sent_ms / 1000,
        acknowledged_ms / 1000,
        bool(unacknowledged or tcp_info[_RETRANSMITS]),
        bool(not_sent),
        tcp_info[_PROBES],
    )


@dataclass(frozen=True, slots=True)
class PathQuality:
    """How good the path to a peer is. ``rtt_s``: the smoothed round-trip time, in
    seconds. ``retransmits``: how many segments our kernel has sent again.
    """

    rtt_s: float
    retransmits: int


class PeerPaths:
    """Asks for the paths to the peers of bare descriptors, with one buffer: a question
    costs 1.4 us. A socket object would cost 7 us, because Python asks for its family,
    its type and its protocol.
    """

    def __init__(self) -> None:
        self._buffer = _PathBuffer()
        self._length = ctypes.c_uint(_PATH_BYTES)
        self._pointer = ctypes.byref(self._length)

    def ask(self, fd: int) -> PathQuality | None:
        """The path to the peer; None of any other socket than TCP's, and where the
        kernel has not measured a round trip, or is too old to tell.
        """
        self._length.value = _PATH_BYTES
        if _getsockopt(fd, _TCP, _TCP_INFO, self._buffer, self._pointer) != 0:
            return None
        if self._length.value < _PATH_BYTES:
            return None
        rtt_us, again = _PATH.unpack_from(self._buffer)
        return PathQuality(rtt_us / 1e6, again) if rtt_us else None


def retransmits(sock: socket.socket) -> int | None:
    """How many segments the kernel has retransmitted on a TCP connection; None for any
    other socket, and where the kernel does not tell.
    """
    path = PeerPaths().ask(sock.fileno())
    return path.retransmits if path else None
