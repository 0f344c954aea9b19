"""The listeners that this master has closed, and that a retired worker may still have
open: it closes them once it has taken the order to drain. Until then the kernel says
that their addresses are in use.

Called by :mod:`unpd.master.listening.table`; calls :mod:`unpd.kernel`. Raises
StillHeldError.
"""

import os
import socket
from dataclasses import dataclass

from unpd.config.addresses import TcpAddress, UdpAddress
from unpd.errors import AddressError
from unpd.kernel import procnet, sockets
from unpd.master.listening.conflicts import overlaps
from unpd.master.listening.listener import OpenListener, WantedListener


class StillHeldError(AddressError):
    """A worker that drains has yet to close a listener: try again in a moment."""


@dataclass(frozen=True, slots=True)
class _Closed:
    address: TcpAddress | UdpAddress
    ipv6_only: bool
    inode: int

    @property
    def is_open(self) -> bool:
        """Whether a process still has it open."""
        return procnet.is_open(self.inode, "tcp" if self.address.scheme == "tcp" else "udp")


class ClosedListeners:
    """The TCP listeners and UDP sockets that the master has closed."""

    def __init__(self) -> None:
        self._closed: list[_Closed] = []

    def remember(self, listener: OpenListener) -> None:
        """Remember a listener that is about to be closed."""
        if isinstance(listener.address, TcpAddress | UdpAddress):
            sock = listener.sock
            only = sock.family == socket.AF_INET6 and sockets.is_ipv6_only(sock)
            inode = os.fstat(sock.fileno()).st_ino
            self._closed.append(_Closed(listener.address, only, inode))

    def forget_gone(self) -> None:
        """Forget those that no process has open any more. Called once a second."""
        self._closed = [closed for closed in self._closed if closed.is_open]

    def refuse_held(self, wanted: WantedListener) -> None:
        """StillHeldError if one of them keeps ``wanted`` from its address."""
        for closed in self._closed:
            held = overlaps(closed.address, wanted, ipv6_only=closed.ipv6_only)
            if held and closed.is_open:
                raise StillHeldError(
                    f"{wanted.owner} cannot listen on {wanted.address.text}: unpd itself listened"
                    f" on {closed.address.text} before, and a worker that drains has yet to close"
                    " that; try again in a moment"
                )
