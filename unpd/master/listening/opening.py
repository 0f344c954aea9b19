"""Opens a listener of our own, and turns what the system says against it into a
sentence.

Called by the other modules of this package; calls :mod:`unpd.kernel.sockets` and
:mod:`unpd.kernel.interfaces`. Errors: :data:`REFUSALS`, which a caller passes to
:func:`reason_of` or :func:`refusal`.
"""

import errno
import os
import shlex
import socket
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from unpd.config.addresses import (
    BoundAddress,
    FileAddress,
    InternetAddress,
    TcpAddress,
    UdpAddress,
    UnixAddress,
    UnixgramAddress,
    takes_datagrams,
)
from unpd.errors import AddressError, PrivilegeError, UnpdError
from unpd.kernel import datagrams, interfaces, socket_options, sockets
from unpd.kernel.socket_options import SocketState
from unpd.master.listening.listener import OpenListener, WantedListener

REFUSALS = (OSError, ValueError, OverflowError)
"""What an address or an option that no system call takes can raise: getaddrinfo(3) in
Python raises UnicodeError, a ValueError, for some hosts.
"""

_REASONS: Mapping[int, str] = MappingProxyType(
    {
        errno.EADDRNOTAVAIL: "this host has no such address",
        errno.EAFNOSUPPORT: "this kernel does not know the address family",
        errno.ENODEV: "this host has no such interface",
        errno.ENOENT: "the directory does not exist",
        errno.ENOTDIR: "the directory does not exist",
        errno.EEXIST: "something that is not a socket is there; move it away first",
    }
)
"""The reasons why a listener cannot be opened, as the end of a sentence."""
_BOUND = ((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),)
"""The options that bind(2) settles."""


def open_new(wanted: WantedListener) -> OpenListener:
    """Open a listener of our own. One of REFUSALS if the system refuses it."""
    match wanted.address:
        case UnixAddress() | UnixgramAddress() as address:
            return _open_unix(wanted, address)
        case TcpAddress(host=host, port=port):
            sock = sockets.listen_tcp(host, port, wanted.options)
        case UdpAddress(host=host, port=port):
            sock = datagrams.open_udp(host, port, ipv6_only=wanted.options.ipv6_only)
        case _:
            raise AssertionError("the service manager opens a passed listener")
    return OpenListener(wanted, sock, bound_address(sock)).noted()


def _open_unix(wanted: WantedListener, address: UnixAddress | UnixgramAddress) -> OpenListener:
    kind = socket.SOCK_STREAM if isinstance(address, UnixAddress) else socket.SOCK_DGRAM
    sock = sockets.listen_unix(address.path, wanted.options, kind)
    inode = sockets.socket_inode(address.path)
    try:
        if not inode:
            raise OSError(errno.ESTALE, "another program removed the new socket at once")
        if kind == socket.SOCK_DGRAM:
            datagrams.prepare(sock)
    except BaseException:
        sockets.remove_path(sock, inode)
        sock.close()
        raise
    return OpenListener(wanted, sock, address, inode).noted()


def adopted(wanted: WantedListener, sock: socket.socket) -> OpenListener:
    """Return a listener that the service manager passed."""
    address = bound_address(sock)
    seen = sockets.socket_inode(address.path) if isinstance(address, FileAddress) else 0
    return OpenListener(wanted, sock, address, seen_inode=seen)


def like_new(listener: OpenListener) -> OpenListener:
    """Return a stored listener after what a child of the earlier master has changed
    about its socket is undone, as far as the kernel lets this process. OSError.
    """
    sock, options = listener.sock, listener.wanted.options
    with socket.socket(sock.family, sock.type) as new:
        if takes_datagrams(listener.address):
            datagrams.prepare(new)
        else:
            sockets.tune(new, options)
        fresh = socket_options.state_of(new)
    present = socket_options.state_of(sock)
    bound = {key: present.options[key] for key in _BOUND if key in present.options}
    bound[socket.SOL_SOCKET, socket.SO_REUSEADDR] = int(isinstance(listener.address, TcpAddress))
    bound[socket_options.BOUND_INTERFACE] = interfaces.scope_id(sock)
    state = SocketState(
        options={**fresh.options, **bound},
        flags=fresh.flags | os.O_NONBLOCK,
        name=present.name,
        instructions=0,
    )
    found = replace(listener, state=state).tuned()
    found.restore()
    return found


