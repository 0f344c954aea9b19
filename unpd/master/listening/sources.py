"""The sources of listeners: the service manager passes them (``systemd:NAME``), or its
descriptor store has them from an earlier master, or this master opens them.

Called by boot and by :class:`unpd.master.listening.table.Listeners`; calls
:mod:`unpd.kernel.sockets`. Errors: AddressError or PrivilegeError, each one sentence
that names the service and the address.
"""

import errno
import os
import re
import shlex
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
_UNWANTED = WantedListener("", "", UnixAddress("/"), _METRICS_OPTIONS)
"""The wanted part of a stored listener that is only opened to be closed."""


@dataclass(frozen=True, slots=True)
class StoredListener:
    """A listener of an earlier master. ``stored_as``: its name in the descriptor store.
    ``inode``: that of the file that led to it (0: it is no UNIX socket).
    """

    stored_as: str
    sock: socket.socket
    inode: int


class ListenerSources:
    """The sources. ``store`` keeps duplicates of the listeners that this master opens,
    for the next master.
    """

    def __init__(self, passed: Iterable[Passed] = (), store: DescriptorStore | None = None) -> None:
        """Take over the listeners among ``passed``. AddressError for a descriptor of a
        socket unit that is no listener.
        """
        self.store = store or DescriptorStore()
        self._passed: dict[str, list[socket.socket]] = {}
        self._stored: dict[str, StoredListener] = {}
        for descriptor in passed:
            name, sock = descriptor.name, _as_listener(descriptor)
            stored_name = _STORED.fullmatch(name)
            if stored_name:
                self._take_stored(stored_name, sock)
            elif sock is None:
                raise AddressError(
                    f"systemd passes {name}, which is no listening stream socket: its socket"
                    " unit needs ListenStream= and Accept=no"
                )
            else:
                sock.setblocking(False)
                self._passed.setdefault(name, []).append(sock)
        self._refuse_doubles()

    def _take_stored(self, stored_name: re.Match[str], sock: socket.socket | None) -> None:
        """Take over a stored listener. Remove it from the store if it no longer listens
        or if the store has it twice.
        """
        key, inode = stored_name.groups()
        if sock is None or key in self._stored:
            self.store.remove(stored_name.group())
            if sock is not None:
                sock.close()
        else:
            self._stored[key] = StoredListener(stored_name.group(), sock, int(inode))

    def _refuse_doubles(self) -> None:
        """Refuse two passed sockets that share an address (ReusePort=): log lines and
        metrics could not distinguish them.
        """
        texts = [_bound_address(sock).text for socks in self._passed.values() for sock in socks]
        for text in texts:
            if texts.count(text) > 1:
                raise AddressError(
                    f"systemd passes {text} more than once: let one socket unit have it, without"
                    " ReusePort="
                )

    def wanted_listeners(self, config: Config) -> tuple[WantedListener, ...]:
        """Return every listener of ``config``, the exporter's last. AddressError for a
        name under which systemd passes nothing, and for a passed listener that no key
        names.
        """
        found = tuple(self._each_wanted(config))
        addresses = [wanted.address for wanted in found]
        named = {address.name for address in addresses if isinstance(address, SystemdAddress)}
        for name in sorted(set(self._passed) - named):
            where = ", ".join(_bound_address(sock).text for sock in self._passed[name])
            raise AddressError(
                f"systemd passes {where} as {name}, and nothing listens on it: write"
                f' "systemd:{name}" into a listen, or disable its socket unit'
            )
        return found

    def _each_wanted(self, config: Config) -> Iterator[WantedListener]:
        for name, service in config.services.items():
            options = ListenOptions(
                backlog=service.backlog,
                ipv6_only=service.ipv6_only,
                keepalive=service.keepalive,
                user_timeout_s=service.user_timeout_s,
                mode=service.socket_mode,
            )
            for index, address in enumerate(service.listen):
                yield from self._wanted_at(name, index, address, options)
        if config.metrics.listen is not None:
            yield from self._wanted_at(METRICS, 0, config.metrics.listen, _METRICS_OPTIONS)

    def _wanted_at(
        self, service: str, index: int, address: Address, options: ListenOptions
    ) -> Iterator[WantedListener]:
        """The listeners at one configured address. systemd may pass more than one."""
        if not isinstance(address, SystemdAddress):
            yield WantedListener(_key(service, index, address), service, address, options)
            return
        passed = self._passed.get(address.name, ())
        wanted = WantedListener(address.text, service, address, options)
        if not passed:
            names = ", ".join(sorted(self._passed)) or "none at all"
            raise AddressError(
                f"{wanted.owner} cannot listen on {address.text}: systemd passes no listener of"
                f" that name, it passes {names}"
            )
        if service == METRICS and len(passed) > 1:
            raise AddressError(
                f"{wanted.owner} cannot listen on {address.text}: systemd passes {len(passed)}"
                " listeners of that name, and it takes one"
            )
        for nth in range(len(passed)):
            yield WantedListener(f"{address.text}#{nth}", service, address, options, nth)

    def open(self, wanted: WantedListener) -> OpenListener:
        """Return the wanted listener, open. AddressError (in use, missing) or
        PrivilegeError in one sentence.
        """
        try:
            if isinstance(wanted.address, SystemdAddress):
                sock = self._passed[wanted.address.name][wanted.nth]
                sockets.apply_options(sock, wanted.options)
                return OpenListener(wanted, sock, _bound_address(sock))
            return self._open_stored(wanted) or _open(wanted)
        except socket.gaierror as error:
            raise AddressError(
                f"{wanted.owner} cannot listen on {wanted.address.text}: this host has no such"
                " interface"
            ) from error
        except OSError as error:
            raise _refusal(wanted, error) from error

    def settle(self, wanted_listeners: Iterable[WantedListener]) -> list[str]:
        """End each stored listener that the first configuration does not want. Return
        their addresses.

        Called before any listener is opened, because a stored one may hold an address
        that another one needs.
        """
        by_key = {wanted.stored_key: wanted for wanted in wanted_listeners}
        ended = []
        for key, stored in list(self._stored.items()):
            wanted = by_key.get(key)
            if wanted is None or not _suits(stored, wanted):
                del self._stored[key]
                ended.append(self._end_stored(stored))
        if ended:
            self.store.wait()
        return sorted(ended)

    def _end_stored(self, stored: StoredListener) -> str:
        """Close the listener here and in the store; return its address."""
        address = _bound_address(stored.sock)
        removed = self.store.remove(stored.stored_as)
        OpenListener(_UNWANTED, stored.sock, address, stored.inode, stored=not removed).close()
        return address.text

    def _open_stored(self, wanted: WantedListener) -> OpenListener | None:
        """Return the stored listener of that key, if there is one. :meth:`settle` has
        ended the others.
        """
        stored = self._stored.pop(wanted.stored_key, None)
        if stored is None:
            return None
        stored.sock.setblocking(False)
        address = _bound_address(stored.sock)
        listener = OpenListener(wanted, stored.sock, address, stored.inode, stored=True)
        listener.retune(wanted.options)
        return listener


