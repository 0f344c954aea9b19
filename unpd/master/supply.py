"""Where listeners come from: passed by the service manager (``systemd:NAME``), kept in its store by an earlier life of ours, or opened anew.

Sentences about what cannot be had name the service and the address.
"""

import errno
import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from unpd.config.addresses import Address, BoundAddress, SystemdAddress, TcpAddress, UnixAddress
from unpd.config.schema import Config
from unpd.errors import AddressError, PrivilegeError, UnpdError
from unpd.kernel import sockets
from unpd.kernel.activation import Passed
from unpd.kernel.sockets import ListenOptions
from unpd.master.listener import METRICS, Open, Wish
from unpd.master.supervision import Store

_METRICS_OPTIONS = ListenOptions(backlog=128, ipv6_only=False, keepalive=True, user_timeout_s=10.0, mode=0o666)
_STORED = re.compile(r"unpd-listener-[0-9a-f]{16}")


class Supply:
    """Gives each wish its listener. ``store`` is where those that we open are left, in case we die."""

    def __init__(self, passed: Iterable[Passed] = (), store: Store | None = None) -> None:
        """Take over the listeners among ``passed``. AddressError for a passed descriptor that is none."""
        self.store = store or Store()
        self._passed: dict[str, list[socket.socket]] = {}
        self._kept: dict[str, socket.socket] = {}
        for one in passed:
            sock = _listener(one)
            if _STORED.fullmatch(one.name):
                if sock is not None:
                    self._kept[one.name] = sock
            elif sock is None:
                raise AddressError(f"systemd passes {one.name}, which is no listening stream socket: its socket unit needs ListenStream= and Accept=no")
            else:
                sock.setblocking(False)
                self._passed.setdefault(one.name, []).append(sock)

    def wishes(self, config: Config) -> tuple[Wish, ...]:
        """Every listener of ``config``, the exporter's last. AddressError for a name under which nothing is passed, and for a passed listener that nobody names."""
        found = tuple(self._wishes(config))
        named = {wish.address.name for wish in found if isinstance(wish.address, SystemdAddress)}
        for name in sorted(set(self._passed) - named):
            where = ", ".join(_bound(sock).text for sock in self._passed[name])
            raise AddressError(f'systemd passes {where} as {name}, and nothing listens on it: write "systemd:{name}" into a listen, or disable its socket unit')
        return found

    def _wishes(self, config: Config) -> Iterator[Wish]:
        for name, service in config.services.items():
            options = ListenOptions(service.backlog, service.ipv6_only, service.keepalive, service.user_timeout_s, service.socket_mode)
            for index, address in enumerate(service.listen):
                yield from self._of(name, index, address, options)
        if config.metrics.listen is not None:
            yield from self._of(METRICS, 0, config.metrics.listen, _METRICS_OPTIONS)

    def _of(self, service: str, index: int, address: Address, options: ListenOptions) -> Iterator[Wish]:
        if not isinstance(address, SystemdAddress):
            yield Wish(_key(service, index, address), service, address, options)
            return
        passed = self._passed.get(address.name, ())
        wish = Wish(address.text, service, address, options)
        if not passed:
            names = f"it passes {', '.join(sorted(self._passed))}" if self._passed else "it passes none at all"
            raise AddressError(f"{wish.owner} cannot listen on {address.text}: systemd passes no listener of that name, {names}")
        if service == METRICS and len(passed) > 1:
            raise AddressError(f"{wish.owner} cannot listen on {address.text}: systemd passes {len(passed)} listeners of that name, and it takes one")
        for nth in range(len(passed)):
            yield Wish(f"{address.text}#{nth}", service, address, options, nth)

    def open(self, wish: Wish) -> Open:
        """The listener for ``wish``. AddressError (in use, missing) or PrivilegeError in one sentence."""
        try:
            if isinstance(wish.address, SystemdAddress):
                sock = self._passed[wish.address.name][wish.nth]
                sockets.tune(sock, wish.options)
                return Open(wish, sock, _bound(sock))
            return self._take_back(wish) or _open(wish)
        except socket.gaierror as error:
            raise AddressError(f"{wish.owner} cannot listen on {wish.address.text}: this host has no such interface") from error
        except OSError as error:
            raise _sentence(wish, error) from error

    def _take_back(self, wish: Wish) -> Open | None:
        """What the store has for ``wish``, if it still is what is wished."""
        sock = self._kept.pop(wish.stored_as, None)
        if sock is None:
            return None
        listener = Open(wish, sock, _bound(sock), _inode(wish.address), kept=True)
        if not _answers(listener):
            listener.end(self.store)
            return None
        sock.setblocking(False)
        listener.retune(wish.options)
        return listener

    def end_rest(self) -> list[str]:
        """End what the store has beyond the first configuration's wishes; return the addresses."""
        ended = []
        while self._kept:
            name, sock = self._kept.popitem()
            self.store.forget(name)
            ended.append(_bound(sock).text)
            sockets.take_no_more(sock)
            sock.close()
        return sorted(ended)


