"""Listening sockets: opens them, sets their options, and keeps the files of UNIX ones.

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
_ACL = "system.posix_acl_access"


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
    tune(sock, options)
    sock.listen(options.backlog)


def tune(sock: socket.socket, options: ListenOptions) -> None:
    """Set the socket options alone. OSError."""
    if sock.family != socket.AF_UNIX:
        for (level, option), value in tcp_options(options).items():
            sock.setsockopt(level, option, value)


def tcp_options(options: ListenOptions) -> dict[tuple[int, int], int]:
    """The socket options of a TCP listener, by level and option."""
    return {
        (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
        # Urgent data is ordinary data (RFC 6093): without this option, recv(2) never
        # returns the byte before the urgent pointer.
        (socket.SOL_SOCKET, socket.SO_OOBINLINE): 1,
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE): int(options.keepalive),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): KEEPALIVE_IDLE_S,
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): KEEPALIVE_INTERVAL_S,
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): KEEPALIVE_PROBES,
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): round(options.user_timeout_s * 1000),
    }


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


def has_queued_connection(sock: socket.socket) -> bool:
    """Whether a connection waits in the accept queue of a TCP or UNIX listener; False
    for a listener that was shut down.
    """
    return _polled(sock) & (select.POLLIN | select.POLLHUP) == select.POLLIN


def _polled(sock: socket.socket) -> int:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return sum(mask for _, mask in poll.poll(0))


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
    with _own_file(sock, inode) as (path, found):
        if path and stat.S_IMODE(found) != mode:
            os.chmod(path, mode)


@contextlib.contextmanager
def _own_file(sock: socket.socket, inode: int) -> Iterator[tuple[str, int]]:
    """Open the file of a UNIX listener. Yield a path by which system calls reach just
    that file, and its mode; "" if it is gone or not ours.
    """
    try:
        fd = os.open(sock.getsockname(), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield "", 0
        return
    try:
        found = os.fstat(fd)
        ours = found.st_ino == inode and found.st_uid == os.geteuid()
        # fchmod(2) and fsetxattr(2) refuse a descriptor of O_PATH (open(2)).
        path = f"/proc/self/fd/{fd}" if ours and stat.S_ISSOCK(found.st_mode) else ""
        yield path, found.st_mode
    finally:
        os.close(fd)


def admit_group(sock: socket.socket, inode: int, gid: int | None) -> None:
    """Let the members of one more group connect to a UNIX listener, besides its owner
    and the group of its file, and give the file mode 0660; None: no other group. What
    is not our file is left alone, as in :func:`set_mode`. OSError: ENOTSUP on a file
    system without access control lists (acl(5)).

    A list, because a file has one group, and a process without root may give it to none
    but its own.
    """
    with _own_file(sock, inode) as (path, _):
        if not path:
            return
        if gid is not None:
            os.setxattr(path, _ACL, _list_for(gid))
            return
        try:
            os.removexattr(path, _ACL)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise


def _list_for(gid: int) -> bytes:
    """An access control list: that of mode 0660, and one group that may read and write
    (linux/posix_acl_xattr.h).
    """
    read_write, nobody = 6, 0xFFFFFFFF
    entries = (
        (0x01, read_write, nobody),  # the owner
        (0x04, read_write, nobody),  # the group of the file
        (0x08, read_write, gid),
        (0x10, read_write, nobody),  # the mask: the most that a group may get
        (0x20, 0, nobody),  # all others
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