def _key(service: str, index: int, address: BoundAddress) -> str:
    """Return the identity of a listener: its address, and for port 0 also its place,
    because several listeners may want a free port.
    """
    if isinstance(address, TcpAddress) and address.port == 0:
        return f"{service}#{index} {address.text}"
    return address.text


def _as_listener(passed: Passed) -> socket.socket | None:
    """Return the passed descriptor as a socket if it listens and its family is known.
    Otherwise close it and return None.
    """
    try:
        sock = socket.socket(fileno=passed.fd)
    except OSError:
        os.close(passed.fd)
        return None
    known = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if known and sockets.is_listening(sock):
        return sock
    sock.close()
    return None


def _bound_address(sock: socket.socket) -> BoundAddress:
    """Return the address on which the socket listens."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        # The name of an abstract socket is bytes, and begins with a zero (unix(7)).
        return UnixAddress(name if isinstance(name, str) else f"@{os.fsdecode(name[1:])}")
    host, port = name[:2]
    if sock.family == socket.AF_INET6 and name[3] and "%" not in host:
        host = f"{host}%{socket.if_indextoname(name[3])}"
    return TcpAddress(host, port)


def _suits(stored: StoredListener, wanted: WantedListener) -> bool:
    """Whether clients of the wanted address would reach the stored listener."""
    bound, address = _bound_address(stored.sock), wanted.address
    if not sockets.allow_new_handshakes(stored.sock):
        return False
    if isinstance(address, TcpAddress) and isinstance(bound, TcpAddress):
        return _suits_tcp(stored.sock, bound, address, ipv6_only=wanted.options.ipv6_only)
    return bound == address and stored.inode == _inode(bound)


def _suits_tcp(
    sock: socket.socket, bound: TcpAddress, address: TcpAddress, *, ipv6_only: bool
) -> bool:
    """Whether a TCP listener suits. 0.0.0.0 stands for ``::`` if the kernel has no IPv6
    (sockets.listen_tcp).
    """
    if sock.family == socket.AF_INET6 and sockets.is_ipv6_only(sock) != ipv6_only:
        return False
    hosts = {address.host}
    if address.host == "::" and not ipv6_only:
        hosts.add("0.0.0.0")
    return bound.host in hosts and address.port in (0, bound.port)


def _inode(address: BoundAddress) -> int | None:
    """Return the inode of the UNIX socket's file; None if there is no such file."""
    try:
        status = os.lstat(address.path if isinstance(address, UnixAddress) else "")
    except OSError:
        return None
    return status.st_ino if stat.S_ISSOCK(status.st_mode) else None


