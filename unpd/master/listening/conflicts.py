"""Finds the listener of unpd's own that holds the address which a reload wants.

The kernel says only that the address is in use. A reload opens what it adds before it
closes what it removes, because a refused configuration must change nothing. So one
address of a port cannot take the place of another that overlaps it.

Called by the tables of open and of closed listeners; calls :mod:`unpd.kernel`. Raises
AddressError.
"""

import socket
from collections.abc import Iterable

from unpd.config.addresses import BoundAddress, InternetAddress
from unpd.errors import AddressError
from unpd.kernel import interfaces, sockets
from unpd.master.listening.listener import OpenListener, WantedListener


def refuse_conflict(
    wanted: WantedListener, opened: Iterable[OpenListener], kept: Iterable[str]
) -> None:
    """AddressError if one of ``opened`` holds the address of ``wanted``. ``kept`` are
    the keys of those that stay open.
    """
    conflict = next((listener for listener in opened if _conflicts(listener, wanted)), None)
    if conflict is None:
        return
    remedy = (
        "use another port"
        if conflict.wanted.key in kept
        else "a reload cannot exchange the two, restart unpd"
    )
    raise AddressError(
        f"{wanted.owner} cannot listen on {wanted.address.text}: unpd itself listens on"
        f" {conflict.text} for {conflict.wanted.owner}; {remedy}"
    )


def _conflicts(listener: OpenListener, wanted: WantedListener) -> bool:
    is_ipv6 = listener.sock.family == socket.AF_INET6
    only = is_ipv6 and sockets.is_ipv6_only(listener.sock)
    return overlaps(listener.address, wanted, ipv6_only=only)


def overlaps(old: BoundAddress, wanted: WantedListener, *, ipv6_only: bool) -> bool:
    """Whether the kernel refuses to bind ``wanted`` while a listener is open on ``old``
    with that option: one address includes the other, as a wildcard does (ip(7)), and
    [::] also IPv4 (ipv6(7)).
    """
    new = wanted.address
    if not isinstance(new, InternetAddress) or not isinstance(old, InternetAddress):
        return False
    if new.scheme != old.scheme:
        return False
    if new.port != old.port:  # also for port 0: then the kernel chooses a free one
        return False
    if new.is_ipv6 == old.is_ipv6:
        return interfaces.same_host(new.host, old.host) or new.is_wildcard or old.is_wildcard
    if new.is_ipv6:
        return new.is_wildcard and not wanted.options.ipv6_only
    return old.is_wildcard and not ipv6_only
