"""Network interfaces: the one to which a link-local listener is bound, and the names
and numbers of the others.

A listener on a link-local address stays bound to the number of its interface. When the
interface is deleted and made again, it has another number, and the listener gets no
client any more.

Owns nothing. Called by unpd.config and unpd.master.listening. Calls nothing of unpd.
OSError only for a socket that is closed.
"""

import contextlib
import os
import socket


def scope_id(sock: socket.socket) -> int:
    """The index of the interface to which an IPv6 listener is bound, because its
    address is link-local; 0 for every other listener.
    """
    return int(sock.getsockname()[3]) if sock.family == socket.AF_INET6 else 0


def interface_index(scope: str) -> int:
    """The index of the interface that an address names after ``%``, by name or number;
    0 if this host has no such interface.
    """
    with contextlib.suppress(OSError, UnicodeEncodeError):
        # The configuration is UTF-8 in every locale, and so is the name in it.
        return socket.if_nametoindex(os.fsdecode(scope.encode()))
    with contextlib.suppress(OSError, ValueError):
        index = int(scope)
        # if_indextoname() would silently drop the higher bits.
        if 0 < index < 1 << 31 and socket.if_indextoname(index):
            return index
    return 0


def interface_name(index: int) -> str:
    """The name of the interface ``index``, as text in every locale; the number if the
    interface is gone or its name is not UTF-8.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return os.fsencode(socket.if_indextoname(index)).decode()
    return str(index)


def same_host(one: str, other: str) -> bool:
    """Whether two numeric hosts of a family are the same. An interface has a name and a
    number.
    """
    host, _, scope = one.partition("%")
    other_host, _, other_scope = other.partition("%")
    if host != other_host or scope == other_scope:
        return one == other
    index = interface_index(scope)
    return index != 0 and index == interface_index(other_scope)
