"""One listener: as a configuration wishes it, and as it is open."""

import base64
import socket
from dataclasses import dataclass, replace

from unpd.config.addresses import Address, BoundAddress, SystemdAddress, TcpAddress
from unpd.kernel import sockets
from unpd.kernel.sockets import ListenOptions
from unpd.master.systemd.offers import DescriptorStore

METRICS = "metrics"
"""What stands for a service's name where the exporter's listener is meant."""

STORED_PREFIX = "unpd-stored-listener-"
"""Not what an administrator would call a socket (FileDescriptorName=): systemd passes
both kinds alike.
"""


@dataclass(frozen=True, slots=True)
class WantedListener:
    """A listener that a configuration asks for. ``key`` is its identity over reloads,
    ``nth`` its place among those that are passed under one name.
    """

    key: str
    service: str
    address: Address
    options: ListenOptions
    nth: int = 0

    @property
    def owner(self) -> str:
        """Who wishes it, for a sentence."""
        return "the metrics exporter" if self.service == METRICS else f"service {self.service}"

    @property
    def stored_key(self) -> str:
        """The key in letters that a name in the descriptor store may have: a colon
        would spoil it.
        """
        return base64.urlsafe_b64encode(self.key.encode()).decode()


@dataclass(frozen=True, slots=True)
class OpenListener:
    """A listener that is open. ``address`` is its actual one (a port of 0 resolved),
    ``inode`` that of a UNIX socket's file if we made it.

    ``kept``: the service manager was told to keep a duplicate, so that our closing it
    ends nothing.
    """

    wanted: WantedListener
    sock: socket.socket
    address: BoundAddress
    inode: int = 0
    kept: bool = False

    @property
    def text(self) -> str:
        """The actual address as the configuration would write it."""
        return self.address.text

    @property
    def stored_as(self) -> str:
        """Its name in the descriptor store. The inode in it says which file leads to a
        UNIX socket: another one at its path does not.
        """
        return f"{STORED_PREFIX}{self.wanted.stored_key}-{self.inode}"

    @property
    def passed(self) -> bool:
        """Whether it is the service manager's own."""
        return isinstance(self.wanted.address, SystemdAddress)

    @property
    def without_ipv6(self) -> bool:
        """Whether IPv6 was asked for and the kernel has none, so that it listens on
        IPv4.
        """
        return (
            isinstance(self.wanted.address, TcpAddress)
            and self.wanted.address.is_ipv6
            and self.sock.family == socket.AF_INET
        )

    def retune(self, options: ListenOptions) -> None:
        """Give it other options. A TCP listener that somebody has ended listens again
        by that. OSError.
        """
        if isinstance(self.address, TcpAddress) and not sockets.is_listening(self.sock):
            sockets.bind_again(self.sock, self.address.port)
        sockets.apply_options(self.sock, options)
        if self.inode:
            sockets.set_mode(self.sock, self.inode, options.mode)

    def keep(self, store: DescriptorStore) -> "OpenListener":
        """The same, left in ``store`` too, if there is one and it takes it. What is
        passed to us is kept anyway.
        """
        if self.kept or self.passed:
            return self
        return replace(self, kept=store.keep(self.stored_as, self.sock.fileno()))

    def close(self) -> None:
        """Close it. Where somebody else has a duplicate, that is all: clients queue for
        our successor, and a UNIX socket's file stays with its listener.
        """
        if not (self.kept or self.passed):
            self._take_down()
        self.sock.close()

    def end(self, store: DescriptorStore) -> None:
        """Close it for good: no configuration wishes it any more. Where the service
        manager cannot be told, it goes on there, fit to be taken back.
        """
        replace(self, kept=self.kept and not store.forget(self.stored_as)).close()

    def _take_down(self) -> None:
        """Workers that still hold it find nobody new in its queue, so that their drain
        loses nobody; the exporter is asked on. The file goes too.
        """
        if self.wanted.service != METRICS:
            sockets.stop_new_handshakes(self.sock)
        if self.inode:
            sockets.remove_path(self.sock, self.inode)
