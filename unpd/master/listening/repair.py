"""Why no client reaches a listener, and the repair of that.

A TCP listener that another process shut down listens again on the same socket, so that
the children notice nothing. A UNIX listener whose file is gone, a link-local one whose
interface was made again, and a datagram socket that another process shut down or
connected need a new socket, because bind(2) works only once. The
children have inherited the old one: they serve the new one after a reload.

A process that shares a socket can also change its options, its flags and its address
(:mod:`unpd.kernel.socket_options`). They are restored; where the kernel refuses that, a
new socket takes its place.

Called by :mod:`unpd.master.listening.table`; calls :mod:`unpd.kernel`. Errors: the
REFUSALS of :mod:`unpd.master.listening.opening`.
"""

import enum
import os
from dataclasses import dataclass
from typing import Self

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
CHANGED = "another process changed"
KEEPS_CHANGING = "another process keeps changing its options, which are restored each time"
ABSENT = "it could not be opened before"
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


class Remedy(enum.Enum):
    """How a listener can be repaired."""

    RETUNE = enum.auto()
    """Its socket can be repaired."""
    RESTORE = enum.auto()
    """Its socket can be repaired, unless the kernel refuses: then as RENEW."""
    RENEW = enum.auto()
    """A new socket must take its place."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair. ``address``: that of the new listener if it was opened anew.
    ``reason``: why clients did not reach it, or for BROKEN why they still do not.
    """

    service: str
    address: str
    outcome: Outcome
    reason: str

    @classmethod
    def of(cls, listener: OpenListener, outcome: Outcome, reason: str) -> Self:
        """Return the repair of ``listener``."""
        return cls(listener.wanted.service, listener.text, outcome, reason)


@dataclass(frozen=True, slots=True)
class Ailment:
    """Why no new client reaches the listener, or not as it should, and the remedy."""

    reason: str
    remedy: Remedy


NOT_TUNED = Ailment("it refused its new options", Remedy.RETUNE)


def ailment(listener: OpenListener, *, look_closely: bool = True) -> Ailment | None:
    """What is wrong with the listener. ``look_closely``: read its options, too.
    OSError.
    """
    address = listener.address
    reason = (
        _file_ailment(listener, address)
        if isinstance(address, FileAddress)
        else _interface_ailment(listener)
    )
    if reason:
        return Ailment(reason, Remedy.RENEW)
    if not takes_datagrams(address):
        if not sockets.is_listening(listener.sock):
            is_tcp = isinstance(address, TcpAddress)
            return Ailment(SHUT_DOWN, Remedy.RETUNE if is_tcp else Remedy.RENEW)
    elif datagrams.is_connected(listener.sock):
        return Ailment(CONNECTED, Remedy.RENEW)
    # An error that waits on the socket looks like a shutdown: first the options.
    if look_closely and (changed := listener.changes()):
        return Ailment(f"{CHANGED} {', '.join(changed)}", Remedy.RESTORE)
    if takes_datagrams(address) and datagrams.is_shut_down(listener.sock):
        return Ailment(SHUT_DOWN, Remedy.RENEW)
    return None


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
