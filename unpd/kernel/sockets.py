"""Listening sockets: opening them, tuning them, reading their queues.

Options that a connection needs (TCP_NODELAY, keepalive, TCP_USER_TIMEOUT) are set on
the listener: Linux copies them to every accepted socket (tcp(7)), which saves the
worker their system calls. (A UNIX connection inherits none.) Functions raise OSError;
who asked turns it into a sentence.
"""

import contextlib
import ctypes
import errno
import os
import select
import socket
import stat
import struct
import sys
from dataclasses import dataclass

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3

# struct tcp_info (linux/tcp.h): eight bytes, then 32-bit words.
_TCP_INFO_BYTES = 148
_UNACKED_AT = 24  # of a listener: its accept queue's length, and behind it (tcpi_sacked) the limit
_QUEUE = struct.Struct("=II")
_RETRANSMITS_AT = 2
_PROBES_AT = 3
_LAST_DATA_SENT_AT = 44
_LAST_ACK_RECV_AT = 56
_NOT_SENT_AT = 144

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = (
    26,
    27,
)  # <asm-generic/socket.h>; missing in Python's socket module
# Classic BPF (linux/filter.h) over a segment from its TCP header on: load the flags
# (byte 13), keep SYN, drop the segment if it is there, else pass it whole.
_DROP_SYN = b"".join(
    struct.pack("=HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x02),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What a listener is given. ``user_timeout_s``: seconds, 0 for the kernel's own
    patience. ``mode``: of a UNIX socket's file.
    """

    backlog: int
    ipv6_only: bool
    keepalive: bool
    user_timeout_s: float
    mode: int


def listen_tcp(host: str, port: int, options: ListenOptions) -> socket.socket:
    """A non-blocking listener on a numeric host. Where the kernel has no IPv6 at all,
    ``::`` becomes 0.0.0.0 (the socket's own name tells).
    """
    try:
        return _listen_tcp(host, port, options)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT and host == "::" and not options.ipv6_only:
            return _listen_tcp(
                "0.0.0.0", port, options
            )  # the same reach as the [::] that was asked for
        raise


def _listen_tcp(host: str, port: int, options: ListenOptions) -> socket.socket:
    family, kind, proto, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, proto)
    try:
        # Without SO_REUSEADDR a restart waits for the TIME_WAIT of connections that the
        # server closed first (UNP 7.5).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(options.ipv6_only))
        sock.bind(where)
        tune(sock, options)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(path: str, options: ListenOptions) -> socket.socket:
    """A non-blocking listener at ``path`` with mode ``options.mode``. A stale socket
    (nobody listens) is replaced; anything else there is EADDRINUSE and left alone.

    Call it under the pid file's lock: between the look at a stale socket and its
    removal nobody else may bind there.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Nobody can connect between bind and chmod: the mask leaves the file to its owner,
    # and there is no queue before listen.
    before = os.umask(0o177)
    try:
        sock.bind(path)
        try:
            os.chmod(path, options.mode)
            tune(sock, options)
        except BaseException:
            os.unlink(path)
            raise
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: str) -> None:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise OSError(errno.EEXIST, "something that is not a socket is there, and it stays", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path) from None
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def tune(sock: socket.socket, options: ListenOptions) -> None:
    """Set everything that may change while the listener lives, but a UNIX socket's
    mode. A second listen(2) changes the backlog and nothing else.
    """
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Urgent data is data (RFC 6093): without this the byte before the urgent
        # pointer never reaches recv(2).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(options.keepalive))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(options.user_timeout_s * 1000)
        )
    sock.listen(options.backlog)


def prepare_again(sock: socket.socket, port: int) -> None:
    """Make a TCP listener that was ended fit for listen(2). OSError if somebody else
    has its ``port`` by now.

    It bears the mark of a shutdown, which every connection would have from it; a
    dissolved association (connect(2), AF_UNSPEC) has none. A port that was asked for is
    bound still (EINVAL; without the privilege for a low port EACCES comes before that);
    one that the kernel had chosen it has taken back.
    """
    host, _, *scope = sock.getsockname()
    unspecified = socket.AF_UNSPEC.to_bytes(2, sys.byteorder) + bytes(14)
    if ctypes.CDLL(None, use_errno=True).connect(sock.fileno(), unspecified, len(unspecified)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        sock.bind((host, port, *scope))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise


def is_listening(sock: socket.socket) -> bool:
    """Whether it is a stream socket that listen(2) was called on, and that nobody has
    ended since, by shutdown(2) or as ``ss --kill`` does it.
    """
    return (
        sock.type == socket.SOCK_STREAM
        and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
        and not _polled(sock) & select.POLLHUP
    )


def is_ipv6_only(sock: socket.socket) -> bool:
    """Whether an IPv6 listener leaves IPv4 to others."""
    return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) != 0


def queue(sock: socket.socket) -> tuple[int, int] | None:
    """(length now, limit) of a TCP listener's accept queue, from TCP_INFO; None for a
    UNIX listener, which has no such thing.
    """
    return None if sock.family == socket.AF_UNIX else tcp_queue(sock)


def tcp_queue(sock: socket.socket) -> tuple[int, int]:
    """:func:`queue` of what is known to be a TCP listener: to ask a socket for its
    family takes longer than the rest, as Python makes an enumeration's member of it.
    """
    length, limit = _QUEUE.unpack_from(
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED_AT + _QUEUE.size), _UNACKED_AT
    )
    return length, limit


