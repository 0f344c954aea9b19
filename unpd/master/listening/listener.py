"""One listener: as a configuration wants it, and as it is open.

Owns the names that listeners have in the service manager's descriptor store. Called by
:mod:`unpd.master.listening.sources`, which opens listeners, and
:mod:`unpd.master.listening.table`, which keeps them over reloads; calls
:mod:`unpd.kernel.sockets`.
"""

import base64
import contextlib
import socket
from dataclasses import dataclass, replace

from unpd.config.addresses import (
    CONTROL,
    Address,
    BoundAddress,
    InternetAddress,
    SystemdAddress,
    TcpAddress,
    UnixAddress,
    takes_datagrams,
)
from unpd.kernel import datagrams, handshakes, socket_options, sockets
from unpd.kernel.socket_options import SocketState
from unpd.kernel.sockets import ListenOptions
from unpd.kernel.tcp_info import accept_queue
from unpd.master.systemd.offers import DescriptorStore
from unpd.names import METRICS

STORED_PREFIX = "unpd-stored-listener-"
"""The beginning of the name of each stored listener. systemd passes stored descriptors
and those of socket units alike. No administrator gives this name to the socket of a
unit (FileDescriptorName=).
"""


def is_key(text: str) -> bool:
    """Whether a listener could have this key: an address, which has any character but
    those that no path may have.
    """
    return CONTROL.search(text) is None


@dataclass(frozen=True, slots=True)
class WantedListener:
    """A listener that a configuration asks for.

    ``key`` identifies the listener over reloads and restarts. ``nth`` is its place
    among the listeners that systemd passes under one name. ``is_lent``: programs get
    the socket itself, and may change its options. ``is_required``: nothing starts and
    no reload succeeds without it.
    """

    key: str
    service: str
    address: Address
    options: ListenOptions
    nth: int = 0
    is_lent: bool = False
    is_required: bool = True

    @property
    def owner(self) -> str:
        """The service or the exporter, as the subject of a sentence."""
        return "the metrics exporter" if self.service == METRICS else f"service {self.service}"

    @property
    def stored_key(self) -> str:
        """The key in letters that a name in the descriptor store may have: no colon."""
        return base64.urlsafe_b64encode(self.key.encode()).decode()


@dataclass(frozen=True, slots=True)
class OpenListener:
    """A listener that is open.

    ``address`` is the actual one, with the port that the kernel chose for port 0.
    ``inode`` is that of the UNIX socket's file if this daemon made it, otherwise 0.
    ``seen_inode`` is that of the file of a passed one as it was at the start, 0 if this
    daemon cannot see the file (PrivateTmp=, ProtectHome=).
    ``stored``: the service manager has a duplicate, so that the queue of clients stays
    open when this one is closed. ``state``: the socket as it was opened, None if nobody
    looks after it. ``queue_limit``: the limit of its accept queue as the kernel took
    it, 0 if that shows none.
    """

    wanted: WantedListener
    sock: socket.socket
    address: BoundAddress
    inode: int = 0
    seen_inode: int = 0
    stored: bool = False
    state: SocketState | None = None
    queue_limit: int = 0

    @property
    def text(self) -> str:
        """The actual address, as the configuration would write it."""
        return self.address.text

    @property
    def stored_as(self) -> str:
        """Its name in the descriptor store. The inode shows whether the file at the
        path of a UNIX socket still leads to this listener.
        """
        return f"{STORED_PREFIX}{self.wanted.stored_key}-{self.inode}"

    @property
    def passed(self) -> bool:
        """Whether it came from a socket unit of the service manager."""
        return isinstance(self.wanted.address, SystemdAddress)

    @property
    def without_ipv6(self) -> bool:
        """Whether it listens on IPv4 because the kernel lacks the wanted IPv6."""
        return (
            isinstance(self.wanted.address, InternetAddress)
            and self.wanted.address.is_ipv6
            and self.sock.family == socket.AF_INET
        )

    def retune(self, options: ListenOptions) -> None:
        """Apply other options. A TCP listener that another process shut down listens
        again afterwards. OSError if the kernel refuses.
        """
        if takes_datagrams(self.address):
            datagrams.prepare(self.sock)
        else:
            self._retune_stream(options)
        if self.inode:
            sockets.set_mode(self.sock, self.inode, options.mode)

    def _retune_stream(self, options: ListenOptions) -> None:
        if isinstance(self.address, TcpAddress) and not sockets.is_listening(self.sock):
            sockets.bind_again(self.sock, self.address.port)
        sockets.apply_options(self.sock, options)

    def noted(self) -> "OpenListener":
        """Return this listener with the present state of its socket as the one to keep.
        OSError.
        """
        return replace(self, state=socket_options.state_of(self.sock)).tuned()

    def tuned(self) -> "OpenListener":
        """Return this listener with the present limit of its queue as the one to keep,
        after :meth:`retune`. OSError.
        """
        return replace(self, queue_limit=self._present_limit())

    def changes(self) -> list[str]:
        """The names of what another process has changed about the socket and should not
        have. OSError.
        """
        state = self._wanted_state
        if state is None or self.wanted.is_lent:
            return []
        backlog = ["listen"] if self._present_limit() != self.queue_limit else []
        return socket_options.changes(self.sock, state) + backlog

    def _present_limit(self) -> int:
        queue = accept_queue(self.sock)
        return queue[1] if queue else 0

    def restore(self) -> None:
        """Undo such changes, as far as the kernel lets this process. OSError if another
        socket has taken the address.
        """
        if state := self._wanted_state:
            socket_options.restore(self.sock, state)
        if not takes_datagrams(self.address):
            self.sock.listen(self.wanted.options.backlog)

    def keep_backlog(self) -> None:
        """Set the limit of a UNIX listener's queue again, because nobody can read it.
        OSError.
        """
        if isinstance(self.address, UnixAddress):
            self.sock.listen(self.wanted.options.backlog)

    @property
    def _wanted_state(self) -> SocketState | None:
        if self.state is None or not isinstance(self.address, TcpAddress):
            return self.state
        tuned = sockets.tcp_options(self.wanted.options)
        return replace(self.state, options={**self.state.options, **tuned})

    def stored_in(self, store: DescriptorStore) -> "OpenListener":
        """Return this listener, with a duplicate in ``store`` if there is a store and
        it takes one. The service manager keeps the listeners that it passed anyway.
        """
        if self.stored or self.passed:
            return self
        return replace(self, stored=store.add(self.stored_as, self.sock.fileno()))

    def close(self) -> None:
        """Close the listener. If the service manager has a duplicate, clients queue
        there for the next master, and a UNIX socket keeps its file.
        """
        if not (self.stored or self.passed):
            self._take_down()
        self.sock.close()

    def end(self, store: DescriptorStore) -> None:
        """Close the listener and its duplicate, because no configuration wants it any
        more. If the service manager cannot be reached, the duplicate stays usable.
        """
        replace(self, stored=self.stored and not store.remove(self.stored_as)).close()

    def _take_down(self) -> None:
        """Let no new client into the queue of a service, so that the drain of its
        workers loses none; remove the file. The exporter still takes clients while it
        drains. A listener that somebody shut down has no queue, and may refuse it all.
        A datagram socket has no clients, and its queue is the workers'.
        """
        if self.wanted.service != METRICS and sockets.is_listening(self.sock):
            with contextlib.suppress(OSError):
                handshakes.stop_new_handshakes(self.sock)
        if self.inode:
            sockets.remove_path(self.sock, self.inode)
