"""The targets of one redirect in one worker: their order, their addresses, what is
counted about them, and the log lines about those that fail.

A target that begins to fail, or is back, is one line; so is a client for which no
target could be reached. Clients cause these, so that each sort has one line a second at
most.

Owns the rotation, and the addresses by :mod:`unpd.worker.redirect.names`. Made by the
worker, one for each redirect; called by the dials of its sessions. Counts in the
ledger. Raises nothing.
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unpd.access.proxy_header import endpoint_of, written
from unpd.board import layout
from unpd.kernel.connections import address_text, local_address
from unpd.kernel.outgoing import ConnectOptions, SocketAddress, numeric_address
from unpd.line_limit import LineLimit
from unpd.names import CONNECT_FAILURES
from unpd.services.redirect import RedirectOptions, Target, UnixTarget
from unpd.worker.event.shared import Shared
from unpd.worker.redirect.names import Addresses, Fixed, Names
from unpd.worker.redirect.rotation import Rotation

UNRESOLVED = "unresolved"
_OTHER = len(CONNECT_FAILURES) - 1
_PLACES = {label: place for place, label in enumerate(CONNECT_FAILURES)}
_OUR_SHORTAGES = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
)
"""Errors that say nothing about the target: this host lacks something."""


@dataclass(frozen=True, slots=True)
class TargetsSetup:
    """A redirect as a worker gets it. ``service``: its name. ``columns``: those of its
    targets on the scoreboard. ``connect``: the options of its connections.
    """

    service: str
    options: RedirectOptions
    columns: Sequence[int]
    connect: ConnectOptions


@dataclass(slots=True)
class _Target:
    """One target. ``word``: where the row counts it. ``failing``: no connect has
    succeeded since the last failure.
    """

    text: str
    word: int
    addresses: Addresses
    failing: bool = False
    lines: LineLimit = field(default_factory=LineLimit)


class Targets:
    """The targets of a redirect. Each is known by its place in ``to``.

    ``connect_timeout_s``: how long each connect may take; ``connect``: its options.
    """

    def __init__(self, setup: TargetsSetup, names: Names) -> None:
        options = setup.options
        self.connect_timeout_s = options.connect_timeout_s
        self._send_proxy = options.send_proxy
        self.connect = setup.connect
        self._service = setup.service
        self._rotation = Rotation(len(options.to), options.retry_s)
        self._retry_s = options.retry_s
        self._targets = [
            _Target(target.text, layout.target_cells(column), _addresses(target, options, names))
            for target, column in zip(options.targets, setup.columns, strict=True)
        ]
        self._unreached = LineLimit()

    def order(self, now: float) -> list[int]:
        """The targets in the order in which a new client tries them."""
        return self._rotation.order(now)

    def addresses(self, target: int) -> Addresses:
        """The addresses of a target."""
        return self._targets[target].addresses

    def takes_splices(self, target: int) -> bool:
        """Whether bytes may be spliced into a target (see unpd/worker/main.py)."""
        return not self.text(target).startswith("unix:")

    def text(self, target: int) -> str:
        """A target as the configuration writes it."""
        return self._targets[target].text

    def header(self, peer: bytes, told_local: bytes, client_fd: int) -> bytes:
        """What a target is sent before the first byte of a client: the header of the
        PROXY protocol, or nothing. ``told_local``: the address to which the client has
        connected, if a load balancer told it; else b"". OSError if the client has gone.
        """
        if not self._send_proxy:
            return b""
        local = told_local or local_address(client_fd)
        return written(self._send_proxy, endpoint_of(peer), endpoint_of(local))

    def connected(self, target: int, shared: Shared) -> None:
        """Count a connection that was made."""
        found = self._targets[target]
        shared.ledger.target_connected(found.word)
        self._rotation.succeeded(target)
        if found.failing:
            found.failing = False
            shared.log.event("target.back", service=self._service, target=found.text)

    def refused(self, target: int, number: int, shared: Shared) -> None:
        """Count a connect to one address that failed with the errno ``number``."""
        place = _PLACES.get(errno.errorcode.get(number, ""), _OTHER)
        shared.ledger.target_failed(self._targets[target].word, place)

    def unresolved(self, target: int, shared: Shared) -> None:
        """Count a name without an address, and leave its target out."""
        found = self._targets[target]
        shared.ledger.target_failed(found.word, _PLACES[UNRESOLVED])
        self._leave_out(target, f"no address: {found.addresses.reason or 'no answer'}", shared)

    def failed(self, target: int, number: int, shared: Shared) -> None:
        """Leave a target out: connects to all its addresses failed, the last one with
        the errno ``number``.
        """
        if number not in _OUR_SHORTAGES:
            self._leave_out(target, os.strerror(number), shared)

    def unreached(self, peer: bytes, shared: Shared) -> None:
        """Log that a client reaches no target."""
        suppressed = self._unreached.take(shared.now)
        if suppressed is not None:
            shared.log.event(
                "redirect.no_target",
                service=self._service,
                peer=address_text(peer),
                suppressed=suppressed,
            )

    def _leave_out(self, target: int, reason: str, shared: Shared) -> None:
        found = self._targets[target]
        self._rotation.failed(target, shared.now)
        if found.failing:
            return
        suppressed = found.lines.take(shared.now)
        if suppressed is None:
            return
        found.failing = True
        shared.log.event(
            "target.failed",
            service=self._service,
            target=found.text,
            reason=reason,
            retry_in_s=self._retry_s,
        )


def _addresses(target: Target, options: RedirectOptions, names: Names) -> Addresses:
    if isinstance(target, UnixTarget):
        return Fixed(_constant((socket.AF_UNIX, target.path)))
    if target.is_name:
        return names.add(target.host, target.port, options.resolve_s)
    if "%" in target.host:  # the number of an interface changes when it is made anew
        return Fixed(lambda: numeric_address(target.host, target.port))
    return Fixed(_constant(numeric_address(target.host, target.port)))


def _constant(address: SocketAddress) -> Callable[[], SocketAddress]:
    return lambda: address
