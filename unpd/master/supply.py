"""Where listeners come from: passed by the service manager (``systemd:NAME``), kept in
its store by an earlier life of ours, or opened anew.

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
from unpd.master.listener import METRICS, STORED_PREFIX, Open, Wish
from unpd.master.supervision import Store
from unpd.records import record

_METRICS_OPTIONS = ListenOptions(
    backlog=128, ipv6_only=False, keepalive=True, user_timeout_s=10.0, mode=0o666
)
_STORED = re.compile(rf"{STORED_PREFIX}(.+)-([0-9]{{1,20}})")
_NOBODYS = Wish("", "", UnixAddress("/"), _METRICS_OPTIONS)
"""For a listener that is only to be closed."""


@record
class Kept:
    """A listener of an earlier life: its name in the store, and the inode of the file
    that led to it (0: no UNIX socket).
    """

    stored_as: str
    sock: socket.socket
    inode: int


class Supply:
    """Gives each wish its listener. ``store`` is where those that we open are left, in
    case we die.
    """

    def __init__(self, passed: Iterable[Passed] = (), store: Store | None = None) -> None:
        """Take over the listeners among ``passed``. AddressError for a passed
        descriptor that is none.
        """
        self.store = store or Store()
        self._passed: dict[str, list[socket.socket]] = {}
        self._kept: dict[str, Kept] = {}
        for one in passed:
            sock = _listener(one)
            stored = _STORED.fullmatch(one.name)
            if stored:
                self._remember(stored, sock)
            elif sock is None:
                raise AddressError(
                    f"systemd passes {one.name}, which is no listening stream socket: its socket"
                    " unit needs ListenStream= and Accept=no"
                )
            else:
                sock.setblocking(False)
                self._passed.setdefault(one.name, []).append(sock)
        self._refuse_doubles()

    def _remember(self, stored: re.Match[str], sock: socket.socket | None) -> None:
        """What is no listener any more, or stored twice, is of no use to the next life
        either.
        """
        key, inode = stored.groups()
        if sock is None or key in self._kept:
            self.store.forget(stored.group())
            if sock is not None:
                sock.close()
        else:
            self._kept[key] = Kept(stored.group(), sock, int(inode))

    def _refuse_doubles(self) -> None:
        """Sockets with ReusePort= share an address, and nobody could tell them apart in
        a log or a metric.
        """
        texts = [_bound(sock).text for socks in self._passed.values() for sock in socks]
        for text in texts:
            if texts.count(text) > 1:
                raise AddressError(
                    f"systemd passes {text} more than once: let one socket unit have it, without"
                    " ReusePort="
                )

    def wishes(self, config: Config) -> tuple[Wish, ...]:
        """Every listener of ``config``, the exporter's last. AddressError for a name
        under which nothing is passed, and for a passed listener that nobody names.
        """
        found = tuple(self._wishes(config))
        named = {wish.address.name for wish in found if isinstance(wish.address, SystemdAddress)}
        for name in sorted(set(self._passed) - named):
            where = ", ".join(_bound(sock).text for sock in self._passed[name])
            raise AddressError(
                f"systemd passes {where} as {name}, and nothing listens on it: write"
                f' "systemd:{name}" into a listen, or disable its socket unit'
            )
        return found

    def _wishes(self, config: Config) -> Iterator[Wish]:
        for name, service in config.services.items():
            options = ListenOptions(
                service.backlog,
                service.ipv6_only,
                service.keepalive,
                service.user_timeout_s,
                service.socket_mode,
            )
            for index, address in enumerate(service.listen):
                yield from self._of(name, index, address, options)
        if config.metrics.listen is not None:
            yield from self._of(METRICS, 0, config.metrics.listen, _METRICS_OPTIONS)

    def _of(
        self, service: str, index: int, address: Address, options: ListenOptions
    ) -> Iterator[Wish]:
        if not isinstance(address, SystemdAddress):
            yield Wish(_key(service, index, address), service, address, options)
            return
        passed = self._passed.get(address.name, ())
        wish = Wish(address.text, service, address, options)
        if not passed:
            names = (
                f"it passes {', '.join(sorted(self._passed))}"
                if self._passed
                else "it passes none at all"
            )
            raise AddressError(
                f"{wish.owner} cannot listen on {address.text}: systemd passes no listener of that"
                f" name, {names}"
            )
        if service == METRICS and len(passed) > 1:
            raise AddressError(
                f"{wish.owner} cannot listen on {address.text}: systemd passes {len(passed)}"
                " listeners of that name, and it takes one"
            )
        for nth in range(len(passed)):
            yield Wish(f"{address.text}#{nth}", service, address, options, nth)

    def open(self, wish: Wish) -> Open:
        """The listener for ``wish``. AddressError (in use, missing) or PrivilegeError
        in one sentence.
        """
        try:
            if isinstance(wish.address, SystemdAddress):
                sock = self._passed[wish.address.name][wish.nth]
                sockets.tune(sock, wish.options)
                return Open(wish, sock, _bound(sock))
            return self._take_back(wish) or _open(wish)
        except socket.gaierror as error:
            raise AddressError(
                f"{wish.owner} cannot listen on {wish.address.text}: this host has no such"
                " interface"
            ) from error
        except OSError as error:
            raise _sentence(wish, error) from error

    def settle(self, wishes: Iterable[Wish]) -> list[str]:
        """End what the store has and these wishes, the first ones, have not, before any
        listener is opened: it may be in the way. Return the addresses.
        """
        wished = {wish.stored_key: wish for wish in wishes}
        ended = []
        for key, kept in list(self._kept.items()):
            wish = wished.get(key)
            if wish is None or not _answers(kept, wish):
                del self._kept[key]
                ended.append(_bound(kept.sock).text)
                told = self.store.forget(kept.stored_as)
                Open(_NOBODYS, kept.sock, _bound(kept.sock), kept.inode, kept=not told).close()
        if ended:
            self.store.settle()
        return sorted(ended)

    def _take_back(self, wish: Wish) -> Open | None:
        """What the store has for ``wish``, after :meth:`settle`."""
        kept = self._kept.pop(wish.stored_key, None)
        if kept is None:
            return None
        kept.sock.setblocking(False)
        listener = Open(wish, kept.sock, _bound(kept.sock), kept.inode, kept=True)
        listener.retune(wish.options)
        return listener


def _key(service: str, index: int, address: BoundAddress) -> str:
    """The address itself; but any number of listeners may ask for a free port, and they
    are told apart by their place.
    """
    if isinstance(address, TcpAddress) and address.port == 0:
        return f"{service}#{index} {address.text}"
    return address.text


def _listener(passed: Passed) -> socket.socket | None:
    """The passed descriptor as a socket, if it is a listening one of a family that we
    know; closed if not.
    """
    try:
        sock = socket.socket(fileno=passed.fd)
    except OSError:
        os.close(passed.fd)
        return None
    if sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) and sockets.is_listening(
        sock
    ):
        return sock
    sock.close()
    return None


def _bound(sock: socket.socket) -> BoundAddress:
    """Where it listens."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return UnixAddress(
            os.fsdecode(name) if isinstance(name, str) else f"@{os.fsdecode(name[1:])}"
        )
    scope = (
        f"%{socket.if_indextoname(name[3])}"
        if sock.family == socket.AF_INET6 and name[3] and "%" not in name[0]
        else ""
    )
    return TcpAddress(f"{name[0]}{scope}", name[1])


def _answers(kept: Kept, wish: Wish) -> bool:
    """Whether a listener from the store is what is wished: a client that goes to that
    address arrives there.
    """
    bound, wished = _bound(kept.sock), wish.address
    if not sockets.take_again(kept.sock):
        return False
    if isinstance(wished, TcpAddress) and isinstance(bound, TcpAddress):
        if (
            kept.sock.family == socket.AF_INET6
            and sockets.is_ipv6_only(kept.sock) != wish.options.ipv6_only
        ):
            return False
        hosts = (
            {wished.host, "0.0.0.0"}
            if wished.host == "::" and not wish.options.ipv6_only
            else {wished.host}
        )  # see sockets.listen_tcp
        return bound.host in hosts and wished.port in (0, bound.port)
    return bound == wished and kept.inode == _inode(bound)


def _inode(address: BoundAddress) -> int | None:
    """Of a UNIX socket's file; None where there is none."""
    try:
        there = os.lstat(address.path if isinstance(address, UnixAddress) else "")
    except OSError:
        return None
    return there.st_ino if stat.S_ISSOCK(there.st_mode) else None


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
