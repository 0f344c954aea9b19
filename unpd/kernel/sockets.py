"""Listening sockets: opens them, sets their options, reads their accept queues, ends
them. Also reads what TCP_INFO knows about a connection's peer.

Options for connections (TCP_NODELAY, keepalive, TCP_USER_TIMEOUT) are set on the
listener: Linux copies them to every accepted socket (tcp(7)), which saves the worker
the system calls. A UNIX connection inherits no options.

Owns nothing: each socket belongs to the caller, which is the master, the control server
or a worker. Calls nothing of unpd. Raises OSError; the caller makes a sentence of it.
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
from collections.abc import Iterator
from dataclasses import dataclass

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3

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
_NOT_SENT = 144

# From <asm-generic/socket.h>: Python's socket module lacks them.
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
# Classic BPF (linux/filter.h) over a segment from its TCP header on: load the flags
# (byte 13), keep SYN, drop the segment if it is set, else pass the whole segment.
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
    """The options of a listener.

    ``backlog``: the limit of its accept queue. ``user_timeout_s``: TCP_USER_TIMEOUT in
    seconds, 0 for the kernel's default. ``mode``: the file mode of a UNIX socket.
    """

    backlog: int
    ipv6_only: bool
    keepalive: bool
    user_timeout_s: float
    mode: int


def listen_tcp(host: str, port: int, options: ListenOptions) -> socket.socket:
    """Open a non-blocking TCP listener on a numeric host.

    On a kernel without IPv6, ``::`` becomes 0.0.0.0; getsockname(2) shows it. OSError.
    """
    try:
        return _listen_tcp(host, port, options)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT and host == "::" and not options.ipv6_only:
            # [::] would have reached no more than this: without IPv6, IPv4 is all.
            return _listen_tcp("0.0.0.0", port, options)
        raise


def _listen_tcp(host: str, port: int, options: ListenOptions) -> socket.socket:
    # As bytes: a str would go through the codec of domain names, which fails on the
    # names of some interfaces.
    family, kind, proto, _, address = socket.getaddrinfo(
        host.encode(),
        port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE,
    )[0]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, proto)
    try:
        # Without SO_REUSEADDR, bind(2) fails after a restart until the connections that
        # the server closed first have left TIME_WAIT (UNP 7.5).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(options.ipv6_only))
        sock.bind(address)
        apply_options(sock, options)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(
    path: str, options: ListenOptions, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket:
    """Open a non-blocking UNIX listener at ``path`` with file mode ``options.mode``.
    ``kind``: SOCK_DGRAM for datagrams, which need no listen(2). Replaces a stale
    socket, on which no process listens. OSError: EADDRINUSE if a process listens there,
    EEXIST for any other file; both are left alone.

    The file has its mode from its first moment: bind(2) gives it that of the socket,
    less the umask. A chmod afterwards would follow a link that another user of the
    directory has put there meanwhile.

    Call it under the pid file's lock: no other daemon may bind between the check of a
    stale socket and its removal.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(sock.fileno(), options.mode)
        old_umask = os.umask(0)
        try:
            sock.bind(path)
        finally:
            os.umask(old_umask)
        inode = socket_inode(path)
        try:
            if kind == socket.SOCK_STREAM:
                apply_options(sock, options)
        except BaseException:
            remove_path(sock, inode)
            raise
    except BaseException:
        sock.close()
        raise
    return sock


