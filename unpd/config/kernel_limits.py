"""Compares a configuration with the limits of the kernel: the backlogs with
net.core.somaxconn, and the connections of a worker with its descriptors.

Called by unpd.config.checks, whose warnings a load gives, and by ``unpd doctor``, which
asks about the limits of a daemon that runs. Pure. Raises nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from unpd.config.findings import Findings
from unpd.config.host import Host
from unpd.config.schema import Config
from unpd.names import ChildKind
from unpd.services.redirect import RedirectOptions

OTHER_DESCRIPTORS = 16
"""How many descriptors a worker has besides connections and listeners: about that."""


@dataclass(frozen=True, slots=True)
class ShortOfDescriptors:
    """A pool whose workers cannot have their connections. ``each``: how many
    descriptors one takes. ``needed``: how many they all take.
    """

    pool: str
    each: int
    needed: int


def check_kernel_limits(config: Config, listeners: int, host: Host, findings: Findings) -> None:
    """Warn of limits of the kernel below those of the configuration. ``listeners``: how
    many it has.
    """
    if host.somaxconn is not None:
        _check_backlogs(config, host.somaxconn, findings)
    _check_descriptors(config, listeners, host, findings)


def cut_backlogs(config: Config, somaxconn: int) -> Iterator[tuple[str, int]]:
    """The services whose backlog the kernel cuts, with that."""
    for name, service in config.services.items():
        if service.backlog > somaxconn:
            yield name, service.backlog


def _check_backlogs(config: Config, somaxconn: int, findings: Findings) -> None:
    for name, backlog in cut_backlogs(config, somaxconn):
        text = (
            f"{backlog} is above net.core.somaxconn, so the kernel uses"
            f" {somaxconn}; raise that limit with sysctl(8) or lower the backlog"
        )
        findings.warning(("services", name, "backlog"), text)


def short_of_descriptors(
    config: Config, listeners: int, open_files: float
) -> Iterator[ShortOfDescriptors]:
    """The pools whose workers reach the limit ``open_files`` before that of their
    connections. A connection of a redirect has a second one, to its target.
    """
    of_workers = [one for one in config.services.values() if one.kind is ChildKind.WORKER]
    redirecting = {one.pool for one in of_workers if isinstance(one.options, RedirectOptions)}
    for name in {service.pool: None for service in of_workers}:
        pool = config.pools.get(name)
        each = 2 if name in redirecting else 1
        if pool is None:
            continue
        needed = each * pool.max_connections_per_worker + listeners + OTHER_DESCRIPTORS
        if needed > open_files:
            yield ShortOfDescriptors(name, each, needed)


def _check_descriptors(config: Config, listeners: int, host: Host, findings: Findings) -> None:
    """Warn of a limit of connections that no worker could reach."""
    for short in short_of_descriptors(config, listeners, host.open_files or math.inf):
        needed = "two descriptors" if short.each == 2 else "a descriptor"
        most = config.pools[short.pool].max_connections_per_worker
        findings.warning(
            ("pools", short.pool, "max_connections_per_worker"),
            f"a worker would need {needed} for each of {most} connections, but with the"
            f" limit of this process it may have {host.open_files}, its listeners included: raise"
            " the limit of open files (ulimit -n; under systemd only LimitNOFILE= of the unit"
            " counts) or lower the key",
        )
