"""Finds the listener of unpd's own that holds the address which a reload wants.

The kernel says only that the address is in use. A reload opens what it adds before it
closes what it removes, because a refused configuration must change nothing. So one
address of a port cannot take the place of another that overlaps it.

Called by :mod:`unpd.master.listening.table`; calls :mod:`unpd.kernel`. Raises
AddressError.
"""

from collections.abc import Iterable

from unpd.config.addresses import InternetAddress
from unpd.errors import AddressError
from unpd.kernel import interfaces, sockets
from unpd.master.listening.listener import OpenListener, WantedListener


def refuse_conflict(
    wanted: WantedListener, opened: Iterable[OpenListener], kept: Iterable[str]
) -> None:
    """AddressError if one of ``opened`` holds the address of ``wanted``. ``kept`` are
    the keys of those that stay open.
    """
    conflict = next((listener for listener in opened if _overlaps(listener, wanted)), None)
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


def _overlaps(listener: OpenListener, wanted: WantedListener) -> bool:
    """Whether the kernel refuses to bind ``wanted`` while ``listener`` is open: one
    address includes the other, as a wildcard does (ip(7)), and [::] also IPv4
    (ipv6(7)).
    """
    new, old = wanted.address, listener.address
    if not isinstance(new, InternetAddress) or not isinstance(old, InternetAddress):
        return False
    if new.scheme != old.scheme:
        return False
    if new.port != old.port:  # also for port 0: then the kernel chooses a free one
        return False
    if new.is_ipv6 == old.is_ipv6:
        return _same_host(new.host, old.host) or new.is_wildcard or old.is_wildcard
    if new.is_ipv6:
        return new.is_wildcard and not wanted.options.ipv6_only
    return old.is_wildcard and not sockets.is_ipv6_only(listener.sock)


def _same_host(one: str, other: str) -> bool:
    """Whether two hosts of a family are the same. An interface has a name and a
    number.
    """
    host, _, scope = one.partition("%")
    other_host, _, other_scope = other.partition("%")
    if host != other_host or not scope:
        return host == other_host
    return interfaces.interface_index(scope) == interfaces.interface_index(other_scope)