def _key(service: str, index: int, address: BoundAddress) -> str:
    """The address itself; but any number of listeners may ask for a free port, and they are told apart by their place."""
    if isinstance(address, TcpAddress) and address.port == 0:
        return f"{service}#{index} {address.text}"
    return address.text


def _listener(passed: Passed) -> socket.socket | None:
    """The passed descriptor as a socket, if it is a listening one of a family that we know; closed if not."""
    try:
        sock = socket.socket(fileno=passed.fd)
    except OSError:
        os.close(passed.fd)
        return None
    if sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) and sockets.is_listening(sock):
        return sock
    sock.close()
    return None


def _bound(sock: socket.socket) -> BoundAddress:
    """Where it listens."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return UnixAddress(os.fsdecode(name) if isinstance(name, str) else f"@{os.fsdecode(name[1:])}")
    return TcpAddress(name[0], name[1])


def _inode(address: Address) -> int:
    """Of a UNIX socket's file; 0 where there is none."""
    if not isinstance(address, UnixAddress):
        return 0
    try:
        there = os.lstat(address.path)
    except OSError:
        return 0
    return there.st_ino if stat.S_ISSOCK(there.st_mode) else 0


def _answers(listener: Open) -> bool:
    """Whether a listener from the store is what its wish says: a client that goes to that address arrives there."""
    wished = listener.wish.address
    if isinstance(wished, TcpAddress) and isinstance(listener.address, TcpAddress):
        if listener.sock.family == socket.AF_INET6 and sockets.is_ipv6_only(listener.sock) != listener.wish.options.ipv6_only:
            return False
        hosts = {wished.host, "0.0.0.0"} if wished.host == "::" and not listener.wish.options.ipv6_only else {wished.host}  # see sockets.listen_tcp
        return listener.address.host in hosts and wished.port in (0, listener.address.port)
    return listener.address == wished and listener.inode != 0


def _open(wish: Wish) -> Open:
    if isinstance(wish.address, UnixAddress):
        sock = sockets.listen_unix(wish.address.path, wish.options)
        return Open(wish, sock, wish.address, os.lstat(wish.address.path).st_ino)
    if isinstance(wish.address, TcpAddress):
        sock = sockets.listen_tcp(wish.address.host, wish.address.port, wish.options)
        return Open(wish, sock, _bound(sock))
    raise AssertionError("a listener that is passed is not opened")


_WHY: Mapping[int, str] = MappingProxyType(
    {
        errno.EADDRINUSE: "the address is in use by another program",
        errno.EADDRNOTAVAIL: "this host has no such address",
        errno.EAFNOSUPPORT: "this kernel does not know the address family",
        errno.ENOENT: "the directory does not exist",
        errno.ENOTDIR: "the directory does not exist",
        errno.EEXIST: "something that is not a socket is there; move it away first",
    }
)


def _sentence(wish: Wish, error: OSError) -> UnpdError:
    start = f"{wish.owner} cannot listen on {wish.address.text}: "
    if isinstance(error, PermissionError):
        if isinstance(wish.address, UnixAddress):
            return PrivilegeError(f"{start}this user may not make a socket there")
        return PrivilegeError(f"{start}a port below 1024 needs root or CAP_NET_BIND_SERVICE")
    return AddressError(start + _WHY.get(error.errno or 0, error.strerror or str(error)))
