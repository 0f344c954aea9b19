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
from dataclasses import dataclass
from types import MappingProxyType

from unpd.config.addresses import Address, BoundAddress, SystemdAddress, TcpAddress, UnixAddress
from unpd.config.schema import Config
from unpd.errors import AddressError, PrivilegeError, UnpdError
from unpd.kernel import sockets
from unpd.kernel.activation import Passed
from unpd.kernel.sockets import ListenOptions
from unpd.master.listening.listener import METRICS, STORED_PREFIX, OpenListener, WantedListener
from unpd.master.systemd.offers import DescriptorStore

_METRICS_OPTIONS = ListenOptions(
    backlog=128, ipv6_only=False, keepalive=True, user_timeout_s=10.0, mode=0o666
)
_STORED = re.compile(rf"{STORED_PREFIX}(.+)-([0-9]{{1,20}})")
_NOBODYS = WantedListener("", "", UnixAddress("/"), _METRICS_OPTIONS)
"""For a listener that is only to be closed."""


@dataclass(frozen=True, slots=True)
class StoredListener:
    """A listener of an earlier life: its name in the store, and the inode of the file
    that led to it (0: no UNIX socket).
    """

    stored_as: str
    sock: socket.socket
    inode: int


class ListenerSources:
    """Gives each wish its listener. ``store`` is where those that we open are left, in
    case we die.
    """

    def __init__(self, passed: Iterable[Passed] = (), store: DescriptorStore | None = None) -> None:
        """Take over the listeners among ``passed``. AddressError for a passed
        descriptor that is none.
        """
        self.store = store or DescriptorStore()
        self._passed: dict[str, list[socket.socket]] = {}
        self._kept: dict[str, StoredListener] = {}
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
            self._kept[key] = StoredListener(stored.group(), sock, int(inode))

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

    def wanted_listeners(self, config: Config) -> tuple[WantedListener, ...]:
        """Every listener of ``config``, the exporter's last. AddressError for a name
        under which nothing is passed, and for a passed listener that nobody names.
        """
        found = tuple(self._wishes(config))
        named = {
            wanted.address.name for wanted in found if isinstance(wanted.address, SystemdAddress)
        }
        for name in sorted(set(self._passed) - named):
            where = ", ".join(_bound(sock).text for sock in self._passed[name])
            raise AddressError(
                f"systemd passes {where} as {name}, and nothing listens on it: write"
                f' "systemd:{name}" into a listen, or disable its socket unit'
            )
        return found

    def _wishes(self, config: Config) -> Iterator[WantedListener]:
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
    ) -> Iterator[WantedListener]:
        if not isinstance(address, SystemdAddress):
            yield WantedListener(_key(service, index, address), service, address, options)
            return
        passed = self._passed.get(address.name, ())
        wanted = WantedListener(address.text, service, address, options)
        if not passed:
            names = (
                f"it passes {', '.join(sorted(self._passed))}"
                if self._passed
                else "it passes none at all"
            )
            raise AddressError(
                f"{wanted.owner} cannot listen on {address.text}: systemd passes no listener of"
                f" that name, {names}"
            )
        if service == METRICS and len(passed) > 1:
            raise AddressError(
                f"{wanted.owner} cannot listen on {address.text}: systemd passes {len(passed)}"
                " listeners of that name, and it takes one"
            )
        for nth in range(len(passed)):
            yield WantedListener(f"{address.text}#{nth}", service, address, options, nth)

    def open(self, wanted: WantedListener) -> OpenListener:
        """The listener for ``wish``. AddressError (in use, missing) or PrivilegeError
        in one sentence.
        """
        try:
            if isinstance(wanted.address, SystemdAddress):
                sock = self._passed[wanted.address.name][wanted.nth]
                sockets.apply_options(sock, wanted.options)
                return OpenListener(wanted, sock, _bound(sock))
            return self._take_back(wanted) or _open(wanted)
        except socket.gaierror as error:
            raise AddressError(
                f"{wanted.owner} cannot listen on {wanted.address.text}: this host has no such"
                " interface"
            ) from error
        except OSError as error:
            raise _sentence(wanted, error) from error

    def settle(self, wanted_listeners: Iterable[WantedListener]) -> list[str]:
        """End what the store has and these wishes, the first ones, have not, before any
        listener is opened: it may be in the way. Return the addresses.
        """
        wished = {wanted.stored_key: wanted for wanted in wanted_listeners}
        ended = []
        for key, kept in list(self._kept.items()):
            wanted = wished.get(key)
            if wanted is None or not _answers(kept, wanted):
                del self._kept[key]
                ended.append(_bound(kept.sock).text)
                told = self.store.forget(kept.stored_as)
                OpenListener(
                    _NOBODYS, kept.sock, _bound(kept.sock), kept.inode, kept=not told
                ).close()
        if ended:
            self.store.settle()
        return sorted(ended)

    def _take_back(self, wanted: WantedListener) -> OpenListener | None:
        """What the store has for ``wish``, after :meth:`settle`."""
        kept = self._kept.pop(wanted.stored_key, None)
        if kept is None:
            return None
        kept.sock.setblocking(False)
        listener = OpenListener(wanted, kept.sock, _bound(kept.sock), kept.inode, kept=True)
        listener.retune(wanted.options)
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


def _answers(kept: StoredListener, wanted: WantedListener) -> bool:
    """Whether a listener from the store is what is wished: a client that goes to that
    address arrives there.
    """
    bound, wished = _bound(kept.sock), wanted.address
    if not sockets.allow_new_handshakes(kept.sock):
        return False
    if isinstance(wished, TcpAddress) and isinstance(bound, TcpAddress):
        if (
            kept.sock.family == socket.AF_INET6
            and sockets.is_ipv6_only(kept.sock) != wanted.options.ipv6_only
        ):
            return False
        hosts = (
            {wished.host, "0.0.0.0"}
            if wished.host == "::" and not wanted.options.ipv6_only
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


def _open(wanted: WantedListener) -> OpenListener:
    if isinstance(wanted.address, UnixAddress):
        sock = sockets.listen_unix(wanted.address.path, wanted.options)
        return OpenListener(wanted, sock, wanted.address, os.lstat(wanted.address.path).st_ino)
    if isinstance(wanted.address, TcpAddress):
        sock = sockets.listen_tcp(wanted.address.host, wanted.address.port, wanted.options)
        return OpenListener(wanted, sock, _bound(sock))
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


def _sentence(wanted: WantedListener, error: OSError) -> UnpdError:
    start = f"{wanted.owner} cannot listen on {wanted.address.text}: "
    if isinstance(error, PermissionError):
        if isinstance(wanted.address, UnixAddress):
            return PrivilegeError(f"{start}this user may not make a socket there")
        return PrivilegeError(f"{start}a port below 1024 needs root or CAP_NET_BIND_SERVICE")
    return AddressError(start + _WHY.get(error.errno or 0, error.strerror or str(error)))
