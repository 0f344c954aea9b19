"""Why no client reaches a listener, and the repair of that.

A TCP listener that another process shut down listens again on the same socket, so that
the children notice nothing. A UNIX listener whose file is gone, a link-local one whose
interface was made again, and a datagram socket that another process shut down or
connected need a new socket, because bind(2) works only once. The
children have inherited the old one: they serve the new one after a reload.

Called by :mod:`unpd.master.listening.table`; calls :mod:`unpd.kernel`. Errors: the
REFUSALS of :mod:`unpd.master.listening.opening`.
"""

import enum
import os
from dataclasses import dataclass

from unpd.config.addresses import (
    FileAddress,
    InternetAddress,
    TcpAddress,
    takes_datagrams,
)
from unpd.kernel import datagrams, interfaces, sockets
from unpd.master.listening.listener import OpenListener

SHUT_DOWN = "another process shut it down"
CONNECTED = "another process connected it to one sender"
FILE_GONE = "its file was removed"
FILE_REPLACED = "another file took the place of its own"


class Outcome(enum.Enum):
    """How a repair ended."""

    MENDED = enum.auto()
    """Clients reach the listener again."""
    RENEWED = enum.auto()
    """The listener is a new socket, which the children do not have yet."""
    BROKEN = enum.auto()
    """Clients do not reach the listener, and the repair failed."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair. ``listener`` is the new one if it was opened anew. ``reason``: why
    clients did not reach it, or for BROKEN why they still do not.
    """

    listener: OpenListener
    outcome: Outcome
    reason: str


def ailment(listener: OpenListener) -> str:
    """Why no new client reaches the listener; "" if clients reach it."""
    address = listener.address
    if isinstance(address, FileAddress):
        return _socket_ailment(listener) or _file_ailment(listener, address)
    return _interface_ailment(listener) or _socket_ailment(listener)


def _socket_ailment(listener: OpenListener) -> str:
    if not takes_datagrams(listener.address):
        return "" if sockets.is_listening(listener.sock) else SHUT_DOWN
    if datagrams.is_shut_down(listener.sock):
        return SHUT_DOWN
    return CONNECTED if datagrams.is_connected(listener.sock) else ""


def _interface_ailment(listener: OpenListener) -> str:
    bound = interfaces.scope_id(listener.sock)
    if not bound:
        return ""
    wanted = listener.wanted.address
    scope = wanted.host.partition("%")[2] if isinstance(wanted, InternetAddress) else str(bound)
    index = interfaces.interface_index(scope)
    if index:
        return "" if index == bound else f"interface {scope} was made again"
    # A renamed interface is still the same one.
    alive = interfaces.interface_index(str(bound)) == bound
    return "" if alive else f"this host has no interface {scope}"


def _file_ailment(listener: OpenListener, address: FileAddress) -> str:
    """Why the file does not lead to the listener. That of a passed listener may be
    hidden from this daemon, but not from the clients: a hidden file is no ailment.
    """
    if address.path.startswith("@"):
        return ""  # an abstract name has no file (unix(7))
    known = listener.inode or listener.seen_inode
    if not known or sockets.socket_inode(address.path) == known:
        return ""
    if listener.passed and not sockets.may_search(address.path):
        return ""
    return FILE_REPLACED if os.path.lexists(address.path) else FILE_GONE


def repairs_in_place(listener: OpenListener, reason: str) -> bool:
    """Whether the socket can be repaired itself. ``reason``: its ailment, or "" if it
    only refused new options.
    """
    return not reason or (isinstance(listener.address, TcpAddress) and reason == SHUT_DOWN)