def _open(wanted: WantedListener) -> OpenListener:
    if isinstance(wanted.address, UnixAddress):
        sock = sockets.listen_unix(wanted.address.path, wanted.options)
        return OpenListener(wanted, sock, wanted.address, os.lstat(wanted.address.path).st_ino)
    if isinstance(wanted.address, TcpAddress):
        sock = sockets.listen_tcp(wanted.address.host, wanted.address.port, wanted.options)
        return OpenListener(wanted, sock, _bound_address(sock))
    raise AssertionError("the service manager opens a passed listener")


_REASONS: Mapping[int, str] = MappingProxyType(
    {
        errno.EADDRINUSE: "the address is in use by another program",
        errno.EADDRNOTAVAIL: "this host has no such address",
        errno.EAFNOSUPPORT: "this kernel does not know the address family",
        errno.ENOENT: "the directory does not exist",
        errno.ENOTDIR: "the directory does not exist",
        errno.EEXIST: "something that is not a socket is there; move it away first",
    }
)
"""The reasons why a listener cannot be opened, as the end of a sentence."""


def _refusal(wanted: WantedListener, error: OSError) -> UnpdError:
    start = f"{wanted.owner} cannot listen on {wanted.address.text}: "
    if isinstance(error, PermissionError):
        if isinstance(wanted.address, UnixAddress):
            return PrivilegeError(f"{start}this user may not make a socket there")
        return PrivilegeError(f"{start}a port below 1024 needs root or CAP_NET_BIND_SERVICE")
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return AddressError(start + reason + _how_to_find(wanted, error))


def _how_to_find(wanted: WantedListener, error: OSError) -> str:
    """Return the command that shows by which program an address is in use."""
    if error.errno != errno.EADDRINUSE:
        return ""
    if isinstance(wanted.address, TcpAddress):
        return f"; to see which, run: ss -ltnp sport = :{wanted.address.port}"
    path = wanted.address.text.removeprefix("unix://")
    return f"; to see which, run: ss -lxp | grep -F {shlex.quote(path)}"
