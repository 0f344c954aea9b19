"""The access attributes of an xinetd service, written for xinetd and for unpd.

Owns :class:`Rules`, the configuration texts of both daemons, and the translation of
xinetd's addresses and times. The functions are pure. The differential test and the
other modules of this package call them; ValueError for an attribute that xinetd itself
would not read.
"""

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""Where an IPv6 socket shows its IPv4 clients (RFC 4291 section 2.5.5.2)."""

DAY_MINUTES = 24 * 60
UNLIMITED = "UNLIMITED"
FORKED_EACH = 5
"""How many services of unpd there are for each one in the model fork."""


@dataclass(frozen=True, slots=True)
class Cps:
    """The attribute ``cps``: at most ``count`` connections a second, else a pause."""

    count: int
    pause_s: int


@dataclass(frozen=True, slots=True)
class Rules:
    """The access attributes of one service. None and an empty ``access_times``: the
    attribute is not written. An empty list of addresses is one that matches nobody.

    ``dual_stack``: the service listens on [::] for both families (``flags = IPv6``),
    else on 0.0.0.0 (``flags = IPv4``).
    """

    dual_stack: bool = False
    only_from: tuple[str, ...] | None = None
    no_access: tuple[str, ...] | None = None
    instances: int | None = None
    per_source: int | None = None
    cps: Cps | None = None
    access_times: tuple[str, ...] = ()


# for xinetd


def xinetd_text(services: Sequence[Rules], first_port: int) -> str:
    """Return a configuration of xinetd: an internal echo for each of ``services``, on
    successive ports from ``first_port``. The internal echo forks for each connection,
    and only services that fork are limited by ``instances`` (xinetd.conf(5)).
    """
    return "".join(
        _xinetd_service(first_port + index, rules) for index, rules in enumerate(services)
    )


def _xinetd_service(port: int, rules: Rules) -> str:
    values: dict[str, object] = {
        "id": f"echo-{port}",
        "type": "INTERNAL UNLISTED",
        "socket_type": "stream",
        "protocol": "tcp",
        "wait": "no",
        "user": "root",
        "port": port,
        "flags": f"NOLIBWRAP {'IPv6' if rules.dual_stack else 'IPv4'}",
        "instances": UNLIMITED if rules.instances is None else rules.instances,
        "per_source": UNLIMITED if rules.per_source is None else rules.per_source,
        # Without the attribute it is 50 connections a second; 0 is no limit.
        "cps": "0 0" if rules.cps is None else f"{rules.cps.count} {rules.cps.pause_s}",
    }
    if rules.only_from is not None:
        values["only_from"] = " ".join(rules.only_from)
    if rules.no_access is not None:
        values["no_access"] = " ".join(rules.no_access)
    if rules.access_times:
        values["access_times"] = " ".join(rules.access_times)
    lines = "".join(f"\t{name} = {value}\n" for name, value in values.items())
    return f"service echo\n{{\n{lines}}}\n"


# for unpd


def unpd_text(services: Sequence[Rules], first_port: int) -> str:
    """Return the tables of unpd that mean the same as :func:`xinetd_text`, with the
    services named echo-PORT. Some have a process for each client, as xinetd has.
    """
    tables = []
    for port, rules in enumerate(services, first_port):
        host = "[::]" if rules.dual_stack else "0.0.0.0"
        keys = {
            "type": "echo",
            "listen": [f"tcp://{host}:{port}"],
            "model": "fork" if port % FORKED_EACH == 0 else "event",
            **unpd_keys(rules),
        }
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        tables.append(f"[services.echo-{port}]\n{lines}")
    return "\n".join(tables)


def unpd_keys(rules: Rules) -> Mapping[str, Any]:
    """Return the keys of unpd that mean the same as the access attributes ``rules``.

    What is over a limit is refused, as xinetd does. A limit of 0, and an ``only_from``
    without a value, admit nobody: in unpd that is ``deny``.
    """
    keys: dict[str, Any] = {"on_limit": "refuse"}
    allow = _entries(rules.only_from or (), rules)
    deny = _entries(rules.no_access or (), rules)
    if (rules.only_from is not None and not allow) or 0 in (rules.instances, rules.per_source):
        deny = ["all"]
    if allow:
        keys["allow"] = allow
    if deny:
        keys["deny"] = deny
    if rules.instances:
        keys["max_connections"] = rules.instances
    if rules.per_source:
        keys["max_per_source"] = rules.per_source
        keys["source_prefix_v6"] = 128  # xinetd compares whole addresses
    if rules.cps is not None:
        keys["accept_rate"] = f"{rules.cps.count}/s"
    if rules.access_times:
        keys["access_times"] = [unpd_interval(interval) for interval in rules.access_times]
    return keys


def _entries(addresses: Iterable[str], rules: Rules) -> list[str]:
    found = [network for text in addresses for network in networks(text)]
    if rules.dual_stack:
        found += [v4 for network in found if (v4 := _mapped_part(network)) is not None]
    kept = [network for network in found if not _mapped_only(network)]
    return list(dict.fromkeys(map(str, kept)))


def _mapped_only(network: Network) -> bool:
    return isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED)


def _mapped_part(network: Network) -> ipaddress.IPv4Network | None:
    """Return the IPv4 clients of an IPv6 socket that are in ``network``."""
    if isinstance(network, ipaddress.IPv4Network) or not network.overlaps(MAPPED):
        return None
    if network.prefixlen <= MAPPED.prefixlen:
        return ipaddress.IPv4Network("0.0.0.0/0")
    last_bits = int(network.network_address) & 0xFFFFFFFF
    return ipaddress.IPv4Network((last_bits, network.prefixlen - MAPPED.prefixlen))


def networks(text: str) -> list[Network]:
    """Return the networks that an address means to xinetd (addr.c).

    - ``10.1.0.0``: octets of 0 at the end are wildcards, so it is 10.1.0.0/16.
    - ``10.1``: the C library completes it (inet_aton(3)), so it is 10.0.0.1/32.
    - ``10.1.{2,3}``: the braces multiply, the missing octets are wildcards.
    - ``10.1.2.3/16``, ``2001:db8::1/32``: bits beyond the mask do not matter.
    - ``2001:db8::``: an IPv6 address without a mask is that one address.
    """
    if "{" in text:
        return _factorized(text)
    if "/" in text:
        return [ipaddress.ip_network(text, strict=False)]
    if ":" in text:
        return [ipaddress.ip_network(text)]
    octets = _completed(text)
    bits = 32
    while bits and octets[bits // 8 - 1] == 0:
        bits -= 8
    return [ipaddress.IPv4Network((bytes(octets), bits))]


def _completed(text: str) -> list[int]:
    """Return the four octets of an IPv4 address with one to four numbers."""
    *first, last = [int(number) for number in text.split(".")]
    tail = last.to_bytes(4 - len(first), "big")
    return [*first, *tail]


def _factorized(text: str) -> list[Network]:
    found = re.fullmatch(r"((?:\d+\.){0,3})\{(\d+(?:,\d+)*)\}", text)
    if found is None:
        raise ValueError(f"{text}: the braces must follow at most three numbers and end it")
    first = [int(number) for number in found[1].split(".")[:-1]]
    bits = 8 * (len(first) + 1)
    return [
        ipaddress.IPv4Network((bytes([*first, int(last), 0, 0, 0][:4]), bits))
        for last in found[2].split(",")
    ]


def minutes(interval: str) -> tuple[int, int]:
    """Return the first and the last minute of the day of an interval such as
    ``8:00-18:00``, both inside (time.c).
    """
    found = re.fullmatch(r"(\d+):(\d+)-(\d+):(\d+)", interval)
    if found is None:
        raise ValueError(f"{interval}: must be two times of day such as 8:00-18:00")
    start_h, start_min, end_h, end_min = map(int, found.groups())
    return start_h * 60 + start_min, end_h * 60 + end_min


def unpd_interval(interval: str) -> str:
    """Return the interval for unpd, whose end is outside: xinetd's 8:00-18:00 is open
    until 18:00:59. One over midnight may end just before it begins: that is a day.
    """
    start, end = minutes(interval)
    return f"{_clock(start)}-{_clock(end + 1)}" if end + 1 != start else "00:00-24:00"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
