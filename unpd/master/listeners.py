"""The master's listeners: opened once, kept over reloads by their address as configured, closed when no configuration has them any more.

A change comes in two halves. :meth:`Listeners.prepare` opens what a new configuration adds, all or none; :meth:`Listeners.adopt` closes what it no longer has and tunes
what stays. Until then a failed reload has changed nothing.
"""

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unpd.config.addresses import Address, TcpAddress, UnixAddress
from unpd.config.schema import Config
from unpd.errors import AddressError, PrivilegeError, UnpdError
from unpd.kernel import sockets
from unpd.kernel.sockets import ListenOptions

METRICS = "metrics"
"""What stands for a service's name where the exporter's listener is meant."""
_METRICS_OPTIONS = ListenOptions(backlog=128, ipv6_only=False, keepalive=True, user_timeout_s=10.0, mode=0o666)


@dataclass(frozen=True, slots=True)
class Wish:
    """A listener that a configuration asks for. ``key`` is its identity over reloads."""

    key: str
    service: str
    address: Address
    options: ListenOptions


@dataclass(frozen=True, slots=True)
class Open:
    """A listener that is open. ``text`` is its actual address (a port of 0 resolved), ``inode`` that of a UNIX socket's file."""

    wish: Wish
    sock: socket.socket
    text: str
    inode: int

    @property
    def without_ipv6(self) -> bool:
        """Whether IPv6 was asked for and the kernel has none, so that it listens on IPv4."""
        return isinstance(self.wish.address, TcpAddress) and self.wish.address.is_ipv6 and self.sock.family == socket.AF_INET

    def retune(self, options: ListenOptions) -> None:
        """Give it other options."""
        sockets.tune(self.sock, options)
        if self.inode:
            sockets.set_mode(self.sock, self.inode, options.mode)

    def close(self) -> None:
        """Close it; a UNIX socket's file goes too. Workers that still hold it find nobody new in its queue, so that their drain loses nobody; the exporter is asked on."""
        if self.wish.service != METRICS:
            sockets.take_no_more(self.sock)
        if self.inode:
            sockets.remove_path(self.sock, self.inode)
        self.sock.close()


def wishes(config: Config) -> Iterator[Wish]:
    """Every listener of the configuration, the exporter's last."""
    for name, service in config.services.items():
        options = ListenOptions(service.backlog, service.ipv6_only, service.keepalive, service.user_timeout_s, service.socket_mode)
        for index, address in enumerate(service.listen):
            yield Wish(_key(name, index, address), name, address, options)
    if config.metrics.listen is not None:
        yield Wish(_key(METRICS, 0, config.metrics.listen), METRICS, config.metrics.listen, _METRICS_OPTIONS)


def _key(service: str, index: int, address: Address) -> str:
    """The address itself; but any number of listeners may ask for a free port, and they are told apart by their place."""
    if isinstance(address, TcpAddress) and address.port == 0:
        return f"{service}#{index} {address.text}"
    return address.text


class Listeners:
    """All open listeners by key."""

    def __init__(self, opened: Mapping[str, Open] | None = None) -> None:
        self.opened: dict[str, Open] = dict(opened or {})

    def prepare(self, config: Config) -> "Listeners":
        """The listeners of ``config``: those that are open already, and the added ones opened now. On the first failure those are closed again.

        AddressError (in use, missing) or PrivilegeError in one sentence that names the service and the address.
        """
        found: dict[str, Open] = {}
        added: list[Open] = []
        try:
            for wish in wishes(config):
                kept = self.opened.get(wish.key)
                if kept is None:
                    kept = open_listener(wish)
                    added.append(kept)
                elif kept.wish.options.ipv6_only != wish.options.ipv6_only:
                    raise AddressError(f"service {wish.service}: ipv6_only of {wish.address.text} cannot be changed while it is open: restart unpd")
                found[wish.key] = Open(wish, kept.sock, kept.text, kept.inode)
        except UnpdError:
            for listener in added:
                listener.close()
            raise
        return Listeners(found)

    def adopt(self, new: "Listeners") -> None:
        """Become ``new``: close what it lacks, give what stays its new options."""
        for key, listener in self.opened.items():
            if key not in new.opened:
                listener.close()
            elif listener.wish.options != new.opened[key].wish.options:
                listener.retune(new.opened[key].wish.options)
        self.opened = new.opened

    def added_by(self, new: "Listeners") -> list[Open]:
        """What ``new`` has and this has not."""
        return [listener for key, listener in new.opened.items() if key not in self.opened]

    def drop(self, new: "Listeners") -> None:
        """Forget ``new``: close what it added."""
        for listener in self.added_by(new):
            listener.close()

    def of(self, service: str) -> list[Open]:
        """The listeners of one service (or METRICS)."""
        return [listener for listener in self.opened.values() if listener.wish.service == service]

    def close(self) -> None:
        """Close all."""
        while self.opened:
            self.opened.popitem()[1].close()


def open_listener(wish: Wish) -> Open:
    """Open what ``wish`` asks for."""
    try:
        if isinstance(wish.address, UnixAddress):
            sock = sockets.listen_unix(wish.address.path, wish.options)
            return Open(wish, sock, wish.address.text, os.lstat(wish.address.path).st_ino)
        sock = sockets.listen_tcp(wish.address.host, wish.address.port, wish.options)
        host, port = sock.getsockname()[:2]
        return Open(wish, sock, TcpAddress(wish.address.host if sock.family == socket.AF_INET6 else host, port).text, 0)
    except socket.gaierror as error:
        raise AddressError(f"{_who(wish)} cannot listen on {wish.address.text}: this host has no such interface") from error
    except OSError as error:
        raise _sentence(wish, error) from error


_WHY: Mapping[int, str] = {
    errno.EADDRINUSE: "the address is in use by another program",
    errno.EADDRNOTAVAIL: "this host has no such address",
    errno.EAFNOSUPPORT: "this kernel does not know the address family",
    errno.ENOENT: "the directory does not exist",
    errno.ENOTDIR: "the directory does not exist",
    errno.EEXIST: "something that is not a socket is there; move it away first",
}


def _who(wish: Wish) -> str:
    return "the metrics exporter" if wish.service == METRICS else f"service {wish.service}"


def _sentence(wish: Wish, error: OSError) -> UnpdError:
    start = f"{_who(wish)} cannot listen on {wish.address.text}: "
    if isinstance(error, PermissionError):
        if isinstance(wish.address, UnixAddress):
            return PrivilegeError(f"{start}this user may not make a socket there")
        return PrivilegeError(f"{start}a port below 1024 needs root or CAP_NET_BIND_SERVICE")
    return AddressError(start + _WHY.get(error.errno or 0, error.strerror or str(error)))