def open_anew(old: OpenListener) -> OpenListener:
    """Open a listener in the place of ``old``, which no client can reach any more and
    which the caller closes. It keeps the port that the kernel once chose. One of
    REFUSALS if the system refuses it.
    """
    address = old.wanted.address
    if isinstance(address, InternetAddress) and isinstance(old.address, InternetAddress):
        address = replace(address, port=old.address.port)
    if isinstance(address, FileAddress):
        # It still takes a connect(2), and so would look alive.
        sockets.remove_path(old.sock, old.inode)
    new = (
        _open_beside(old, address)
        if isinstance(address, UdpAddress)
        else open_new(replace(old.wanted, address=address))
    )
    return replace(new, wanted=old.wanted)


def free_port(old: OpenListener) -> None:
    """Let a new TCP listener take the port of ``old``, which children hold: two cannot
    listen, and both need SO_REUSEADDR (tcp(7)). OSError.
    """
    old.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    old.sock.shutdown(socket.SHUT_RDWR)


def _open_beside(old: OpenListener, address: UdpAddress) -> OpenListener:
    """Open a UDP socket while the old one, which children hold, has the address."""
    sock = datagrams.open_udp(
        address.host, address.port, ipv6_only=old.wanted.options.ipv6_only, beside=old.sock
    )
    return OpenListener(old.wanted, sock, bound_address(sock)).noted()


def bound_address(sock: socket.socket) -> BoundAddress:
    """Return the address on which the socket listens. An interface that is gone is
    named by its number.
    """
    name = sock.getsockname()
    is_stream = sock.type == socket.SOCK_STREAM
    if sock.family == socket.AF_UNIX:
        # The name of an abstract socket is bytes, and begins with a zero (unix(7)).
        path = name if isinstance(name, str) else f"@{os.fsdecode(name[1:])}"
        return UnixAddress(path) if is_stream else UnixgramAddress(path)
    host, port = name[:2]
    if sock.family == socket.AF_INET6 and name[3] and "%" not in host:
        host = f"{host}%{interfaces.interface_name(name[3])}"
    return TcpAddress(host, port) if is_stream else UdpAddress(host, port)


def refusal(wanted: WantedListener, error: Exception) -> UnpdError:
    """The sentence for the operator: service, address and reason."""
    sentence = f"{wanted.owner} cannot listen on {wanted.address.text}: {reason_of(wanted, error)}"
    kind = PrivilegeError if isinstance(error, PermissionError) else AddressError
    return kind(sentence)


def reason_of(wanted: WantedListener, error: Exception) -> str:
    """Why the system refuses the listener, as the end of a sentence."""
    is_unix = isinstance(wanted.address, FileAddress)
    if isinstance(error, PermissionError):
        if is_unix:
            return "this user may not make a socket there"
        return "a port below 1024 needs root or CAP_NET_BIND_SERVICE"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "this host has no such interface"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"the address is in use by another program ({_how_to_find(wanted)} shows it)"
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0, error.strerror or str(error))
    return str(error)


def _how_to_find(wanted: WantedListener) -> str:
    """The command that shows the program that has the address."""
    address = wanted.address
    if isinstance(address, InternetAddress):
        letter = "u" if isinstance(address, UdpAddress) else "t"
        return f"ss -l{letter}np sport = :{address.port}"
    return f"ss -lxp | grep -F {shlex.quote(address.text.partition('://')[2])}"
