"""The listeners that an earlier master left in the service manager's descriptor store.

One bad item never blocks a start. Whatever it is, it is closed, removed from the store
and noted in :attr:`StoredListeners.dropped`, and its listener is opened anew if the
configuration wants it.

Called by :mod:`unpd.master.listening.sources`; calls :mod:`unpd.kernel.sockets`. Raises
nothing.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace

from unpd.config.addresses import (
    BoundAddress,
    FileAddress,
    InternetAddress,
    UnixAddress,
    takes_datagrams,
)
from unpd.kernel import handshakes, interfaces, sockets
from unpd.kernel.sockets import ListenOptions
from unpd.master.listening.listener import STORED_PREFIX, OpenListener, WantedListener
from unpd.master.listening.opening import REFUSALS, bound_address, like_new, reason_of
from unpd.master.systemd.offers import DescriptorStore

_LISTENER = re.compile(rf"{STORED_PREFIX}(.+)-([0-9]{{1,20}})")
_OURS = re.compile(r"stored|unpd-(?:stored|scoreboard)\b.*")
"""The names that only an item of our store has. systemd itself calls an item "stored"
that came without a name.
"""
_UNWANTED = WantedListener(
    "",
    "",
    UnixAddress("/"),
    ListenOptions(backlog=1, ipv6_only=False, keepalive=False, user_timeout_s=0.0, mode=0o600),
)
"""The wanted part of a stored listener that is only opened to be closed."""


@dataclass(frozen=True, slots=True)
class StoredListener:
    """A listener of an earlier master. ``stored_as``: its name in the descriptor store.
    ``inode``: that of the file that led to it (0: it is no UNIX socket). ``kept``: the
    store still has it.
    """

    stored_as: str
    sock: socket.socket
    address: BoundAddress
    inode: int
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Dropped:
    """An item of the store that is of no use. ``item``: its address, or its name."""

    item: str
    reason: str


class StoredListeners:
    """The stored listeners that no configuration has taken yet, by their keys."""

    def __init__(self, store: DescriptorStore) -> None:
        self.dropped: list[Dropped] = []
        self._store = store
        self._by_key: dict[str, StoredListener] = {}

    def takes(self, name: str) -> bool:
        """Whether a descriptor of that name comes from our store."""
        return _OURS.fullmatch(name) is not None

    def take(self, name: str, sock: socket.socket | None) -> None:
        """Take over the item ``name``. ``sock`` is None if it is no listener."""
        found = _LISTENER.fullmatch(name)
        if sock is None:
            self._drop(name, name, "it is no listener")
        elif found is None:
            sock.close()
            self._drop(name, name, "its name says nothing")
        else:
            self._take_listener(name, sock, *found.groups())

    def _take_listener(self, name: str, sock: socket.socket, key: str, inode: str) -> None:
        try:
            address = bound_address(sock)
        except REFUSALS as error:
            sock.close()
            self._drop(name, name, f"it has no address: {error}")
            return
        if int(inode) and not isinstance(address, FileAddress):
            sock.close()
            self._drop(name, address.text, "it has no file, but its name has an inode")
            return
        if key not in self._by_key:
            self._by_key[key] = StoredListener(name, sock, address, int(inode))
            return
        sock.close()
        self._drop(name, address.text, "it was stored twice")
        if self._by_key[key].stored_as == name:
            # The store removes both by their common name.
            self._by_key[key] = replace(self._by_key[key], kept=False)

    def _drop(self, name: str, item: str, reason: str) -> None:
        self._store.remove(name)
        self.dropped.append(Dropped(item, reason))

    def settle(self, wanted_listeners: Iterable[WantedListener]) -> list[str]:
        """End each stored listener that the first configuration does not want. Return
        their addresses.

        Called before any listener is opened, because a stored one may hold an address
        that another one needs.
        """
        by_key = {wanted.stored_key: wanted for wanted in wanted_listeners}
        unwanted, before = [], len(self._by_key)
        for key, stored in list(self._by_key.items()):
            wanted = by_key.get(key)
            reason = _unsuitable(stored, wanted) if wanted else ""
            if wanted is None:
                unwanted.append(stored.address.text)
            elif reason:
                self.dropped.append(Dropped(wanted.address.text, reason))
            else:
                continue
            self._end(self._by_key.pop(key))
        if len(self._by_key) < before or self.dropped:
            self._store.wait()
        return sorted(unwanted)

    def _end(self, stored: StoredListener) -> None:
        """Close the listener here and in the store."""
        left = stored.kept and not self._store.remove(stored.stored_as)
        OpenListener(_UNWANTED, stored.sock, stored.address, stored.inode, stored=left).close()

    def open(self, wanted: WantedListener) -> OpenListener | None:
        """Return the stored listener of that key, if there is one that takes the wanted
        options. :meth:`settle` has ended the others.
        """
        stored = self._by_key.pop(wanted.stored_key, None)
        if stored is None:
            return None
        listener = OpenListener(
            wanted, stored.sock, stored.address, stored.inode, stored=stored.kept
        )
        try:
            listener.retune(wanted.options)
            listener = like_new(listener)
            changed = listener.changes()
            reason = f"another process changed {', '.join(changed)}" if changed else ""
        except REFUSALS as error:
            reason = reason_of(wanted, error)
        if reason:
            self.dropped.append(Dropped(wanted.address.text, reason))
            self._end(stored)
            self._store.wait()
            return None
        return listener


def _unsuitable(stored: StoredListener, wanted: WantedListener) -> str:
    """Why clients of the wanted address would not reach the stored listener; "" if they
    would.
    """
    bound, address = stored.address, wanted.address
    if not takes_datagrams(bound) and not handshakes.allow_new_handshakes(stored.sock):
        return "it refuses new clients"
    if isinstance(address, InternetAddress) and isinstance(bound, type(address)):
        ipv6_only = wanted.options.ipv6_only
        return _unsuitable_port(stored.sock, bound, address, ipv6_only=ipv6_only)
    if bound != address:
        return f"it listens on {bound.text}"
    inode = sockets.socket_inode(bound.path) if isinstance(bound, FileAddress) else 0
    return "" if inode and inode == stored.inode else "its file is gone or was replaced"


def _unsuitable_port(
    sock: socket.socket, bound: InternetAddress, address: InternetAddress, *, ipv6_only: bool
) -> str:
    """Why a listener of the same transport does not suit. 0.0.0.0 stands for ``::`` if
    the kernel has no IPv6 (sockets.listen_tcp, datagrams.open_udp). On any other
    address than ``::``, bind(2) itself makes the listener IPv6 only.
    """
    if bound.host == "::" and sockets.is_ipv6_only(sock) != ipv6_only:
        return "its ipv6_only is another one"
    fallback = address.host == "::" and not ipv6_only and bound.host == "0.0.0.0"
    same = fallback or interfaces.same_host(bound.host, address.host)
    suits = same and address.port in (0, bound.port)
    return "" if suits else f"it listens on {bound.text}"