def has_queued(sock: socket.socket) -> bool:
    """Whether somebody waits in a listener's accept queue, of whatever family. In none
    that has ended.
    """
    return _polled(sock) & (select.POLLIN | select.POLLHUP) == select.POLLIN


def _polled(sock: socket.socket) -> int:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return sum(mask for _, mask in poll.poll(0))


@dataclass(frozen=True, slots=True)
class Silence:
    """What the kernel knows of a peer from which we want something.

    ``sent_s``, ``acknowledged_s``: seconds since our kernel last sent data, and since
    the peer's last acknowledged anything. Probes of a closed window are acknowledged
    but are no data; what is sent again for want of an acknowledgement is data.
    ``in_flight``: data waits for its acknowledgement, or was sent again in vain when
    the kernel gave up. ``queued``: data in our kernel waits for room in the peer's
    window. ``probes``: how many went unanswered, of that window where something is
    queued, else of keepalive; also when the kernel gave up.
    """

    sent_s: float
    acknowledged_s: float
    in_flight: bool
    queued: bool
    probes: int


def silence(sock: socket.socket) -> Silence | None:
    """The silence on a TCP connection, from TCP_INFO; None for a UNIX socket. OSError
    on a socket that never was connected.
    """
    if sock.family == socket.AF_UNIX:
        return None
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    sent_ms, acknowledged_ms, unacknowledged, not_sent = (
        struct.unpack_from("=I", told, at)[0]
        for at in (_LAST_DATA_SENT_AT, _LAST_ACK_RECV_AT, _UNACKED_AT, _NOT_SENT_AT)
    )
    return Silence(
        sent_ms / 1000,
        acknowledged_ms / 1000,
        bool(unacknowledged or told[_RETRANSMITS_AT]),
        bool(not_sent),
        told[_PROBES_AT],
    )


def take_no_more(sock: socket.socket) -> None:
    """Let a TCP listener that is about to be closed, here and in every process that
    shares it, begin no new connection; handshakes under way come to their end.

    Closing a listener resets what is in its queue, and between the last accept(2) and
    the last close(2) there is always time for one more. With SYNs dropped the queue
    runs empty; who comes now tries again after a second, and finds either a refusal or
    the next daemon. Not for a listener that somebody keeps. Some kernels ask
    CAP_NET_ADMIN for the filter. Where it is refused there is the backlog of 0, with
    which a SYN is dropped as long as one connection is queued; but so is the end of a
    handshake under way, whose client believes itself connected and is reset at the
    close. So it is the second choice, and never both.
    """
    if sock.family != socket.AF_UNIX:
        program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
        try:
            sock.setsockopt(
                socket.SOL_SOCKET,
                _SO_ATTACH_FILTER,
                struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program)),
            )
        except OSError:
            sock.listen(0)


def take_again(sock: socket.socket) -> bool:
    """Undo the filter of :func:`take_no_more` if there is one (its last owner died on
    the way); False if it cannot be undone.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except OSError as error:
        return error.errno == errno.ENOENT  # there is none
    return True


def remove_path(sock: socket.socket, inode: int) -> None:
    """Unlink a UNIX listener's file if it is still the one with ``inode`` (another
    daemon's is not ours to take). Where it is gone or cannot be reached, it stays so.
    """
    path = sock.getsockname()
    with contextlib.suppress(OSError):
        if os.lstat(path).st_ino == inode:
            os.unlink(path)


def set_mode(sock: socket.socket, inode: int, mode: int) -> None:
    """Change the mode of a UNIX listener's file, if it is still the one with ``inode``:
    whoever may write to the directory could have put a link there.
    """
    path = sock.getsockname()
    with contextlib.suppress(OSError):
        if os.lstat(path).st_ino == inode:
            os.chmod(path, mode)
