"""Checks redirects: their model, their targets, and how many of these there are.

Called by unpd.config.checks. Calls the schema. Raises nothing: errors go to the
findings.

Known gap: a target that leads back here by a name, by another address of this host, or
through another service is not noticed; ``max_connections`` bounds such a loop.
"""

import ipaddress

from unpd.board import layout
from unpd.config.addresses import Address, TcpAddress, UnixAddress
from unpd.config.findings import Findings
from unpd.config.schema import Config, ServiceConfig
from unpd.errors import quoted
from unpd.services.redirect import RedirectOptions, Target, TcpTarget, UnixTarget


def check_redirects(config: Config, findings: Findings) -> None:
    """Refuse a redirect without targets, in another model than event, or to itself, and
    more targets than there is room for on the scoreboard.
    """
    total = 0
    for name, service in config.services.items():
        options = service.options
        if not isinstance(options, RedirectOptions):
            continue
        total += len(options.to)
        if not options.to:
            findings.error(
                ("services", name, "to"),
                'must list the targets, such as to = ["tcp://10.0.0.5:80"]',
            )
        if service.model != "event":
            findings.error(
                ("services", name, "model"),
                f'must be "event": {quoted(service.model)} is impossible for a redirect, which'
                " only workers serve",
            )
        for index, target in enumerate(options.targets):
            if own := _own_listener(service, target):
                findings.error(
                    ("services", name, "to", index),
                    f"{quoted(target.text)} leads back to {own.text} of this service itself",
                )
    if total > layout.MAX_TARGETS:
        findings.error(
            ("services",),
            f"all redirects together have {total} targets, but at most {layout.MAX_TARGETS} are"
            " allowed",
        )


def _own_listener(service: ServiceConfig, target: Target) -> Address | None:
    """The listener of a service that would take the connection to ``target``."""
    return next((own for own in service.listen if _leads_to(target, own, service)), None)


def _leads_to(target: Target, own: Address, service: ServiceConfig) -> bool:
    if isinstance(target, UnixTarget):
        return isinstance(own, UnixAddress) and own.path == target.path
    if not isinstance(own, TcpAddress) or own.port != target.port:
        return False
    if target.is_name:
        return target.host.removesuffix(".") == "localhost" and (
            own.is_wildcard or _is_loopback(own.host)
        )
    return target.host == own.host or (own.is_wildcard and _includes(target, own, service))


def _includes(target: TcpTarget, wildcard: TcpAddress, service: ServiceConfig) -> bool:
    """Whether a wildcard listener includes a loopback target. IPv6 includes IPv4 unless
    ``ipv6_only`` is set.
    """
    is_ipv6 = ":" in target.host
    served = wildcard.is_ipv6 if is_ipv6 else not (wildcard.is_ipv6 and service.ipv6_only)
    return served and _is_loopback(target.host)


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
