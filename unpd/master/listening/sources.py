"""The sources of listeners: the service manager passes them (``systemd:NAME``), or its
descriptor store has them from an earlier master, or this master opens them.

Called by boot and by :class:`unpd.master.listening.table.Listeners`; calls
:mod:`unpd.kernel.sockets`. Errors: AddressError or PrivilegeError, each one sentence
that names the service and the address.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from unpd.config.addresses import (
    Address,
    BoundAddress,
    InternetAddress,
    SystemdAddress,
)
from unpd.config.schema import Config
from unpd.config.service_types import Kinds, kinds_of
from unpd.errors import AddressError
from unpd.kernel import datagrams, sockets
from unpd.kernel.activation import Passed
from unpd.kernel.sockets import ListenOptions
from unpd.master.listening.listener import OpenListener, WantedListener
from unpd.master.listening.opening import REFUSALS, adopted, bound_address, open_new, refusal
from unpd.master.listening.stored import StoredListeners
from unpd.master.systemd.offers import DescriptorStore
from unpd.names import METRICS
from unpd.services.program import ProgramOptions

_METRICS_OPTIONS = ListenOptions(
    backlog=128, ipv6_only=False, keepalive=True, user_timeout_s=10.0, mode=0o666
)
PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)
"""What a passed socket may speak; 0 is that of UNIX sockets."""

_OTHER_PROTOCOLS: Mapping[int, str] = MappingProxyType(
    {socket.IPPROTO_SCTP: "SCTP", socket.IPPROTO_UDPLITE: "UDP-Lite", 262: "MPTCP"}
)
"""Those that SocketProtocol= of a socket unit can name (systemd.socket(5))."""


class ListenerSources:
    """The sources. ``store`` keeps duplicates of the listeners that this master opens,
    for the next master. ``stored`` are those of an earlier one.
    """

    def __init__(self, passed: Iterable[Passed] = (), store: DescriptorStore | None = None) -> None:
        """Take over the listeners among ``passed``. AddressError for a descriptor of a
        socket unit that is no listener.
        """
        self.store = store or DescriptorStore()
        self.stored = StoredListeners(self.store)
        self._passed: dict[str, list[socket.socket]] = {}
        for descriptor in passed:
            name, sock = descriptor.name, _as_listener(descriptor)
            if self.stored.takes(name):
                self.stored.take(name, sock)
            elif sock is None:
                raise AddressError(
                    f"systemd passes {name}, which is no listening stream socket and no datagram"
                    " socket: its socket unit needs ListenStream= and Accept=no, or"
                    " ListenDatagram="
                )
            else:
                sock.setblocking(False)
                self._passed.setdefault(name, []).append(sock)
        self._refuse_doubles()

    def _refuse_doubles(self) -> None:
        """Refuse two passed sockets that share an address (ReusePort=): log lines and
        metrics could not distinguish them.
        """
        texts = [bound_address(sock).text for socks in self._passed.values() for sock in socks]
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
        self._refuse_kinds(config)
        addresses = [wanted.address for wanted in found]
        named = {address.name for address in addresses if isinstance(address, SystemdAddress)}
        for name in sorted(set(self._passed) - named):
            where = ", ".join(bound_address(sock).text for sock in self._passed[name])
            raise AddressError(
                f"systemd passes {where} as {name}, and nothing listens on it: write"
                f' "systemd:{name}" into a listen, or disable its socket unit'
            )
        return found

    def _refuse_kinds(self, config: Config) -> None:
        """Refuse a passed datagram socket where only streams are served, the reverse,
        and a socket of another protocol.
        """
        self._refuse_kind("the metrics exporter", config.metrics.listen, (True, False))
        for name, service in config.services.items():
            for address in service.listen:
                self._refuse_kind(f"service {name}", address, kinds_of(service.type))

    def _refuse_kind(self, owner: str, address: Address | None, served: Kinds) -> None:
        """``served``: whether the owner serves streams, and datagrams."""
        if not isinstance(address, SystemdAddress):
            return
        for sock in self._passed.get(address.name, ()):
            if sock.proto not in PROTOCOLS:
                protocol = _OTHER_PROTOCOLS.get(sock.proto, f"protocol {sock.proto}")
                raise AddressError(
                    f"{owner} cannot listen on {address.text}: systemd passes a socket of"
                    f" {protocol}: remove SocketProtocol= from its socket unit"
                )
            is_datagram = sock.type == socket.SOCK_DGRAM
            if not served[is_datagram]:
                key = "ListenStream=" if is_datagram else "ListenDatagram="
                raise AddressError(
                    f"{owner} cannot listen on {address.text}: systemd passes"
                    f" {bound_address(sock).text}, and its socket unit needs {key}"
                )

    def _each_wanted(self, config: Config) -> Iterator[WantedListener]:
        for name, service in config.services.items():
            options = ListenOptions(
                backlog=service.backlog,
                ipv6_only=service.ipv6_only,
                keepalive=service.keepalive,
                user_timeout_s=service.user_timeout_s,
                mode=service.socket_mode,
            )
            is_lent = isinstance(service.options, ProgramOptions) and service.options.takes_socket
            for index, address in enumerate(service.listen):
                for wanted in self._wanted_at(name, index, address, options):
                    yield replace(wanted, is_lent=is_lent)
        metrics = config.metrics
        if metrics.listen is not None:
            for wanted in self._wanted_at(METRICS, 0, metrics.listen, _METRICS_OPTIONS):
                yield replace(wanted, is_required=metrics.required)

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
                listener = adopted(wanted, sock)
                listener.retune(wanted.options)
                return listener.noted()
            return self.stored.open(wanted) or open_new(wanted)
        except REFUSALS as error:
            raise refusal(wanted, error) from error

    def plan(self, wanted: WantedListener) -> OpenListener:
        """Return the listener as :meth:`open` would, on a socket that is bound nowhere,
        or on a duplicate of one that was passed. The caller closes it.
        """
        if isinstance(wanted.address, SystemdAddress):
            return adopted(wanted, self._passed[wanted.address.name][wanted.nth].dup())
        return OpenListener(wanted, socket.socket(socket.AF_UNIX), wanted.address)


def _key(service: str, index: int, address: BoundAddress) -> str:
    """Return the identity of a listener: its address, and for port 0 also its place,
    because several listeners may want a free port.
    """
    if isinstance(address, InternetAddress) and address.port == 0:
        return f"{service}#{index} {address.text}"
    return address.text


def _as_listener(passed: Passed) -> socket.socket | None:
    """Return the passed descriptor as a socket if it listens, or takes datagrams, and
    its family is known. Otherwise close it and return None.
    """
    try:
        sock = socket.socket(fileno=passed.fd)
    except OSError:
        os.close(passed.fd)
        return None
    known = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if known and (sockets.is_listening(sock) or datagrams.is_open(sock)):
        return sock
    sock.close()
    return None