def socket_inode(path: str) -> int:
    """Return the inode of the socket file at ``path``; 0 if no socket is there."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    return status.st_ino if stat.S_ISSOCK(status.st_mode) else 0


def may_search(path: str) -> bool:
    """Whether this process could see a file at ``path`` if one were there."""
    try:
        os.lstat(path)
    except PermissionError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _directory_of(path: str) -> Iterator[int]:
    """Open the directory of ``path``. What is done to a name in it stays in it, even if
    another user puts a link in the place of the directory meanwhile. OSError.
    """
    fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _remove_stale(path: str) -> None:
    name = os.path.basename(path)
    with _directory_of(path) as directory:
        try:
            status = os.lstat(name, dir_fd=directory)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(status.st_mode):
            raise OSError(errno.EEXIST, "this is not a socket, and unpd leaves it alone", path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(name, dir_fd=directory)
                return
            except OSError as error:  # a socket of another type is alive, too
                if error.errno not in (errno.EAGAIN, errno.EPROTOTYPE):
                    raise
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def apply_options(sock: socket.socket, options: ListenOptions) -> None:
    """Set all options that may change while the listener is open, and call listen(2).

    On a socket that listens already, listen(2) changes the backlog and nothing else.
    For the mode of a UNIX socket see :func:`set_mode`. OSError.
    """
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Urgent data is ordinary data (RFC 6093): without this option, recv(2) never
        # returns the byte before the urgent pointer.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(options.keepalive))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(options.user_timeout_s * 1000)
        )
    sock.listen(options.backlog)


def bind_again(sock: socket.socket, port: int) -> None:
    """Prepare a TCP listener that was shut down for listen(2). OSError if another
    socket has taken its ``port``.

    The kernel has marked the socket as shut down, and each accepted connection would
    inherit the mark; connect(2) with AF_UNSPEC clears it. A port that bind(2) asked for
    is still bound: then bind(2) fails with EINVAL, or before that with EACCES for a low
    port without the privilege. A port that the kernel chose has been given up.
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
    """Whether this is a stream socket that listens.

    False before listen(2), after shutdown(2), and after ``ss --kill``.
    """
    return (
        sock.type == socket.SOCK_STREAM
        and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
        and not _polled(sock) & select.POLLHUP
    )


def is_ipv6_only(sock: socket.socket) -> bool:
    """Whether an IPv6 listener takes no IPv4 connections (ipv6(7), IPV6_V6ONLY)."""
    return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) != 0


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


def has_queued_connection(sock: socket.socket) -> bool:
    """Whether a connection waits in the accept queue of a TCP or UNIX listener; False
    for a listener that was shut down.
    """
    return _polled(sock) & (select.POLLIN | select.POLLHUP) == select.POLLIN


def _polled(sock: socket.socket) -> int:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return sum(mask for _, mask in poll.poll(0))


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


def stop_new_handshakes(sock: socket.socket) -> None:
    """Drop the SYNs of new connections to a TCP listener that every process is about to
    close; handshakes under way complete. Does nothing to a UNIX listener.

    Closing a listener resets the connections in its queue, and one more can always
    arrive between the last accept(2) and the last close(2). With SYNs dropped, the
    queue runs empty. A new client sends its SYN again after a second, and then gets a
    refusal or meets the next daemon. A listener that stays open must not be treated so:
    see :func:`allow_new_handshakes`.

    Some kernels require CAP_NET_ADMIN for the filter. If it is refused, the backlog
    becomes 0 instead: the kernel then drops SYNs while one connection is queued. It
    also drops the last segment of a handshake under way, whose client believes that it
    is connected and is reset at the close. That makes the backlog the second choice,
    and it is never combined with the filter. OSError if both fail.
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


def allow_new_handshakes(sock: socket.socket) -> bool:
    """Remove the filter of :func:`stop_new_handshakes`, if the listener has it.

    Its last owner may have died before it closed the listener. False if the filter
    cannot be removed.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except OSError as error:
        return error.errno == errno.ENOENT  # the listener has no filter
    return True


def remove_path(sock: socket.socket, inode: int) -> None:
    """Unlink a UNIX listener's file, if its inode is still ``inode``: the file of
    another daemon stays. Ignores a file that is gone or cannot be removed.
    """
    path = sock.getsockname()
    name = os.path.basename(path)
    with contextlib.suppress(OSError), _directory_of(path) as directory:
        if os.lstat(name, dir_fd=directory).st_ino == inode:
            os.unlink(name, dir_fd=directory)


def set_mode(sock: socket.socket, inode: int, mode: int) -> None:
    """Change the mode of a UNIX listener's file, if it is still our socket of that
    inode. A user who may write to the directory could put a link or another file there
    at any moment, so the file is opened first, then compared. Nothing happens to a file
    that is gone or not ours. OSError if the mode of ours cannot be changed.
    """
    try:
        fd = os.open(sock.getsockname(), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        found = os.fstat(fd)
        ours = found.st_ino == inode and found.st_uid == os.geteuid()
        is_other = stat.S_IMODE(found.st_mode) != mode
        if ours and stat.S_ISSOCK(found.st_mode) and is_other:
            # fchmod(2) refuses a descriptor of O_PATH (open(2)).
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
